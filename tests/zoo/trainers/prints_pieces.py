"""Prints metrics piece by piece on both streams, unbuffered, as print does with many arguments."""

import sys

for step in range(2000):
    print("step:", step, f"loss={1 / (step + 1):.9g};", f"accuracy={step / 2000:.9g};")
    if step % 10 == 0:
        print("warning", step, "of", "many", "words", file=sys.stderr)
