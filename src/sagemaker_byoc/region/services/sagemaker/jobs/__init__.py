"""What jobs of all kinds share: containers and their log, inputs and outputs in S3, pipes."""
