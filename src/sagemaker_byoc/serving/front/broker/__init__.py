"""The broker: which worker gets which request."""
