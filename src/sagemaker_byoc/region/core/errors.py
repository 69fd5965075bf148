"""The errors of the local side.

LocalError              with `exit_code`, what to tell the user and the cure
├── RequestError        what was asked for can't be done as asked                  exit code 2
├── JobError            the training program failed                                exit code 1
├── MachineError        this machine lacks something: an engine, a port, room      exit code 3
└── TimeLimitError      it took longer than it was given                           exit code 124
"""

from __future__ import annotations


class LocalError(Exception):
    """`what` is wrong and `cure`; shown to the user as they are, without a traceback."""

    exit_code = 1

    def __init__(self, what: str, *, cure: str) -> None:
        self.what = what
        self.cure = cure
        super().__init__(f"{what}. {cure}")


class RequestError(LocalError):
    """A folder that does not exist, an option that contradicts another."""

    exit_code = 2


class JobError(LocalError):
    """A training program that ended with another exit code than 0."""


class MachineError(LocalError):
    """No Docker engine, a port that is taken, a disk that is full."""

    exit_code = 3


class TimeLimitError(LocalError):
    """A region that does not start or end in time."""

    exit_code = 124
