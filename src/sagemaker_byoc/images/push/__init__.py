"""An image into a registry, as SageMaker wants it: converted, sent, verified."""
