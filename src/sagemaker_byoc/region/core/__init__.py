"""What every service of the region stands on: records, credentials, tags, state."""
