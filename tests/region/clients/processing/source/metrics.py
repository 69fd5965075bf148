"""A module that the script imports from its folder."""


def accuracy(rows):
    return 1.0 if rows else 0.0
