"""Manifests for Kubernetes: the same two images, with what SageMaker would give them."""
