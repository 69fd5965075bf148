"""Saves its model on SIGTERM and exits with a code of its own."""

import os
import pathlib
import signal
import sys


def save(number, frame):
    pathlib.Path(os.environ["SM_MODEL_DIR"], "model.txt").write_text("weights")
    sys.exit(7)


signal.signal(signal.SIGTERM, save)
print("ready")
while True:
    signal.pause()
