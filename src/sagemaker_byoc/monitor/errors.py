"""The errors of a monitoring run.

DataError     data that cannot be monitored as it is
EmptyError    no data: neither a violation nor a pass    exit code 4
"""

from __future__ import annotations

from sagemaker_byoc.contract.errors import ByocError


class DataError(ByocError):
    """Data that cannot be monitored as it is."""


class EmptyError(ByocError):
    """A quiet hour: no file, no line, nothing in the window, no label yet."""

    exit_code = 4
