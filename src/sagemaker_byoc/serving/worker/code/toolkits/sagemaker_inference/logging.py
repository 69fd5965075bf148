"""The toolkit's logger."""

from __future__ import annotations

import logging
import os

from . import parameters


def configure_logger() -> None:
    logging.basicConfig(level=os.environ.get(parameters.LOG_LEVEL_ENV, "INFO"))


def get_logger() -> logging.Logger:
    return logging.getLogger("sagemaker-inference")
