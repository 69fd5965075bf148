"""Bodies of requests and replies as Python values."""
