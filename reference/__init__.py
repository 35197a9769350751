"""Backpropagation from scratch: the chain rule that one can read, in NumPy alone."""
