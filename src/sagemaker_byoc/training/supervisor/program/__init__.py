"""The user's program: its file, its arguments, its requirements."""
