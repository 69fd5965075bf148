"""The front as a process: `python -m sagemaker_byoc.serving.front SETTINGS HTTP_FD LINK_FD`."""

from __future__ import annotations

import sys

from sagemaker_byoc.serving import processes
from sagemaker_byoc.serving.front.gunicorn_app import FrontApplication
from sagemaker_byoc.serving.settings import Settings


def main(arguments: list[str]) -> None:
    settings, http_fd, link_fd = arguments
    processes.end_with_parent()
    application = FrontApplication(
        Settings.from_json(settings), http_fd=int(http_fd), link_fd=int(link_fd)
    )
    application.run()


if __name__ == "__main__":
    main(sys.argv[1:])
