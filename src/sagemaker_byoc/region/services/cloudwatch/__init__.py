"""CloudWatch: the metrics of jobs, endpoints and clients, and alarms on them."""
