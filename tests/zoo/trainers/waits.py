"""Waits for a signal that it doesn't handle."""

import signal

print("ready")
while True:
    signal.pause()
