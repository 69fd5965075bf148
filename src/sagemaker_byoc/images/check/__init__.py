"""Check an image against SageMaker's contract."""
