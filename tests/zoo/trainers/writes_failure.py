"""Writes the failure file itself, as many programs made for SageMaker do."""

import os
import pathlib
import sys

pathlib.Path(os.environ["SM_OUTPUT_DIR"], "failure").write_text("my own reason")
sys.exit(1)
