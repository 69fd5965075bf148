"""A registry's HTTP interface, version 2, as far as reading, verifying and converting need it.

Every wait is bounded. A redirect, which registries give for blobs, loses the login.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO
from urllib.parse import urlencode, urljoin, urlsplit

from sagemaker_byoc.images.credentials import Login
from sagemaker_byoc.images.errors import RegistryError
from sagemaker_byoc.images.model import INDEXES, MANIFESTS
from sagemaker_byoc.images.reference import Reference
from sagemaker_byoc.images.sources.documents import DOCUMENT_LIMIT

PATIENCE = 60.0
"""Seconds for any one answer, or pause within one."""
_CHUNK = 2**20
_REDIRECTS = 5
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')
_ACCEPT = ", ".join(sorted(MANIFESTS | INDEXES))


@dataclass(frozen=True, slots=True)
class Stored:
    """A manifest as the registry keeps it."""

    data: bytes
    media_type: str

    @property
    def digest(self) -> str:
        return "sha256:" + hashlib.sha256(self.data).hexdigest()


@dataclass(slots=True)
class Registry:
    """One repository of one registry. Raises RegistryError with the HTTP status of a refusal."""

    reference: Reference
    login: Login | None = None
    _token: str = field(default="", repr=False)

    def manifest(self, target: str | None = None) -> Stored | None:
        """Of a tag or a digest; None where there is none."""
        path = self._path("manifests", target or self.reference.target)
        with self._call("GET", path, {"Accept": _ACCEPT}, expected={200, 404}) as answer:
            if answer.status == 404:
                return None
            data = answer.read(DOCUMENT_LIMIT + 1)
            kind = (answer.getheader("Content-Type") or "").partition(";")[0].strip()
        return Stored(data, kind)

    @contextmanager
    def blob(self, digest: str) -> Iterator[http.client.HTTPResponse]:
        """A stream; whoever reads it to its end should compare the digest."""
        with self._call("GET", self._path("blobs", digest)) as answer:
            yield answer

    def small_blob(self, digest: str) -> bytes:
        """A document, checked against its digest."""
        with self.blob(digest) as answer:
            data = answer.read(DOCUMENT_LIMIT + 1)
        if "sha256:" + hashlib.sha256(data).hexdigest() != digest:
            raise RegistryError(
                f"{self.reference.registry} gave other bytes than {digest}",
                cure="Push the image again; if it stays so, don't trust that registry",
            )
        return data

    def has_blob(self, digest: str) -> bool:
        with self._call("HEAD", self._path("blobs", digest), expected={200, 404}) as answer:
            return answer.status == 200

    def put_blob(self, digest: str, content: IO[bytes], size: int) -> None:
        """In one piece; what the registry has already is not sent again."""
        if self.has_blob(digest):
            return
        with self._call("POST", self._path("blobs", "uploads/"), expected={202}) as answer:
            place = answer.getheader("Location") or ""
        url = urljoin(self._base(), place)
        url += ("&" if urlsplit(url).query else "?") + urlencode({"digest": digest})
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        with self._call("PUT", url, headers, content, expected={201}):
            pass

    def put_manifest(self, target: str, data: bytes, media_type: str) -> None:
        path = self._path("manifests", target)
        with self._call("PUT", path, {"Content-Type": media_type}, data, expected={200, 201}):
            pass

    def _base(self) -> str:
        return f"{'http' if self.reference.is_local else 'https'}://{self.reference.registry}"

    def _path(self, kind: str, name: str) -> str:
        return f"{self._base()}/v2/{self.reference.repository}/{kind}/{name}"

    @contextmanager
    def _call(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | IO[bytes] | None = None,
        *,
        expected: frozenset[int] | set[int] = frozenset({200}),
    ) -> Iterator[http.client.HTTPResponse]:
        """One answer, after logging in and following redirects where they are asked for."""
        for _ in range(_REDIRECTS):
            own = urlsplit(url).netloc == self.reference.registry
            sent = {**(headers or {}), **(self._authorization() if own else {})}
            connection, answer = _exchange(method, url, sent, body)
            try:
                if answer.status == 401 and own and not self._token and _is_again(body):
                    self._log_in(answer.getheader("WWW-Authenticate") or "")
                    continue
                if answer.status in {301, 302, 303, 307, 308} and method in {"GET", "HEAD"}:
                    url = urljoin(url, answer.getheader("Location") or "")
                    continue
                if answer.status not in expected:
                    raise _refusal(self.reference, method, answer)
                yield answer
                return
            finally:
                connection.close()
        raise RegistryError(
            f"{self.reference.registry} sends from place to place, or refuses every login",
            cure="Log in anew: docker login " + self.reference.registry,
        )

    def _authorization(self) -> dict[str, str]:
        if self._token:
            return {"Authorization": self._token}
        return {"Authorization": self.login.header} if self.login is not None else {}

    def _log_in(self, challenge: str) -> None:
        """A bearer token from the place that the registry names."""
        scheme, _, rest = challenge.partition(" ")
        asked = dict(_CHALLENGE.findall(rest))
        if scheme.lower() != "bearer" or "realm" not in asked:
            raise RegistryError(
                f"{self.reference.registry} refuses the login",
                cure="Log in: docker login " + self.reference.registry,
                status=401,
            )
        query = {key: asked[key] for key in ("service", "scope") if key in asked}
        headers = {"Authorization": self.login.header} if self.login is not None else {}
        connection, answer = _exchange("GET", f"{asked['realm']}?{urlencode(query)}", headers, None)
        try:
            if answer.status != 200:
                raise _refusal(self.reference, "login", answer)
            found = json.loads(answer.read(DOCUMENT_LIMIT))
            self._token = f"Bearer {found.get('token') or found['access_token']}"
        except (ValueError, KeyError, AttributeError) as error:
            raise RegistryError(
                f"{asked['realm']} gives no token", cure="Log in anew with docker login"
            ) from error
        finally:
            connection.close()


def _is_again(body: bytes | IO[bytes] | None) -> bool:
    """Whether the same call can be sent twice: a stream is half read by then."""
    return body is None or isinstance(body, bytes)


def _exchange(
    method: str, url: str, headers: Mapping[str, str], body: bytes | IO[bytes] | None
) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    parts = urlsplit(url)
    host = parts.hostname or ""
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context()
        connection = http.client.HTTPSConnection(
            host, parts.port, timeout=PATIENCE, context=context
        )
    else:
        connection = http.client.HTTPConnection(host, parts.port, timeout=PATIENCE)
    connection.blocksize = _CHUNK
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request(method, path, body=body, headers=dict(headers))
        return connection, connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        raise RegistryError(
            f"{parts.netloc} gives no answer: {str(error) or type(error).__name__}",
            cure="Check the registry's name and the way to it",
        ) from error


def _refusal(reference: Reference, action: str, answer: http.client.HTTPResponse) -> RegistryError:
    text = answer.read(4096).decode(errors="replace").strip()
    try:
        first = json.loads(text)["errors"][0]
        text = f"{first.get('code', '')}: {first.get('message', '')}"
    except (ValueError, LookupError, TypeError, AttributeError):
        text = text[:200]
    denied = answer.status in {401, 403}
    cure = f"Log in: docker login {reference.registry}" if denied else "Read the registry's words"
    return RegistryError(
        f"{reference.registry} refuses {action} for {reference.repository} with "
        f"{answer.status} {text}".strip(),
        cure=cure,
        status=answer.status,
    )
