"""Raises from another exception."""

try:
    int("abc")
except ValueError as error:
    raise RuntimeError("could not read the vocabulary") from error
