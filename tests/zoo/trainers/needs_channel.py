"""Reads a channel that the job may not have."""

import os
import pathlib

print(list(pathlib.Path(os.environ["SM_CHANNEL_TRAIN"]).iterdir()))
