"""Says why on stderr and exits with a code of its own."""

import sys

print("the vocabulary has 0 words", file=sys.stderr)
sys.exit(3)
