"""The account that the local region stands for: its ARNs, its owner's keys, and temporary ones.

The owner's pair is random and kept in STATE/credentials.json. A temporary pair needs no storage:
its session token is signed by the owner's secret, and the secret key is derived from the same.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import os
import secrets
import string
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sagemaker_byoc.contract.errors import DocumentError, MachineError
from sagemaker_byoc.contract.files import read_object, write_atomically

ACCOUNT = "000000000000"
DEFAULT_REGION = "us-east-1"
"""A region that exists: SDKs look up endpoints and image accounts by its name."""


@dataclass(frozen=True, slots=True)
class Account:
    id: str = ACCOUNT
    region: str = DEFAULT_REGION

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Account:
        """Return the account of what runs without a region, in the AWS region of the shell."""
        named = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
        return cls(region=named or DEFAULT_REGION)

    def arn(self, service: str, resource: str) -> str:
        """Return an ARN such as `arn:aws:sagemaker:us-east-1:000000000000:training-job/NAME`."""
        region = "" if service in {"iam", "s3"} else self.region
        account = "" if service == "s3" else self.id
        return f"arn:aws:{service}:{region}:{account}:{resource}"

    @property
    def role(self) -> str:
        """The execution role that exists from the start."""
        return self.arn("iam", "role/service-role/SageMakerRole")

    @property
    def execution_session(self) -> str:
        """The ARN under which the execution role works for the owner of the region."""
        return self.session_arn(self.role, "local")

    def session_arn(self, role: str, session: str) -> str:
        """Return the ARN under which an assumed `role` works, which is named by ARN or by name."""
        return f"arn:aws:sts::{self.id}:assumed-role/{role.rpartition('/')[2]}/{session}"


def unique_id(kind: str, name: str) -> str:
    """Return an id of IAM's form, such as AROA…, that is the same after a restart."""
    return kind + hashlib.sha256(name.encode()).hexdigest()[:17].upper()


CREDENTIALS_FILE = "credentials.json"
HINT = 'The keys of this region: eval "$(byoc local env)"'

_ALPHABET = string.ascii_uppercase + "234567"
_MOST_TOKEN = 2048
"""Characters of a session token that are read at most; ours have about 300."""


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys that a client signs with. `token` is empty for the owner's pair."""

    access_key: str
    secret_key: str
    token: str = ""

    @property
    def environ(self) -> dict[str, str]:
        """The variables that every AWS client reads."""
        found = {"AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key}
        return {**found, "AWS_SESSION_TOKEN": self.token} if self.token else found


@dataclass(frozen=True, slots=True)
class Principal:
    """Who signed a request."""

    secret_key: str
    arn: str = ""
    """The assumed role; empty for the owner of the region."""
    has_expired: bool = False

    @property
    def is_owner(self) -> bool:
        return not self.arn


CALLER: ContextVar[Principal | None] = ContextVar("CALLER", default=None)
"""The signer of the current request; None if the region accepts any signature."""


def caller_arn(account: Account) -> str:
    """Return the ARN of the assumed role that sent the current request."""
    caller = CALLER.get()
    return (caller.arn if caller else "") or account.execution_session


def read_keys(state: Path) -> Keys | None:
    """Return the owner's keys, or None if the folder has none or is another user's."""
    try:
        document = read_object(state / CREDENTIALS_FILE)
    except DocumentError:
        return None
    match document:
        case {"AccessKeyId": str(access_key), "SecretAccessKey": str(secret_key)}:
            return Keys(access_key, secret_key)
    return None


def make_keys(state: Path) -> Keys:
    """Return the owner's keys, making them first if the folder has none.

    Raise MachineError if the file is there and unreadable: new keys would lock out every client
    that has the old ones.
    """
    path = state / CREDENTIALS_FILE
    keys = read_keys(state)
    if keys is not None:
        path.chmod(0o600)
        return keys
    if path.exists():
        raise MachineError(
            f"{path} does not hold an access key and a secret key",
            hint="Restore it, or remove it for new ones",
        )
    keys = Keys("AKIA" + _random(16), secrets.token_urlsafe(30))
    document = {"AccessKeyId": keys.access_key, "SecretAccessKey": keys.secret_key}
    mask = os.umask(0o077)  # before the first byte is written, not after the last
    try:
        write_atomically(path, json.dumps(document, indent=2).encode() + b"\n")
    finally:
        os.umask(mask)
    return keys


class Credentials:
    """Issue temporary keys, and find the owner of an access key.

    `life` names one start of the region: keys that were issued for it end with it.
    """

    def __init__(self, owner: Keys) -> None:
        self.owner = owner
        self._principal = Principal(owner.secret_key)
        self._key = owner.secret_key.encode()
        self._life = secrets.token_hex(8)

    def issue(self, arn: str, expires: datetime | None = None) -> Keys:
        """Return keys of the assumed role `arn`, valid until `expires`, or until the region ends
        if that is None.
        """
        access_key = "ASIA" + _random(16)
        claims = {
            "key": access_key,
            "arn": arn,
            "expires": None if expires is None else int(expires.timestamp()),
            "life": None if expires is not None else self._life,
        }
        payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode()
        return Keys(access_key, self._secret_of(access_key), f"{payload}.{self._sign(payload)}")

    def find(self, access_key: str, token: str, now: datetime) -> Principal | None:
        """Return who signs with `access_key`, or None if these are not keys of this region."""
        if hmac.compare_digest(access_key.encode(), self.owner.access_key.encode()):
            return None if token else self._principal
        claims = self._claims(token)
        if claims is None or claims["key"] != access_key:
            return None
        expires, life = claims["expires"], claims["life"]
        if life is not None and life != self._life:
            return None
        return Principal(
            self._secret_of(access_key),
            str(claims["arn"]),
            has_expired=isinstance(expires, int) and now.timestamp() >= expires,
        )

    def secret_of(self, access_key: str, token: str) -> str | None:
        """Return the secret key of valid keys, for signatures within a request's body."""
        found = self.find(access_key, token, datetime.now(UTC))
        return None if found is None or found.has_expired else found.secret_key

    def _claims(self, token: str) -> dict[str, object] | None:
        payload, _, signature = token[:_MOST_TOKEN].partition(".")
        if not hmac.compare_digest(signature.encode(), self._sign(payload).encode()):
            return None
        try:
            claims: dict[str, object] = json.loads(base64.urlsafe_b64decode(payload))
        except (binascii.Error, ValueError):  # not reached by what `issue` has signed
            return None
        return claims

    def _sign(self, payload: str) -> str:
        return self._digest("session token", payload).hex()

    def _secret_of(self, access_key: str) -> str:
        return base64.urlsafe_b64encode(self._digest("secret key", access_key)).decode()[:40]

    def _digest(self, purpose: str, text: str) -> bytes:
        return hmac.digest(self._key, f"{purpose}\0{text}".encode(), hashlib.sha256)


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))
