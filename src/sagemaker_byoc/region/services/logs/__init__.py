"""Amazon CloudWatch Logs: groups and streams as files."""
