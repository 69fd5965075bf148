"""Which worker gets which request."""
