"""Which service a request is for: every AWS protocol on one port.

The credential scope of the signature names the service; without one, the path does.
"""

from __future__ import annotations

import dataclasses
import errno
import logging
import re
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias
from urllib.parse import quote

from sagemaker_byoc.contract.http import API_PAYLOAD
from sagemaker_byoc.region.wire import admission, cbor, json11, models, query
from sagemaker_byoc.region.wire.admission import Admission, DeniedError
from sagemaker_byoc.region.wire.http import ClientLeftError, Handler, Request, Response
from sagemaker_byoc.region.wire.operations import (
    AwsError,
    EntityTooLargeError,
    invocation_too_large,
)
from sagemaker_byoc.region.wire.xml import render_s3_error

LOG = logging.getLogger(__name__)

OWN_PREFIX = "/_byoc/"
"""No bucket's name begins with an underscore."""

RenderError: TypeAlias = Callable[[Request, AwsError], Response]

_SCOPE = re.compile(r"[^/=\s]+/\d{8}/[^/\s]+/(?P<service>[^/\s]+)/aws4_request")
_BUCKET_HOST = re.compile(r"(?P<bucket>[a-z0-9][a-z0-9.-]+?)\.(s3\.localhost|localhost)(:\d+)?")
_FORM = "application/x-www-form-urlencoded"
_S3_SCOPES = frozenset({"s3", "s3express", "s3-object-lambda"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How a service's errors are written; `internal` is the code of a failure here."""

    render: RenderError
    codes: admission.Codes
    internal: str = "InternalFailure"
    body_limit: int = json11.BODY_LIMIT
    """Bytes; the bodies of S3 and of the registry are streamed and have other limits."""


JSON = Protocol(render=json11.render_error, codes=admission.JSON_CODES)
QUERY = Protocol(
    render=query.render_error, codes=admission.QUERY_CODES, body_limit=query.BODY_LIMIT
)
REST_JSON = Protocol(
    render=json11.render_rest_error, codes=admission.REST_CODES, body_limit=API_PAYLOAD.value
)
CBOR = Protocol(render=cbor.render_error, codes=admission.JSON_CODES)
S3 = Protocol(render=render_s3_error, codes=admission.S3_CODES, internal="InternalError")
REGISTRY = Protocol(
    render=json11.render_registry_error, codes=admission.REST_CODES, internal="UNKNOWN"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The handlers of a region. A service that is None or missing is refused by name."""

    targets: Mapping[str, Handler] = field(default_factory=dict)
    """JSON services by the prefix of X-Amz-Target."""
    queries: Mapping[str, Handler] = field(default_factory=dict)
    """Query services by signing name."""
    cbors: Mapping[str, Handler] = field(default_factory=dict)
    """CBOR services by signing name."""
    s3: Handler | None = None
    runtime: Handler | None = None
    """`/endpoints/…`"""
    registry: Handler | None = None
    """`/v2/…`"""
    own: Handler | None = None
    """`/_byoc/…`"""


class Router:
    """The Handler of the port: admit a request, find its service, write errors in its protocol."""

    def __init__(self, services: Services, admission: Admission | None = None) -> None:
        self._services = services
        self._admission = admission or Admission()

    async def __call__(self, request: Request) -> Response:
        handler, protocol, routed = self._route(request)
        try:
            self._admission.check_origin(request)
            await self._check_signature(request, routed, protocol)
            return await handler(routed)
        except DeniedError as error:
            code, status = protocol.codes[error.denial]
            return protocol.render(routed, AwsError(code, error.message, status=status))
        except AwsError as error:
            return protocol.render(routed, error)
        except ClientLeftError:
            raise
        except RecursionError:
            text = "The request is nested too deeply"
            return protocol.render(routed, AwsError("SerializationException", text))
        except Exception as error:
            if is_disk_full(error):
                LOG.warning("%s %s: the disk is full", request.method, request.path)
                text = "The disk of the region's folder is full: free some space, then ask again"
            else:
                LOG.exception("request %s: %s %s", request.id, request.method, request.path)
                text = f"The region failed on request {request.id}; its log has the cause"
            return protocol.render(routed, AwsError(protocol.internal, text, status=500))

    async def _check_signature(self, request: Request, routed: Request, protocol: Protocol) -> None:
        if protocol is REGISTRY:
            return  # it asks for its own kind of token, as ECR does
        if protocol is S3:
            self._admission.check_s3_signature(request, routed)
            return
        try:
            await self._admission.check_signature(request, routed, limit=protocol.body_limit)
        except EntityTooLargeError as error:
            raise (invocation_too_large() if protocol is REST_JSON else error) from error

    def _route(self, request: Request) -> tuple[Handler, Protocol, Request]:
        target = request.headers.get("x-amz-target")
        scope = signing_name(request)
        if target is not None:
            prefix = target.rpartition(".")[0]
            if request.method != "POST":
                return _only_post, JSON, request
            known = self._services.targets.get(prefix)
            return known or self._refused(models.name_of_target(prefix)), JSON, request
        if scope in _S3_SCOPES:
            return self._services.s3 or self._refused("s3"), S3, _path_style(request)
        named = self._by_path(request.target)
        if named is not None:
            return (*named, request)
        if scope is None and not _is_call(request):
            return self._services.s3 or self._refused("s3"), S3, _path_style(request)
        return (*self._by_scope(request, scope or "sts"), request)

    def _by_path(self, target: str) -> tuple[Handler, Protocol] | None:
        if target.startswith(OWN_PREFIX):
            return self._services.own or self._refused("byoc"), REST_JSON
        if target.startswith("/endpoints/"):
            return self._services.runtime or self._refused("sagemaker-runtime"), REST_JSON
        if target.startswith("/v2/") or target == "/v2":
            return self._services.registry or self._refused("registry"), REGISTRY
        return None

    def _by_scope(self, request: Request, scope: str) -> tuple[Handler, Protocol]:
        if "smithy-protocol" in request.headers:
            if scope in self._services.cbors:
                return self._services.cbors[scope], CBOR
            operation = request.path.rpartition("/")[2]
            return self._refused(models.name_of_scope(scope), operation), CBOR
        if scope in self._services.queries:
            return self._services.queries[scope], QUERY
        if _is_call(request):
            return self._refused(models.name_of_scope(scope)), QUERY
        return self._refused(*models.rest_operation(scope, request.method, request.path)), REST_JSON

    def _refused(self, service: str, operation: str = "") -> Handler:
        async def refuse(request: Request) -> Response:
            target = request.headers.get("x-amz-target", "").rpartition(".")[2]
            raise AwsError(
                "UnknownOperationException",
                f"{service} {target or operation}".rstrip()
                + " is not part of this local region, which has: "
                + ", ".join(self.names()),
            )

        return refuse

    def names(self) -> list[str]:
        """Return the services that answer, by the names in their requests."""
        found = {"s3": self._services.s3, "sagemaker-runtime": self._services.runtime}
        alone = [name for name, handler in found.items() if handler is not None]
        named = [
            handler.service.name if isinstance(handler, json11.JsonService) else prefix
            for prefix, handler in self._services.targets.items()
        ]
        return sorted([*alone, *named, *self._services.queries])


async def _only_post(request: Request) -> Response:
    raise AwsError(
        "MethodNotAllowed", f"X-Amz-Target is for POST, not for {request.method}", status=405
    )


def signing_name(request: Request) -> str | None:
    """Return the service in the credential scope of a signature or of a presigned URL."""
    text = request.headers.get("authorization", "")
    if "X-Amz-Credential" in request.query_string:
        text = request.query.get("X-Amz-Credential", "")
    found = _SCOPE.search(text)
    return None if found is None else found["service"]


def _is_call(request: Request) -> bool:
    """Return whether it is a form to the root: the query protocol; S3's forms go to a bucket."""
    is_form = request.headers.get("content-type", "").startswith(_FORM)
    return is_form and request.target in {"", "/"}


def _path_style(request: Request) -> Request:
    """Return `http://BUCKET.s3.localhost/KEY` as `/BUCKET/KEY`."""
    found = _BUCKET_HOST.fullmatch(request.headers.get("host", ""))
    if found is None or found["bucket"] == "s3":
        return request
    return dataclasses.replace(request, target=f"/{quote(found['bucket'])}{request.target}")


def is_disk_full(error: Exception) -> bool:
    """Return whether a write failed for want of space, of a file or of a SQLite database."""
    if isinstance(error, sqlite3.OperationalError):
        return error.sqlite_errorcode == sqlite3.SQLITE_FULL
    return isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}
