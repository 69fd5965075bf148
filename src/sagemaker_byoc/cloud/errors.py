"""The errors of this room.

CloudError                with `exit_code`, what to tell the user and the cure
├── RequestError          what was asked for can't be done as asked             exit code 2
├── MachineError      no boto3, no credentials, no way to AWS               exit code 3
└── AwsError            AWS answered, and its answer is no; `code` is AWS's   exit code 1
"""

from __future__ import annotations


class CloudError(Exception):
    """`what` is wrong and `cure`; shown to the user as they are, without a traceback."""

    exit_code = 1

    def __init__(self, what: str, *, cure: str) -> None:
        self.what = what
        self.cure = cure
        super().__init__(f"{what}. {cure}")


class RequestError(CloudError):
    """A region that is missing, an account that is none."""

    exit_code = 2


class MachineError(CloudError):
    """Credentials, a client, a connection."""

    exit_code = 3


class AwsError(CloudError):
    """`code` is that of the service's error, as in its service model."""

    def __init__(self, code: str, what: str, *, cure: str) -> None:
        self.code = code
        super().__init__(what, cure=cure)
