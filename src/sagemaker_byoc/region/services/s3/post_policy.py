"""The policy of a form: its signature, and the fields that it allows."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias

from sagemaker_byoc.region.services.s3.store.objects import S3Error
from sagemaker_byoc.region.wire.signatures import signing_key

SecretOf: TypeAlias = Callable[[str, str], str | None]
"""A function of access key and session token; it returns the secret key, None if not valid."""

_CREDENTIAL = re.compile(r"(?P<key>[^/]+)/(?P<date>\d{8})/(?P<region>[^/]+)/s3/aws4_request")
_FREE = frozenset({"policy", "signature", "awsaccesskeyid", "x-amz-signature", "file"})
_FREE_STARTS = ("x-ignore-", "x-amz-checksum-")
"""Prefixes of fields that need no condition."""
_LENGTH = "content-length-range"


@dataclass(frozen=True, slots=True)
class Policy:
    expires: datetime
    conditions: tuple[tuple[str, str, str], ...]
    """Operator, field and value, the first two in lower case."""
    sizes: tuple[int, int] | None

    def check(self, fields: Mapping[str, str], now: datetime) -> None:
        """Raise S3Error AccessDenied if the fields do not satisfy the policy."""
        if self.expires < now:
            raise _denied("Policy expired.")
        for operator, name, value in self.conditions:
            given = fields.get(name, "")
            met = given == value if operator == "eq" else given.startswith(value)
            if not met or (name not in fields and value):
                raise _denied(f'Policy Condition failed: ["{operator}", "${name}", "{value}"]')
        covered = {name for _, name, _ in self.conditions} | _FREE
        extra = [
            name for name in fields if name not in covered and not name.startswith(_FREE_STARTS)
        ]
        if extra:
            raise _denied(f"Extra input fields: {', '.join(extra)}")


def parse(text: str) -> Policy:
    """Return the policy; raise S3Error InvalidPolicyDocument."""
    try:
        document = json.loads(base64.b64decode(text, validate=True))
    except (ValueError, binascii.Error, RecursionError):
        raise _invalid("Invalid JSON.") from None
    if not isinstance(document, dict):
        raise _invalid("Invalid JSON.")
    for name in ("expiration", "conditions"):
        if name not in document:
            raise _invalid(f"Policy missing {name}.")
    entries = document["conditions"]
    if not isinstance(entries, list):
        raise _invalid("Invalid 'conditions' value: it must be a list.")
    sizes = [_sizes(entry) for entry in entries if _is_length(entry)]
    return Policy(
        expires=_time(document["expiration"]),
        conditions=tuple(_condition(entry) for entry in entries if not _is_length(entry)),
        sizes=sizes[-1] if sizes else None,
    )


def check_signature(fields: Mapping[str, str], secret_of: SecretOf) -> None:
    """Raise S3Error unless the policy was signed with a valid key, by version 4 or 2."""
    policy = fields["policy"].encode()
    if "x-amz-signature" in fields:
        found = _CREDENTIAL.fullmatch(fields.get("x-amz-credential", ""))
        if found is None:
            raise missing_field("X-Amz-Credential")
        secret = _secret(found["key"], fields, secret_of)
        key = signing_key(secret, found["date"], found["region"], "s3")
        expected = hmac.digest(key, policy, hashlib.sha256).hex()
        given = fields["x-amz-signature"]
    else:
        key = _secret(fields.get("awsaccesskeyid", ""), fields, secret_of).encode()
        expected = base64.b64encode(hmac.new(key, policy, hashlib.sha1).digest()).decode()
        given = fields["signature"]
    if not hmac.compare_digest(expected.encode(), given.encode()):
        raise S3Error(
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match the signature you provided. Check"
            " your key and signing method.",
            status=403,
        )


def check_fields(fields: Mapping[str, str]) -> None:
    """Raise S3Error if fields of the signature are missing."""
    needed = (
        ("x-amz-signature", "x-amz-credential", "x-amz-algorithm", "x-amz-date")
        if "x-amz-signature" in fields or "x-amz-credential" in fields
        else ("signature", "awsaccesskeyid")
    )
    for name in needed:
        if name not in fields:
            raise missing_field(name)


def _secret(access_key: str, fields: Mapping[str, str], secret_of: SecretOf) -> str:
    secret = secret_of(access_key, fields.get("x-amz-security-token", ""))
    if secret is None:
        raise S3Error(
            "InvalidAccessKeyId",
            "The AWS Access Key Id you provided does not exist in our records.",
            status=403,
            AWSAccessKeyId=access_key,
        )
    return secret


def _is_length(entry: Any) -> bool:
    return isinstance(entry, list) and bool(entry) and str(entry[0]).lower() == _LENGTH


def _sizes(entry: list[Any]) -> tuple[int, int]:
    numbers = [_integer(value) for value in entry[1:]]
    if len(numbers) != 2 or None in numbers:
        raise _invalid(f"Invalid {_LENGTH} condition: {json.dumps(entry)}")
    return numbers[0] or 0, numbers[1] or 0


def _integer(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    text = str(value)
    return int(text) if text.isdecimal() and len(text) < 20 else None


def _condition(entry: Any) -> tuple[str, str, str]:
    if isinstance(entry, dict):
        if len(entry) != 1:
            raise _invalid(
                "Invalid Simple-Condition: Simple-Conditions must have exactly one property"
                " specified."
            )
        ((name, value),) = entry.items()
        return "eq", name.lower(), str(value)
    if not isinstance(entry, list) or len(entry) != 3:
        raise _invalid(f"Invalid Condition: {json.dumps(entry)}")
    operator, name, value = (str(word) for word in entry)
    if operator.lower() not in {"eq", "starts-with"} or not name.startswith("$"):
        raise _invalid(f"Invalid Condition: {json.dumps(entry)}")
    return operator.lower(), name[1:].lower(), value


def _time(value: Any) -> datetime:
    try:
        time = datetime.fromisoformat(value)
        if "T" in value and time.tzinfo:
            return time.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        """Raised below."""
    raise _invalid(f"Invalid 'expiration' value: '{value}'")


def _denied(why: str) -> S3Error:
    return S3Error("AccessDenied", f"Invalid according to Policy: {why}", status=403)


def _invalid(why: str) -> S3Error:
    return S3Error("InvalidPolicyDocument", f"Invalid Policy: {why}")


def missing_field(name: str) -> S3Error:
    return S3Error(
        "InvalidArgument",
        f"Bucket POST must contain a field named '{name}'.  If it is specified, please check the"
        " order of the fields.",
        ArgumentName=name,
    )
