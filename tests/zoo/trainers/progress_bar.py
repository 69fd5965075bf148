"""Redraws a progress bar ten thousand times, then says what it reached."""

import sys

for step in range(10_000):
    sys.stderr.write(f"\r{step / 100:.0f}%|####")
sys.stderr.write("\r100%|####\n")
