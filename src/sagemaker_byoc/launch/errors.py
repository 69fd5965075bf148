"""The errors of a launch.

LaunchError             a call of the plan failed
├── UnfinishedError     a call failed after others had been made
├── FailedError         the job or the endpoint itself failed
└── RefusedError        a service refused a call; `code` is the service's
SettingsError           the settings cannot be used as they are               exit code 2
"""

from __future__ import annotations

from sagemaker_byoc.contract.errors import ByocError, RequestError


class SettingsError(RequestError):
    """An unknown key, a value of another type, a folder that does not exist."""


class LaunchError(ByocError):
    """A call of the plan failed."""


class UnfinishedError(LaunchError):
    """What was created stays; the message names it and how to delete it."""


class FailedError(LaunchError):
    """A job that is Failed, an endpoint that is not InService."""


class RefusedError(LaunchError):
    """The answer of a service; a plan tells `does not exist` from the rest by `code`."""

    def __init__(self, code: str, what: str, *, hint: str) -> None:
        self.code = code
        super().__init__(what, hint=hint)
