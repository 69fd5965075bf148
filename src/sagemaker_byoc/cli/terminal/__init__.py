"""The terminal: words and colors, arguments, failures, progress, signals."""
