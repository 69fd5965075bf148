"""The errors of calls to AWS."""

from __future__ import annotations

from sagemaker_byoc.contract.errors import ByocError


class AwsError(ByocError):
    """AWS refused a call; `code` is that of the service's error, as in its service model."""

    def __init__(self, code: str, what: str, *, hint: str) -> None:
        self.code = code
        super().__init__(what, hint=hint)
