"""`python -m sagemaker_byoc.serving serve`: the image's entry point."""

import sys

from sagemaker_byoc.serving.serve import main

if __name__ == "__main__":
    sys.exit(main())
