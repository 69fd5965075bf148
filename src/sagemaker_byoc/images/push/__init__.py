"""An image into a registry, as SageMaker takes it: copied by skopeo or docker, then verified."""
