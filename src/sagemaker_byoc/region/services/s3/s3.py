"""The service S3: its REST interface on the object store."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from sagemaker_byoc.region.core.account import Account
from sagemaker_byoc.region.core.threads import Threads
from sagemaker_byoc.region.services.s3.buckets import BucketRequests
from sagemaker_byoc.region.services.s3.call import Call, Operation, Route, check_presigned, parse
from sagemaker_byoc.region.services.s3.listing import ListRequests
from sagemaker_byoc.region.services.s3.multipart_requests import PartRequests
from sagemaker_byoc.region.services.s3.object_properties import check_headers
from sagemaker_byoc.region.services.s3.object_reads import ReadRequests
from sagemaker_byoc.region.services.s3.object_writes import WriteRequests, check_version
from sagemaker_byoc.region.services.s3.post_forms import FormRequests, SecretOf
from sagemaker_byoc.region.services.s3.store.object_store import ObjectStore
from sagemaker_byoc.region.services.s3.store.objects import S3Error, check_key
from sagemaker_byoc.region.wire.http import Request, Response
from sagemaker_byoc.region.wire.operations import EntityTooLargeError

LOG = logging.getLogger(__name__)


class S3:
    """The Handler of authenticated requests, and of forms, which have a signed policy: it is
    checked with `secret_of`, unless that is None."""

    def __init__(
        self, store: ObjectStore, account: Account, secret_of: SecretOf | None = None
    ) -> None:
        self._store = store
        self._account = account
        self._threads = Threads("s3")
        self._routes: dict[Route, Operation] = {
            **BucketRequests(store, account, self._threads).routes(),
            **ListRequests(store, account, self._threads).routes(),
            **ReadRequests(store, account, self._threads).routes(),
            **WriteRequests(store, account, self._threads).routes(),
            **FormRequests(store, account, self._threads, secret_of).routes(),
            **PartRequests(store, account, self._threads).routes(),
        }

    @property
    def routes(self) -> frozenset[Route]:
        """The routes that have an operation."""
        return frozenset(self._routes)

    def close(self) -> None:
        """Wait for the reads and writes that have begun, and close the store."""
        self._threads.close()
        self._store.close()

    async def __call__(self, request: Request) -> Response:
        try:
            response = await self._answer(parse(request))
        except EntityTooLargeError as error:
            raise S3Error("MaxMessageLengthExceeded", "Your request was too big.") from error
        except ConnectionError:
            raise
        except OSError as error:
            LOG.exception("%s: %s %s", request.id, request.method, request.path)
            text = f"The store's files: {error.strerror}"
            raise S3Error("InternalError", text, status=500) from error
        response.headers.setdefault("x-amz-request-id", request.id)
        return response

    async def _answer(self, call: Call) -> Response:
        check_presigned(call.query, datetime.now(UTC))
        check_version(call.query)
        check_headers(call.headers)
        if call.key:
            check_key(call.key)
        owner = call.headers.get("x-amz-expected-bucket-owner", self._account.id)
        if owner != self._account.id:
            raise S3Error("AccessDenied", "Access Denied", status=403)
        operation = self._routes.get(call.route)
        if operation is None:
            raise self._unknown(call)
        return await operation(call)

    def _unknown(self, call: Call) -> S3Error:
        method, level, subresource = call.route
        if not subresource:
            return S3Error(
                "MethodNotAllowed",
                "The specified method is not allowed against this resource.",
                status=405,
                Method=call.request.method,
                ResourceType=level.upper(),
            )
        known = sorted(
            name for verb, at, name in self._routes if verb == method and at == level and name
        )
        return S3Error(
            "NotImplemented",
            f"This object store does not support {method} ?{subresource} of a {level};"
            f" it supports: {', '.join(known) or 'none of them'}",
            status=501,
            Header=subresource,
        )
