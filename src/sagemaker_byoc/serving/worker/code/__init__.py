"""The user's code: loading and calling it."""
