"""`/v2/…`: the distribution protocol of `docker push` and `docker pull`, and its tokens."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import os
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeAlias
from urllib.parse import quote

from sagemaker_byoc.contract.files import write_atomically
from sagemaker_byoc.region.core.threads import Threads
from sagemaker_byoc.region.services.ecr.blobs import RegistryError, UploadedBlob, blob_unknown
from sagemaker_byoc.region.services.ecr.images import MAX_MANIFEST, Manifests
from sagemaker_byoc.region.services.ecr.repositories import Repositories
from sagemaker_byoc.region.wire.http import (
    FileStream,
    RangeError,
    Request,
    Response,
    content_range,
    json_response,
    parse_range,
)
from sagemaker_byoc.region.wire.json11 import render_registry_error
from sagemaker_byoc.region.wire.operations import AwsError

_NAME = r"(?P<name>[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)"
_MOST_TAGS = 1000
USER = "AWS"
LIFETIME = timedelta(hours=12)
"""The same as ECR's (reference of GetAuthorizationToken)."""
PATH_LIFETIME = timedelta(hours=1)

_CODES = {
    "RepositoryNotFoundException": ("NAME_UNKNOWN", 404),
    "ImageTagAlreadyExistsException": ("TAG_INVALID", 400),
    "ImageNotFoundException": ("MANIFEST_UNKNOWN", 404),
    "LayersNotFoundException": ("MANIFEST_BLOB_UNKNOWN", 404),
    "ReferencedImagesNotFoundException": ("MANIFEST_BLOB_UNKNOWN", 404),
    "ImageDigestDoesNotMatchException": ("DIGEST_INVALID", 400),
    "InvalidParameterException": ("MANIFEST_INVALID", 400),
}
"""Code and status of the registry for errors of the ecr API."""

Answer: TypeAlias = Callable[[Request, str, str], Awaitable[Response]]
"""The answer to a request, a repository's name, and the rest of the path."""


class Tokens:
    """Sign and check tokens and paths, also after a restart: `folder` keeps the key."""

    def __init__(self, folder: Path) -> None:
        path = folder / "token-key"
        if not path.exists():
            write_atomically(path, secrets.token_bytes(32))
            path.chmod(0o600)
        self._key = path.read_bytes()

    def issue(self, now: datetime) -> tuple[str, datetime]:
        """Return the base64 of `AWS:PASSWORD`, and when it expires."""
        expires = (now + LIFETIME).replace(microsecond=0)
        payload = json.dumps({"expiration": int(expires.timestamp()), "version": "1"})
        password = base64.b64encode(f"{payload}.{self._sign(payload)}".encode()).decode()
        return base64.b64encode(f"{USER}:{password}".encode()).decode(), expires

    def expiry(self, authorization: str) -> datetime | None:
        """Return when the token in an Authorization header expires; None if it is not ours."""
        scheme, _, token = authorization.partition(" ")
        try:
            user, _, password = base64.b64decode(token, validate=True).decode().partition(":")
            payload, _, signature = (
                base64.b64decode(password, validate=True).decode().rpartition(".")
            )
        except (binascii.Error, UnicodeDecodeError):
            return None
        signed = hmac.compare_digest(signature.encode(), self._sign(payload).encode())
        if scheme.lower() != "basic" or user != USER or not signed:
            return None
        return datetime.fromtimestamp(json.loads(payload)["expiration"], UTC)

    def signed(self, path: str, at: datetime) -> str:
        """Return `path` with a query that gives anyone access for an hour."""
        expires = str(int((at + PATH_LIFETIME).timestamp()))
        return f"{path}?expires={expires}&signature={self._sign(f'{path}?{expires}')}"

    def opens(self, path: str, query: Mapping[str, str], at: datetime) -> bool:
        """Return whether `query` is that of a signed `path` that has not expired."""
        expires, signature = query.get("expires", ""), query.get("signature", "")
        expected = self._sign(f"{path}?{expires}")
        if not hmac.compare_digest(signature.encode(errors="replace"), expected.encode()):
            return False
        return at.timestamp() < int(expires)

    def _sign(self, payload: str) -> str:
        return hmac.new(self._key, payload.encode(), hashlib.sha256).hexdigest()


class RegistryHttp:
    """The Handler of the protocol. It demands a token of the region, as ECR does."""

    def __init__(
        self, repositories: Repositories, manifests: Manifests, tokens: Tokens, threads: Threads
    ) -> None:
        self._repositories = repositories
        self._blobs = repositories.blobs
        self._manifests = manifests
        self._tokens = tokens
        self._threads = threads
        self._routes: list[tuple[re.Pattern[str], dict[str, Answer]]] = [
            (re.compile(f"/v2/{_NAME}/blobs/uploads/?(?P<rest>)"), {"POST": self._begin}),
            (
                re.compile(f"/v2/{_NAME}/blobs/uploads/(?P<rest>[^/]+)"),
                {
                    "GET": self._progress,
                    "PATCH": self._append,
                    "PUT": self._finish,
                    "DELETE": self._cancel,
                },
            ),
            (
                re.compile(f"/v2/{_NAME}/blobs/(?P<rest>[^/]+)"),
                {"GET": self._blob, "HEAD": self._blob},
            ),
            (
                re.compile(f"/v2/{_NAME}/manifests/(?P<rest>[^/]+)"),
                {"GET": self._manifest, "HEAD": self._manifest, "PUT": self._put_manifest},
            ),
            (re.compile(f"/v2/{_NAME}/tags/list(?P<rest>)"), {"GET": self._tags}),
        ]

    async def __call__(self, request: Request) -> Response:
        try:
            response = await self._answer(request)
        except AwsError as error:
            response = render_registry_error(request, _over_the_wire(error))
        response.headers["Docker-Distribution-Api-Version"] = "registry/2.0"
        if request.method == "HEAD" and isinstance(response.body, bytes):
            response.headers.setdefault("Content-Length", str(len(response.body)))
            response.body = b""
        return response

    async def _answer(self, request: Request) -> Response:
        self._authorize(request)
        path = request.path
        if path in {"/v2", "/v2/"}:
            return json_response({})
        for pattern, answers in self._routes:
            if found := pattern.fullmatch(path):
                answer = answers.get(request.method)
                if answer is None:
                    break
                return await answer(request, found["name"], found["rest"])
        raise RegistryError(
            "UNSUPPORTED",
            f"This registry does not support {request.method} {path}",
            status=405 if path.startswith("/v2/") else 404,
        )

    def _authorize(self, request: Request) -> None:
        path, query = request.path, request.query
        if request.method == "GET" and self._tokens.opens(path, query, datetime.now(UTC)):
            return
        header = request.headers.get("authorization", "")
        expires = self._tokens.expiry(header) if header else None
        if expires is None:
            host = request.headers.get("host", "")
            error = RegistryError(
                "UNAUTHORIZED",
                "Not Authorized: log in with `aws ecr get-login-password | docker login"
                f" --username AWS --password-stdin {host}`",
                status=401,
            )
            realm = f'realm="http://{host}/",service="ecr.amazonaws.com"'
            error.headers["WWW-Authenticate"] = f"Basic {realm}"
            raise error
        if expires < datetime.now(UTC):
            raise RegistryError(
                "DENIED",
                "Your authorization token has expired. Reauthenticate and try again.",
                status=403,
            )

    # Blobs

    async def _begin(self, request: Request, name: str, _: str) -> Response:
        await self._threads.run(self._repositories.get, name)
        query = request.query
        mounted, source = query.get("mount"), query.get("from")
        if mounted and source:
            found = await self._threads.run(self._mount, name, source, mounted)
            if found:
                return created(name, "blobs", mounted)
        upload = await self._threads.run(self._blobs.begin)
        if "digest" in query:
            return await self._receive(request, name, upload, query["digest"])
        return progress(name, upload, 202)

    async def _progress(self, _: Request, name: str, upload_id: str) -> Response:
        return progress(name, await self._upload(name, upload_id), 204)

    async def _append(self, request: Request, name: str, upload_id: str) -> Response:
        upload = await self._upload(name, upload_id)
        return await self._receive(request, name, upload, None)

    async def _finish(self, request: Request, name: str, upload_id: str) -> Response:
        upload = await self._upload(name, upload_id)
        digest = request.query.get("digest")
        if digest is None:
            raise RegistryError("DIGEST_INVALID", "The query has no digest")
        return await self._receive(request, name, upload, digest)

    async def _cancel(self, _: Request, name: str, upload_id: str) -> Response:
        upload = await self._upload(name, upload_id)
        await self._threads.run(self._blobs.cancel, upload)
        return Response(status=204)

    async def _upload(self, name: str, upload_id: str) -> UploadedBlob:
        await self._threads.run(self._repositories.get, name)
        return await self._threads.run(self._blobs.upload, upload_id)

    async def _receive(
        self, request: Request, name: str, upload: UploadedBlob, digest: str | None
    ) -> Response:
        """Append the body; a digest ends the upload. The bytes that came before a connection
        broke are kept, so that the client can continue after them."""
        if upload.busy:
            raise RegistryError(
                "BLOB_UPLOAD_INVALID", "another request is writing to this upload", status=409
            )
        check_start(request, name, upload)
        if digest is not None:
            self._blobs.path(digest)
        upload.busy = True
        try:
            rest = await self._threads.pump(request.body, upload.write)
            if digest is None:
                await self._threads.run(upload.write, rest)
                return progress(name, upload, 202)

            def finish(digest: str) -> None:
                upload.write(rest)
                self._blobs.finish(upload, digest)
                self._repositories.link(name, digest)

            await self._threads.run(finish, digest)
            return created(name, "blobs", digest)
        finally:
            upload.busy = False

    def _mount(self, name: str, source: str, digest: str) -> bool:
        if not self._repositories.linked(source, digest):
            return False
        self._repositories.link(name, digest)
        return True

    async def _blob(self, request: Request, name: str, digest: str) -> Response:
        return await self._threads.run(self._open_blob, request, name, digest)

    def _open_blob(self, request: Request, name: str, digest: str) -> Response:
        self._repositories.get(name)
        path = self._blobs.path(digest)
        if not self._repositories.linked(name, digest):
            raise blob_unknown(digest)
        self._repositories.link(name, digest)  # renew its age: a push may be about to name it
        size = path.stat().st_size
        headers = {
            "Content-Type": "application/octet-stream",
            "Docker-Content-Digest": digest,
            "ETag": f'"{digest}"',
            "Accept-Ranges": "bytes",
        }
        try:
            span = parse_range(request.headers.get("range", ""), size)
        except RangeError as error:
            raise RegistryError("RANGE_INVALID", str(error), status=416) from error
        start, length = span or (0, size)
        headers["Content-Length"] = str(length)
        if span is not None:
            headers["Content-Range"] = content_range(start, length, size)
        response = Response(status=200 if span is None else 206, headers=headers)
        if request.method == "GET" and length:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            response.body = FileStream(file, start, length, self._threads.executor)
        return response

    # Manifests

    async def _manifest(self, _: Request, name: str, reference: str) -> Response:
        return await self._threads.run(self._read_manifest, name, reference)

    def _read_manifest(self, name: str, reference: str) -> Response:
        image = self._manifests.find(name, **_named(reference))
        if image is None:
            raise RegistryError("MANIFEST_UNKNOWN", "Requested image not found", status=404)
        data = self._blobs.read(image.digest)
        return Response(
            headers={
                "Content-Type": image.media_type,
                "Content-Length": str(len(data)),
                "Docker-Content-Digest": image.digest,
                "ETag": f'"{image.digest}"',
            },
            body=data,
        )

    async def _put_manifest(self, request: Request, name: str, reference: str) -> Response:
        data = await request.body.read(MAX_MANIFEST)
        media_type = request.headers.get("content-type", "").partition(";")[0].strip()
        image = await self._threads.run(
            self._manifests.put, name, data, media_type, **_named(reference)
        )
        return created(name, "manifests", image.digest)

    async def _tags(self, request: Request, name: str, _: str) -> Response:
        tags = sorted(await self._threads.run(self._repositories.tags, name))
        last, count = request.query.get("last", ""), request.query.get("n", str(_MOST_TAGS))
        if not count.isdecimal() or len(count) > 9:
            raise RegistryError("PAGINATION_NUMBER_INVALID", f"n is {count!r}, not a number")
        listed = [tag for tag in tags if tag > last]
        page = listed[: int(count)]
        response = json_response({"name": name, "tags": page})
        if page and len(listed) > len(page):
            link = f"/v2/{name}/tags/list?n={count}&last={quote(page[-1])}"
            response.headers["Link"] = f'<{link}>; rel="next"'
        return response


def _named(reference: str) -> dict[str, str]:
    """Return the argument that a reference is: a tag or a digest."""
    return {"digest" if ":" in reference else "tag": reference}


_CONTENT_RANGE = re.compile(r"(?:bytes[ =])?(\d{1,19})-(\d{1,19})(?:/.*)?")


def check_start(request: Request, name: str, upload: UploadedBlob) -> None:
    header = request.headers.get("content-range")
    if header is None:
        return
    found = _CONTENT_RANGE.fullmatch(header)
    if found is None or int(found[1]) != upload.size:
        error = RegistryError(
            "BLOB_UPLOAD_INVALID",
            f"Content-Range is {header!r}; the next byte is {upload.size}",
            status=416,
        )
        error.headers = progress(name, upload, 416).headers
        raise error


def progress(name: str, upload: UploadedBlob, status: int) -> Response:
    return Response(
        status=status,
        headers={
            "Location": f"/v2/{name}/blobs/uploads/{upload.path.name}",
            "Range": f"0-{max(upload.size - 1, 0)}",
            "Docker-Upload-UUID": upload.path.name,
            "Content-Length": "0",
        },
    )


def created(name: str, kind: str, digest: str) -> Response:
    return Response(
        status=201,
        headers={
            "Location": f"/v2/{name}/{kind}/{digest}",
            "Docker-Content-Digest": digest,
            "Content-Length": "0",
        },
    )


def _over_the_wire(error: AwsError) -> RegistryError:
    """Return an error of the ecr API as ECR's registry answers it."""
    if isinstance(error, RegistryError):
        return error
    code, status = _CODES.get(error.code, ("UNKNOWN", error.status))
    return RegistryError(code, error.message, status=status)
