"""One answered request on its way to a file. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sagemaker_byoc.contract.hosting import http
from sagemaker_byoc.serving.bodies import Body

OVERHEAD = 512
"""Bytes of a record beside its bodies, for the bound of what waits."""
_INFERENCE_ID = http.INFERENCE_ID.value.lower()
_ATTRIBUTES = http.CUSTOM_ATTRIBUTES.value.lower()


@dataclass(slots=True)
class Traffic:
    """`headers` are the platform's, with names in lower case; `time` is that of the answer, in
    seconds since 1970."""

    request: Body
    request_type: str
    response: Body
    response_type: str
    headers: Mapping[str, str]
    time: float = 0.0

    @property
    def size(self) -> int:
        """Bytes that it takes while it waits."""
        return self.request.size + self.response.size + OVERHEAD

    @property
    def inference_id(self) -> str:
        return self.headers.get(_INFERENCE_ID, "")

    @property
    def custom_attributes(self) -> str:
        return self.headers.get(_ATTRIBUTES, "")


def named(inference_id: str) -> dict[str, str]:
    """Headers with nothing but an inference id."""
    return {_INFERENCE_ID: inference_id} if inference_id else {}
