"""SageMaker Runtime: invocations of endpoints."""
