"""Batch transform jobs: the objects of a prefix through a model, and its answers as objects."""
