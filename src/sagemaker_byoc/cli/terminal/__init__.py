"""The terminal: words and colors, arguments, progress, signals, completion."""
