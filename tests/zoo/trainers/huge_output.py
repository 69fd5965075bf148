"""Writes a hundred thousand lines as fast as it can, and one of 200 KB."""

import sys

sys.stdout.write("".join(f"line {number} of many\n" for number in range(100_000)))
sys.stdout.write("x" * 200_000 + "\n")
sys.stdout.write("end\n")
