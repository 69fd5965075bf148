"""`python -m sagemaker_byoc.serving.worker SETTINGS PLACE LINK CHANNEL_FD`."""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import socket
import sys

from sagemaker_byoc.serving.settings import Settings
from sagemaker_byoc.serving.supervisor import processes
from sagemaker_byoc.serving.supervisor.slots import Channel
from sagemaker_byoc.serving.worker.code import guard
from sagemaker_byoc.serving.worker.loop import Worker


def main(arguments: list[str]) -> int:
    settings, place, link_name, descriptor = arguments
    processes.end_with_parent()
    faulthandler.enable()  # SIGABRT for a stuck request prints where it hangs
    signal.signal(signal.SIGTERM, guard.stop)
    os.set_inheritable(int(descriptor), False)  # noqa: FBT003 - positional only
    channel = Channel(socket.socket(fileno=int(descriptor)))
    sys.dont_write_bytecode = True  # /opt/ml/model must not be written to
    sys.argv = ["serve"]  # the user's code may parse it
    worker = Worker(Settings.from_json(settings), **json.loads(place), link_name=link_name)
    return worker.run(channel)


if __name__ == "__main__":
    guard.run(main, sys.argv[1:])
