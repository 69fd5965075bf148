"""A registry's HTTP interface, version 2, as far as reading, verifying and pushing need it.

Every wait is bounded. A redirect, which registries give for blobs, loses the login.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlencode, urljoin, urlsplit

from sagemaker_byoc.host.image_reference import Reference, ecr_host
from sagemaker_byoc.images.credentials import Login
from sagemaker_byoc.images.errors import RegistryError, TrustError
from sagemaker_byoc.images.model import INDEXES, MANIFESTS
from sagemaker_byoc.images.sources.documents import DOCUMENT_LIMIT
from sagemaker_byoc.images.transport import Content, Opened, exchange

_REDIRECTS = 5
_REDIRECT = frozenset({301, 302, 303, 307, 308})
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
    plain: bool = False
    """Without TLS, as this machine's own registries are spoken to anyway."""
    _token: str = field(default="", repr=False)
    _opened: Opened = field(default_factory=Opened, repr=False)

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
                hint="Push the image again; if it stays so, don't trust that registry",
            )
        return data

    def has_blob(self, digest: str) -> bool:
        return self.blob_size(digest) is not None

    def blob_size(self, digest: str) -> int | None:
        """None where it isn't there; -1 where the registry doesn't say."""
        # A redirect to where its bytes lie says enough: such addresses are often good for GET only.
        expected = {200, 404} | _REDIRECT
        with self._call("HEAD", self._path("blobs", digest), expected=expected) as answer:
            if answer.status == 404:
                return None
            length = answer.getheader("Content-Length") if answer.status == 200 else None
            return int(length) if length and length.isdecimal() else -1

    def begin_upload(self, mount: str = "", origin: str = "") -> str | None:
        """Where to send a blob to; None where `mount` of the repository `origin` is taken over."""
        query = "?" + urlencode({"mount": mount, "from": origin}) if mount else ""
        url = self._path("blobs", "uploads/") + query
        headers = {"Content-Length": "0"}
        with self._call("POST", url, headers, expected={201, 202}) as answer:
            if answer.status == 201:
                return None
            return urljoin(url, answer.getheader("Location") or "")

    def finish_upload(self, place: str, digest: str, content: Iterable[bytes], size: int) -> None:
        """All of a blob in one request, to where `begin_upload` said."""
        url = place + ("&" if urlsplit(place).query else "?") + urlencode({"digest": digest})
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        with self._call("PUT", url, headers, content, expected={201}):
            pass

    def put_manifest(self, target: str, data: bytes, media_type: str) -> None:
        path = self._path("manifests", target)
        with self._call("PUT", path, {"Content-Type": media_type}, data, expected={200, 201}):
            pass

    def abort(self) -> None:
        """End every request of every thread."""
        self._opened.abort()

    def _base(self) -> str:
        scheme = "http" if self.reference.is_local or self.plain else "https"
        return f"{scheme}://{self.reference.registry}"

    def _path(self, kind: str, name: str) -> str:
        return f"{self._base()}/v2/{self.reference.repository}/{kind}/{name}"

    @contextmanager
    def _call(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        content: Content = None,
        *,
        expected: frozenset[int] | set[int] = frozenset({200}),
    ) -> Iterator[http.client.HTTPResponse]:
        """One answer, after logging in and following redirects where they are asked for."""
        logged_in = False
        for _ in range(_REDIRECTS):
            own = self._is_own(url)
            sent = {**(headers or {}), **(self._authorization() if own else {})}
            connection, answer = exchange(method, url, sent, content, self._opened)
            try:
                if answer.status == 401 and own and not logged_in:
                    # Also in the middle: a token may be for reading only, or run out.
                    self._log_in(answer.getheader("WWW-Authenticate") or "")
                    logged_in = True
                    continue
                if answer.status in expected:
                    yield answer
                    return
                if answer.status not in _REDIRECT or method != "GET":
                    raise _refusal(self.reference, method, answer)
                url = urljoin(url, answer.getheader("Location") or "")
            finally:
                answer.close()
                connection.close()
                self._opened.discard(connection)
        raise RegistryError(
            f"{self.reference.registry} sends from place to place, or refuses every login",
            hint="Log in anew: docker login " + self.reference.registry,
            status=401,
        )

    def _is_own(self, url: str) -> bool:
        """Whether the registry itself is asked, which gets the login; never without its TLS."""
        base, parts = urlsplit(self._base()), urlsplit(url)
        if base.scheme == "https" and parts.scheme != "https":
            raise TrustError(
                f"{self.reference.registry} sends to {parts.netloc} without TLS",
                hint="Correct the address that the registry is configured to give",
            )
        ports = {"http": 80, "https": 443}
        return (base.hostname, base.port or ports[base.scheme]) == (
            parts.hostname,
            parts.port or ports.get(parts.scheme),
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
                hint="Log in: docker login " + self.reference.registry,
                status=401,
            )
        if urlsplit(self._base()).scheme == "https" and urlsplit(asked["realm"]).scheme != "https":
            raise TrustError(
                f"{self.reference.registry} wants the login sent to {asked['realm']} without TLS",
                hint="Correct the address of its token service",
            )
        query = {key: asked[key] for key in ("service", "scope") if key in asked}
        headers = {"Authorization": self.login.header} if self.login is not None else {}
        connection, answer = exchange("GET", f"{asked['realm']}?{urlencode(query)}", headers, None)
        try:
            if answer.status != 200:
                raise _refusal(self.reference, "login", answer)
            found = json.loads(answer.read(DOCUMENT_LIMIT))
            self._token = f"Bearer {found.get('token') or found['access_token']}"
        except (ValueError, KeyError, AttributeError) as error:
            raise RegistryError(
                f"{asked['realm']} gives no token", hint="Log in anew with docker login"
            ) from error
        finally:
            answer.close()
            connection.close()


def _refusal(reference: Reference, action: str, answer: http.client.HTTPResponse) -> RegistryError:
    text = answer.read(4096).decode(errors="replace").strip()
    try:
        first = json.loads(text)["errors"][0]
        text = f"{first.get('code', '')}: {first.get('message', '')}"
    except (ValueError, LookupError, TypeError, AttributeError):
        text = text[:200]
    return RegistryError(
        f"{reference.registry} refuses {action} for {reference.repository} with "
        f"{answer.status} {text}".strip(),
        hint=_hint(reference, answer.status, text),
        status=answer.status,
    )


def _hint(reference: Reference, status: int, text: str) -> str:
    if status in {401, 403} and ecr_host(reference.registry):
        return (
            "Let these credentials do ecr:BatchCheckLayerAvailability, InitiateLayerUpload,"
            " UploadLayerPart, CompleteLayerUpload, PutImage, BatchGetImage, GetDownloadUrlForLayer"
        )
    if status in {401, 403}:
        return f"Log in: docker login {reference.registry}"
    if "NAME_UNKNOWN" in text:
        return f"Make the repository {reference.repository} first"
    return "Wait, and run it again" if status == 429 or status >= 500 else "Read its words above"
