"""What the site needs beside Sphinx: formulas, drawings, and pages that are made while it is built."""
