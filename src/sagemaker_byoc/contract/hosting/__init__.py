"""What SageMaker promises a serving container."""
