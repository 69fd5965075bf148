"""Authorization tokens of the registry and signed paths, which stay valid across restarts."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sagemaker_byoc.contract.files import write_atomically

USER = "AWS"
LIFETIME = timedelta(hours=12)
"""The same as ECR's (reference of GetAuthorizationToken)."""
PATH_LIFETIME = timedelta(hours=1)


class Tokens:
    """Sign and check tokens. `folder` keeps the key."""

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
