"""Amazon SageMaker: one folder per kind of resource, and `jobs` for what all jobs share."""
