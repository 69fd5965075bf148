"""Log groups and streams, as CloudWatch Logs has them."""
