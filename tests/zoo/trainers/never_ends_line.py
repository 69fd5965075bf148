"""Writes a line without its end."""

import sys

sys.stdout.write("loss=0.5;")
