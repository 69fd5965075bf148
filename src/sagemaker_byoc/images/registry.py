"""A registry's HTTP interface, version 2, as far as reading needs it, and the logins for it.

Every wait is bounded. The login goes to the registry itself, and not to where it redirects to.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit
from urllib.request import (
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    build_opener,
    getproxies_environment,
)

from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.host.registry_images import Reference, ecr_host, is_loopback
from sagemaker_byoc.images.model import (
    DOCUMENT_LIMIT,
    INDEXES,
    MANIFESTS,
    RegistryError,
    TrustError,
    digest_of,
)

SECONDS = 60.0
"""Time limit of a response, and of a pause within one."""
_HELPER_SECONDS = 20.0
"""For a credential helper to answer."""
ATTEMPTS = 4
FIRST_WAIT = 0.5
"""Seconds before the second attempt; doubled each time."""
_AGAIN = frozenset({0, 408, 429, 500, 502, 503, 504})
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')
_ACCEPT = ", ".join(sorted(MANIFESTS | INDEXES))


@dataclass(frozen=True, slots=True)
class Stored:
    """A manifest as the registry keeps it."""

    data: bytes
    media_type: str

    @property
    def digest(self) -> str:
        return digest_of(self.data)


@dataclass(slots=True)
class Registry:
    """One repository of one registry. Its methods raise RegistryError with the HTTP status."""

    reference: Reference
    login: Login | None = None
    plain: bool = False
    """Without TLS. This machine's own registries are always asked without."""
    _token: str = field(default="", repr=False)

    def url(self, kind: str, name: str) -> str:
        return f"{self._base}/v2/{self.reference.repository}/{kind}/{name}"

    def manifest(self, target: str = "") -> Stored | None:
        """Return the manifest of a tag or digest; None if there is none."""
        url = self.url("manifests", target or self.reference.target)
        try:
            data, kind = self._document(url, {"Accept": _ACCEPT})
        except RegistryError as error:
            if error.status == 404:
                return None
            raise
        return Stored(data, kind.partition(";")[0].strip())

    @contextmanager
    def blob(self, digest: str) -> Iterator[HTTPResponse]:
        """Yield a blob as a stream, which does not compare the digest."""
        with self._open(self.url("blobs", digest), {}) as answer:
            yield answer

    def small_blob(self, digest: str) -> bytes:
        """Return a document, checked against its digest."""
        data, _ = self._document(self.url("blobs", digest), {})
        if digest_of(data) != digest:
            raise RegistryError(
                f"{self.reference.registry} gave other bytes than {digest}",
                hint="Push the image again; if this recurs, don't trust the registry",
            )
        return data

    @property
    def _base(self) -> str:
        scheme = "http" if self.reference.is_local or self.plain else "https"
        return f"{scheme}://{self.reference.registry}"

    def _document(self, url: str, headers: Mapping[str, str]) -> tuple[bytes, str]:
        """Return content and media type, after several attempts if need be."""
        for attempt in range(ATTEMPTS):
            try:
                with self._open(url, headers) as answer:
                    return _read(answer), answer.headers.get("Content-Type", "")
            except RegistryError as error:
                may_pass = error.status in _AGAIN and not isinstance(error, TrustError)
                if not may_pass or attempt == ATTEMPTS - 1:
                    raise
            time.sleep(FIRST_WAIT * 2**attempt)
        raise AssertionError

    def _open(self, url: str, headers: Mapping[str, str]) -> HTTPResponse:
        """Return the answer to a GET, after logging in if the registry demands it."""
        for is_last in (False, True):
            authorization = self._token or (self.login.header if self.login else "")
            sent = {**headers, "Authorization": authorization} if authorization else headers
            try:
                return _get(url, sent)
            except HTTPError as refusal:
                with refusal:
                    if refusal.code != 401 or is_last:
                        raise self._refusal(refusal) from refusal
                    challenge = refusal.headers.get("WWW-Authenticate", "")
            self._log_in(challenge)
        raise AssertionError

    def _log_in(self, challenge: str) -> None:
        """Get a bearer token from the place that the registry names."""
        scheme, _, rest = challenge.partition(" ")
        asked = dict(_CHALLENGE.findall(rest))
        name = self.reference.registry
        if scheme.lower() != "bearer" or "realm" not in asked:
            raise RegistryError(
                f"{name} refuses the login", hint=f"Log in: docker login {name}", status=401
            )
        if self._base.startswith("https:") and urlsplit(asked["realm"]).scheme != "https":
            raise TrustError(
                f"{name} wants the login sent to {asked['realm']} without TLS",
                hint="Correct the address of its token service",
            )
        query = {key: asked[key] for key in ("service", "scope") if key in asked}
        headers = {"Authorization": self.login.header} if self.login is not None else {}
        try:
            with _get(f"{asked['realm']}?{urlencode(query)}", headers) as answer:
                found = json.loads(_read(answer))
            self._token = f"Bearer {found.get('token') or found['access_token']}"
        except HTTPError as refusal:
            with refusal:
                raise self._refusal(refusal) from refusal
        except (ValueError, KeyError, AttributeError) as error:
            raise RegistryError(
                f"{asked['realm']} gives no token", hint="Log in again with docker login"
            ) from error

    def _refusal(self, answer: HTTPError) -> RegistryError:
        text = answer.read(4096).decode(errors="replace").strip()
        try:
            first = json.loads(text)["errors"][0]
            text = f"{first.get('code', '')}: {first.get('message', '')}"
        except (ValueError, LookupError, TypeError, AttributeError):
            text = text[:200]
        name, repository = self.reference.registry, self.reference.repository
        return RegistryError(
            f"{name} refuses GET for {repository} with {answer.code} {text}".strip(),
            hint=refusal_hint(self.reference, answer.code),
            status=answer.code,
        )


def refusal_hint(reference: Reference, status: int) -> str:
    if status in {401, 403} and ecr_host(reference.registry):
        return (
            "Let these credentials do ecr:BatchCheckLayerAvailability, InitiateLayerUpload,"
            " UploadLayerPart, CompleteLayerUpload, PutImage, BatchGetImage, GetDownloadUrlForLayer"
        )
    if status in {401, 403}:
        return f"Log in: docker login {reference.registry}"
    return "Wait, and run it again" if status == 429 or status >= 500 else "Read its words above"


def _read(answer: HTTPResponse) -> bytes:
    try:
        return answer.read(DOCUMENT_LIMIT + 1)
    except (OSError, HTTPException) as error:
        raise _failure(answer.url, error) from error


def _get(url: str, headers: Mapping[str, str]) -> HTTPResponse:
    """Raise HTTPError for a refusal, RegistryError with status 0 if nothing answers."""
    request = Request(url, headers=dict(headers))  # noqa: S310 - http or https, by Registry.url
    try:
        answer: HTTPResponse = _opener(url).open(request, timeout=SECONDS)
    except HTTPError:
        raise
    except (OSError, HTTPException, ValueError) as error:
        raise _failure(url, error) from error
    return answer


def _opener(url: str) -> OpenerDirector:
    context = ssl.create_default_context(cafile=os.environ.get("AWS_CA_BUNDLE") or None)
    proxies = ProxyHandler(proxies_for(urlsplit(url).hostname or ""))
    return build_opener(proxies, HTTPSHandler(context=context), _Redirects)


def proxies_for(host: str) -> dict[str, str]:
    """Return what HTTPS_PROXY and HTTP_PROXY say; this machine is asked directly.

    The opener follows NO_PROXY itself.
    """
    if is_loopback(host):
        return {}
    proxies = {key: url for key, url in getproxies_environment().items() if key != "no"}
    for scheme, url in proxies.items():
        kind = urlsplit(url if "://" in url else f"http://{url}").scheme
        if kind != "http":
            raise RequestError(
                f"{scheme.upper()}_PROXY names a proxy of the kind {kind}",
                hint="Name one as http://HOST:PORT, or list the registry in NO_PROXY",
            )
    return proxies


class _Redirects(HTTPRedirectHandler):
    """Follows a redirect without the login, and never from TLS to none."""

    def redirect_request(  # noqa: PLR0913, PLR0917 - the standard library's signature
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        target = urlsplit(newurl)
        if req.type == "https" and target.scheme != "https":
            raise TrustError(
                f"{req.host} redirects to {target.netloc} without TLS",
                hint="Correct the address that the registry is configured to give",
            )
        found = super().redirect_request(req, fp, code, msg, headers, newurl)
        if found is not None and found.host != req.host:
            found.remove_header("Authorization")
        return found


def _failure(url: str, error: Exception) -> RegistryError:
    host = urlsplit(url).netloc
    cause = getattr(error, "reason", error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return TrustError(
            f"{host} shows a certificate that is not trusted: {cause.verify_message}",
            hint="Name the authority's file in SSL_CERT_FILE (AWS_CA_BUNDLE does as well)",
        )
    return RegistryError(
        f"{host} gives no answer: {str(cause) or type(cause).__name__}",
        hint="Check the registry's name and the way to it",
    )


# ── logins: what docker's configuration knows, and a private copy of it to lend ──


@dataclass(frozen=True, slots=True)
class Login:
    user: str
    password: str = field(repr=False)

    @property
    def header(self) -> str:
        return f"Basic {self.encoded}"

    @property
    def encoded(self) -> str:
        return base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


def docker_login(registry: str) -> Login | None:
    """Return docker's login; None if it has none or its configuration can't be read."""
    config = _configuration()
    try:
        helper = config.get("credHelpers", {}).get(registry) or config.get("credsStore")
        if helper:
            return _ask(str(helper), registry)
        encoded = config.get("auths", {}).get(registry, {}).get("auth", "")
        user, _, password = base64.b64decode(encoded).decode().partition(":")
    except (ValueError, AttributeError, binascii.Error):
        return None
    return Login(user, password) if user and password else None


def lend_with_helper(folder: Path, helper: str, hosts: list[str]) -> None:
    """Write docker's configuration into `folder`, with a credential helper for `hosts`."""
    document = _configuration()
    helpers = document.get("credHelpers")
    own = helpers if isinstance(helpers, dict) else {}
    _lend(folder, {**document, "credHelpers": {**own, **dict.fromkeys(hosts, helper)}})


def lend_logins(folder: Path, logins: Mapping[str, Login]) -> None:
    """Write docker's configuration into `folder`, with these logins and no others."""
    kept = _configuration()
    for name in ("auths", "credHelpers", "credsStore"):
        kept.pop(name, None)
    auths = {registry: {"auth": login.encoded} for registry, login in logins.items()}
    _lend(folder, {**kept, "auths": auths})


def _lend(folder: Path, document: Mapping[str, Any]) -> None:
    path = folder / "config.json"
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(document, file)
    own = _folder()
    for entry in own.iterdir() if own.is_dir() else ():
        if entry.name != "config.json":  # plug-ins and contexts
            (folder / entry.name).symlink_to(entry.resolve())


def _folder() -> Path:
    return Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")


def _configuration() -> dict[str, Any]:
    try:
        found = json.loads((_folder() / "config.json").read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _ask(helper: str, registry: str) -> Login | None:
    try:
        result = subprocess.run(
            [f"docker-credential-{helper}", "get"],
            input=registry.encode(),
            capture_output=True,
            check=True,
            timeout=_HELPER_SECONDS,
        )
        answer = json.loads(result.stdout)
        return Login(str(answer["Username"]), str(answer["Secret"]))
    except (OSError, ValueError, KeyError, subprocess.SubprocessError):
        return None
