"""Jobs that run to their end: training."""
