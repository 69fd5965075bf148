"""The errors of this room.

ImageError              with `exit_code`, what to tell the user and the cure
├── RequestError        what was asked for can't be done as asked                  exit code 2
├── MachineError        this machine lacks something: an engine, a program         exit code 3
├── TimeLimitError      it took longer than it was given                           exit code 124
├── RegistryError       a registry refused or gave no sense                        exit code 1
│   └── TrustError      it can't prove who it is                                   exit code 1
└── HostileError        an archive that must not be read any further               exit code 1
"""

from __future__ import annotations


class ImageError(Exception):
    """`what` is wrong and `cure`; shown to the user as they are, without a traceback."""

    exit_code = 1

    def __init__(self, what: str, *, cure: str) -> None:
        self.what = what
        self.cure = cure
        super().__init__(f"{what}. {cure}")


class RequestError(ImageError):
    """An image that is not there, an option that contradicts another."""

    exit_code = 2


class MachineError(ImageError):
    """No docker client, no engine, a disk that is full."""

    exit_code = 3


class TimeLimitError(ImageError):
    """What was begun has been ended; nothing of it runs on."""

    exit_code = 124


class RegistryError(ImageError):
    """`status` is the HTTP status of the answer, 0 where there was none."""

    def __init__(self, what: str, *, cure: str, status: int = 0) -> None:
        self.status = status
        super().__init__(what, cure=cure)


class TrustError(RegistryError):
    """Not to be tried again, and never to be got round."""


class HostileError(ImageError):
    """Larger, longer or deeper than any image has to be, or not what it says it is."""
