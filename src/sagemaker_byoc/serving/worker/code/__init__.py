"""The user's code: loading it and calling it."""
