"""What SageMaker promises a container, as typed data.

Every other room may import this one; it imports nothing but the standard library.
Nothing here touches the disk or the environment at import.
"""
