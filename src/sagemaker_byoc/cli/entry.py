"""The name of the program in installations from before it moved to `__main__`."""

from sagemaker_byoc.cli.__main__ import main  # noqa: F401
