"""Bring your own container to SageMaker, and SageMaker to your own machine."""

__version__ = "0.1.0"
