"""`python -m sagemaker_byoc.monitor`: the entry point of a monitoring container."""

from __future__ import annotations

import sys

from sagemaker_byoc.monitor.analyzer import main

if __name__ == "__main__":
    sys.exit(main())
