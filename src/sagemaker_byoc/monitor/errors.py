"""The errors of this room.

MonitorError            with `exit_code`, what to tell the user and the cure
├── RequestError        an option that contradicts another, a place that can't be read   exit code 2
├── DataError           data that can't be monitored as it is                            exit code 1
└── EmptyError          no data: neither a violation nor a pass                          exit code 4
"""

from __future__ import annotations


class MonitorError(Exception):
    """`what` is wrong and `cure`; shown to the user as they are, without a traceback."""

    exit_code = 1

    def __init__(self, what: str, *, cure: str) -> None:
        self.what = what
        self.cure = cure
        super().__init__(f"{what}. {cure}")


class RequestError(MonitorError):
    exit_code = 2


class DataError(MonitorError):
    pass


class EmptyError(MonitorError):
    """A quiet hour: no file, no line, nothing in the window, no label yet."""

    exit_code = 4
