"""Fills stderr, then raises: the cause is at its end."""

import sys

for number in range(20_000):
    sys.stderr.write(f"warning {number}: something is deprecated\n")
raise RuntimeError("the cause")
