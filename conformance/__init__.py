"""The suite: what is drawn, checked, counted and told, and its doors: command line, pytest and Python."""
