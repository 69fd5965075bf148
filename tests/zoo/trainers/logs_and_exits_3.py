"""Logs a traceback that it recovers from, works on, and exits with 3 for another reason."""

import sys
import traceback

try:
    {}["warm-up"]
except KeyError:
    traceback.print_exc()
for step in range(5):
    print(f"step {step} went well", file=sys.stderr)
print("no GPU was found", file=sys.stderr)
sys.exit(3)
