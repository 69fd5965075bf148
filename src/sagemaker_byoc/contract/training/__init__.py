"""What SageMaker promises a training container."""
