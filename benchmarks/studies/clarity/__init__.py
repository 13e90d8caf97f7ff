"""Which recipe makes pictures that one can read? See ``__main__``."""
