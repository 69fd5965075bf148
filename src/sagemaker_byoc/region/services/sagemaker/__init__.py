"""Amazon SageMaker: one folder per kind of resource."""
