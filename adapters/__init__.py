"""The same network in other frameworks, one module each, found by its name. None is imported before it is asked for."""
