"""Training data: channels, records, shards."""
