"""`/_byoc/…`: requests of the `byoc` command for which AWS has no operation.

Only the region's owner may ask; the keys of a container are for AWS's services.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from sagemaker_byoc.region.core.account import CALLER
from sagemaker_byoc.region.wire.http import Request, Response, json_response
from sagemaker_byoc.region.wire.operations import AwsError
from sagemaker_byoc.region.wire.routing import OWN_PREFIX

HEADER = "x-byoc"
"""A required header: a web page can't send it here, because browsers ask the server first."""


class Interruptible(Protocol):
    def interrupt(self, name: str) -> None:
        """Interrupt a managed spot job; raise AwsError for any other job."""


class Control:
    """The Handler of these requests. `status` returns the answer of GET /_byoc/status."""

    def __init__(
        self,
        status: Callable[[], dict[str, object]],
        jobs: Interruptible,
        end: Callable[[], None],
    ) -> None:
        self._status = status
        self._jobs = jobs
        self._end = end

    async def __call__(self, request: Request) -> Response:
        if HEADER not in request.headers:
            raise AwsError("AccessDenied", f"The header {HEADER} is missing", status=403)
        caller = CALLER.get()
        if caller is not None and not caller.is_owner:
            raise AwsError("AccessDenied", f"{caller.arn} may not control the region", status=403)
        command, _, name = request.path.removeprefix(OWN_PREFIX).partition("/")
        match request.method, command:
            case "GET", "status":
                return json_response(self._status())
            case "POST", "down":
                self._end()
                return json_response({})
            case "POST", "interrupt" if name:
                self._jobs.interrupt(name)
                return json_response({})
        raise AwsError("NotFound", f"{request.method} {request.path} does not exist", status=404)
