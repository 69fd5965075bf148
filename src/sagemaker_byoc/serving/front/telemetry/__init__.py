"""What is logged, counted and captured of requests."""
