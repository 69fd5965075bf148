"""One HTTP request and its answer: verified TLS, the environment's proxies, no wait without end."""

from __future__ import annotations

import base64
import http.client
import os
import socket
import ssl
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeAlias
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.host.image_reference import is_loopback
from sagemaker_byoc.images.errors import RegistryError, TrustError

PATIENCE = 60.0
"""Seconds for any one answer, or pause within one."""
_CHUNK = 2**20

Content: TypeAlias = "bytes | Iterable[bytes] | None"
"""Of a request. An iterable can be gone through again and goes with a Content-Length header."""


@dataclass(frozen=True, slots=True)
class Proxy:
    host: str
    port: int
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


def proxy_for(scheme: str, host: str) -> Proxy | None:
    """What HTTPS_PROXY, HTTP_PROXY and NO_PROXY say; this machine itself is never asked for so."""
    proxies = getproxies_environment()
    url = proxies.get(scheme) or proxies.get("all")
    if not url or is_loopback(host) or proxy_bypass(host):
        return None
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme != "http" or not parts.hostname:
        raise RequestError(
            f"{scheme.upper()}_PROXY names a proxy of the kind {parts.scheme}",
            hint="Name one as http://HOST:PORT, or list the registry in NO_PROXY",
        )
    headers = {}
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Proxy-Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    return Proxy(parts.hostname, parts.port or 80, headers)


class Opened:
    """The connections that are in use, so that another thread can end them."""

    def __init__(self) -> None:
        self._connections: set[http.client.HTTPConnection] = set()

    def add(self, connection: http.client.HTTPConnection) -> None:
        self._connections.add(connection)

    def discard(self, connection: http.client.HTTPConnection) -> None:
        self._connections.discard(connection)

    def abort(self) -> None:
        """Whoever waits for one of them sees it break."""
        for connection in list(self._connections):
            with suppress(OSError, AttributeError):  # not connected yet, or no longer
                connection.sock.shutdown(socket.SHUT_RDWR)


def exchange(
    method: str,
    url: str,
    headers: Mapping[str, str],
    content: Content,
    opened: Opened | None = None,
) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    """The caller closes both: an answer may hold the connection open.

    Raises RegistryError with status 0 where none answers.
    """
    connection, path, more = _connect(url)
    connection.blocksize = _CHUNK
    if opened is not None:
        opened.add(connection)
    try:
        return connection, _answer(connection, method, path, {**headers, **more}, content)
    except BaseException as error:
        connection.close()
        if opened is not None:
            opened.discard(connection)
        if isinstance(error, (OSError, http.client.HTTPException)):
            raise _failure(urlsplit(url).netloc, error) from error
        raise


def _failure(host: str, error: Exception) -> RegistryError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return TrustError(
            f"{host} shows a certificate that is not trusted: {error.verify_message}",
            hint="Name the authority's file in SSL_CERT_FILE (AWS_CA_BUNDLE does as well)",
        )
    return RegistryError(
        f"{host} gives no answer: {str(error) or type(error).__name__}",
        hint="Check the registry's name and the way to it",
    )


def _connect(url: str) -> tuple[http.client.HTTPConnection, str, Mapping[str, str]]:
    """Not connected yet; the path to ask for, and what a proxy wants to be told with it."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    proxy = proxy_for(parts.scheme, host)
    if parts.scheme == "https":
        context = ssl.create_default_context(cafile=os.environ.get("AWS_CA_BUNDLE") or None)
        if proxy is None:
            secure = http.client.HTTPSConnection(
                host, parts.port, timeout=PATIENCE, context=context
            )
        else:
            secure = http.client.HTTPSConnection(
                proxy.host, proxy.port, timeout=PATIENCE, context=context
            )
            secure.set_tunnel(host, parts.port or 443, dict(proxy.headers))
        return secure, path, {}
    if proxy is not None:
        plain = http.client.HTTPConnection(proxy.host, proxy.port, timeout=PATIENCE)
        return plain, url, {"Host": parts.netloc, **proxy.headers}
    return http.client.HTTPConnection(host, parts.port, timeout=PATIENCE), path, {}


def _answer(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    headers: Mapping[str, str],
    content: Content,
) -> http.client.HTTPResponse:
    try:
        connection.request(method, path, body=content, headers=dict(headers))
    except (BrokenPipeError, ConnectionResetError) as error:
        # A refusal may come before the whole content is sent: it says more than the broken pipe.
        try:
            return connection.getresponse()
        except (OSError, http.client.HTTPException):
            raise error from None
    return connection.getresponse()
