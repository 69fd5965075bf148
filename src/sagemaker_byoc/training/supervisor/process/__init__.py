"""Processes of the supervisor: start, output, signals, end."""
