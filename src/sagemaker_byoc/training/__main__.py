"""`python -m sagemaker_byoc.training [train]`: the training image's entry point."""

from __future__ import annotations

import sys

from sagemaker_byoc.training.entry import main

if __name__ == "__main__":
    sys.exit(main())
