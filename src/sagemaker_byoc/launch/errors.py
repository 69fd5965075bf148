"""The errors of this room.

LaunchError             with `exit_code`, what to tell the user and the cure
├── SettingsError       the settings can't be meant as they are                   exit code 2
├── UnfinishedError     a call failed after others had been made                  exit code 1
├── FailedError         the job or the endpoint itself failed                     exit code 1
├── TimeLimitError      it did not end within --timeout                           exit code 124
└── RefusedError        a service's answer is no; `code` is the service's         exit code 1
"""

from __future__ import annotations


class LaunchError(Exception):
    """`what` is wrong and `cure`; shown to the user as they are, without a traceback."""

    exit_code = 1

    def __init__(self, what: str, *, cure: str) -> None:
        self.what = what
        self.cure = cure
        super().__init__(f"{what}. {cure}")


class SettingsError(LaunchError):
    """A key that is none, a value of another type, a folder that is not there."""

    exit_code = 2


class UnfinishedError(LaunchError):
    """What was made stays, and is named together with how to undo it."""


class FailedError(LaunchError):
    """A job that Failed, an endpoint that is not InService."""


class TimeLimitError(LaunchError):
    """What was waited for goes on."""

    exit_code = 124


class RefusedError(LaunchError):
    """Whoever makes the calls raises it, so that a plan can tell `there is none` from the rest."""

    def __init__(self, code: str, what: str, *, cure: str) -> None:
        self.code = code
        super().__init__(what, cure=cure)
