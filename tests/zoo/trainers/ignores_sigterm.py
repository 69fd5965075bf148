"""Does not end on SIGTERM."""

import signal

signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready")
while True:
    signal.pause()
