"""Ends well and leaves two processes: one in its group, one in a session of its own.

Both ignore SIGTERM and hold the output pipes open.
"""

import os
import signal


def linger(*, is_detached):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if is_detached:
        os.setsid()
    os.write(1, f"left {os.getpid()}\n".encode())
    os.write(writer, b".")
    while True:
        signal.pause()


reader, writer = os.pipe()
for is_detached in (False, True):
    if os.fork() == 0:
        linger(is_detached=is_detached)
for _ in range(2):
    os.read(reader, 1)
print("done")
