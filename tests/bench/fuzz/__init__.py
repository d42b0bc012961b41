"""Damaged files thrown at every loader; see :mod:`.__main__`."""
