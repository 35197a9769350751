"""Examples to read, and what `gradconform init` writes."""
