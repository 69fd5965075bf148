"""Names that SageMaker would take."""

from __future__ import annotations

import re

from sagemaker_byoc.contract import limits
from sagemaker_byoc.contract.errors import RequestError


def check_name(kind: str, name: str) -> None:
    """Raise RequestError unless `name` may be that of a `kind`: a job, an endpoint."""
    if not re.fullmatch(limits.JOB_NAME.value, name):
        raise RequestError(
            f"{name!r} is not a legal {kind} name",
            hint=f"Use up to {limits.JOB_NAME_LENGTH.value} letters, digits and hyphens",
        )
