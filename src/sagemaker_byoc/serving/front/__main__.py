"""The front as a process: `python -m sagemaker_byoc.serving.front SETTINGS DESCRIPTORS`.

The descriptors are the HTTP socket, the link's socket and the supervisor's channel.
"""

from __future__ import annotations

import sys

from sagemaker_byoc.serving.front.gunicorn.application import FrontApplication
from sagemaker_byoc.serving.settings import Settings
from sagemaker_byoc.serving.supervisor import processes


def main(arguments: list[str]) -> None:
    settings, *descriptors = arguments
    http_fd, link_fd, channel_fd = map(int, descriptors)
    processes.end_with_parent()
    application = FrontApplication(
        Settings.from_json(settings), http_fd=http_fd, link_fd=link_fd, channel_fd=channel_fd
    )
    application.run()


if __name__ == "__main__":
    main(sys.argv[1:])
