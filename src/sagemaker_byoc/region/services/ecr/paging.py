"""Long lists in pages, as ecr's operations give them."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from sagemaker_byoc.region.wire.errors import AwsError
from sagemaker_byoc.region.wire.operations import Parameters

_DEFAULT = 100


def page(found: list[dict[str, Any]], parameters: Parameters, name: str) -> Parameters:
    """`found` is in an order that stays. Raises AwsError InvalidParameterException."""
    start = 0
    if token := parameters.get("nextToken"):
        try:
            start = int(base64.urlsafe_b64decode(token))
        except (binascii.Error, ValueError):
            raise AwsError(
                "InvalidParameterException",
                "Invalid parameter at 'nextToken' failed to satisfy constraint: 'Invalid token'",
            ) from None
    end = start + parameters.get("maxResults", _DEFAULT)
    result: Parameters = {name: found[start:end]}
    if end < len(found):
        result["nextToken"] = base64.urlsafe_b64encode(str(end).encode()).decode()
    return result
