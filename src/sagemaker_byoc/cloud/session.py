"""AWS with the environment's credentials: region, account, calls and their failures.

What botocore raises becomes an error of ours: what happened, and what to do about it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sagemaker_byoc.contract.errors import ByocError, MachineError, RequestError
from sagemaker_byoc.contract.installation import add_extra
from sagemaker_byoc.host.aws_calls import Call, RefusedError, not_aws, note

ATTEMPTS = 5
"""Attempts per call, with botocore's waits, if AWS is busy or the connection breaks."""
_CONNECT_SECONDS, _READ_SECONDS = 10.0, 60.0
_REGION = re.compile(r"[a-z]{2,4}(-[a-z]+)+-\d{1,2}")
_ACCOUNT = re.compile(r"\d{12}")

_LOG_IN = "Log in: aws configure, aws sso login, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired"})
_UNKNOWN = frozenset(
    {"InvalidClientTokenId", "UnrecognizedClientException", "SignatureDoesNotMatch"}
)
_DENIED = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"})


class AwsError(RefusedError):
    """The real AWS refused a call."""


class Cloud:
    """One region. Every failure of `call` is a ByocError with what to do about it."""

    def __init__(self, region: str) -> None:
        self.region = region
        self._clients: dict[str, Any] = {}

    def call(self, call: Call) -> dict[str, Any]:
        note(call, self.region)
        with explained(call, self.region):
            answer = getattr(self._client(call.service), call.method)(**call.parameters)
            return Answer(call, answer)

    def endpoint(self, service: str) -> str:
        """Where calls of a service go: AWS's, or what AWS_ENDPOINT_URL or a profile says."""
        with explained(Call(service, "Endpoint"), self.region):
            return str(self._client(service).meta.endpoint_url)

    def _client(self, service: str) -> Any:
        if service not in self._clients:
            boto3 = _boto3()
            from botocore.config import Config  # noqa: PLC0415 # most commands never need it

            config = Config(
                retries={"mode": "standard", "max_attempts": ATTEMPTS},
                connect_timeout=_CONNECT_SECONDS,
                read_timeout=_READ_SECONDS,
            )
            session = boto3.session.Session(region_name=self.region)
            self._clients[service] = session.client(service, config=config)
        return self._clients[service]


class Answer(dict[str, Any]):
    """The answer of a service; reading a missing member raises MachineError.

    AWS leaves none of these out; a proxy's page is parsed as an answer without members.
    """

    def __init__(self, call: Call, members: Mapping[str, Any]) -> None:
        super().__init__(members)
        self._call = call

    def __missing__(self, key: str) -> Any:
        raise not_aws(self._call, f"has no {key}")


def resolve_region(chosen: str | None, environment: Mapping[str, str] | None = None) -> str:
    """Return the flag's, AWS_REGION, AWS_DEFAULT_REGION or the profile's. Raise RequestError."""
    given = os.environ if environment is None else environment
    found = chosen or given.get("AWS_REGION") or given.get("AWS_DEFAULT_REGION")
    if not found:
        with explained(Call("sts", "Region"), ""):
            found = _boto3().session.Session().region_name
    if not found:
        raise RequestError(
            "no region is set",
            hint="Give --region eu-west-1, set AWS_REGION, or: aws configure set region eu-west-1",
        )
    if not _REGION.fullmatch(found):
        raise RequestError(f"{found!r} is not a region", hint="Write one as eu-west-1")
    return found


def resolve_account(cloud: Cloud, chosen: str | None) -> str:
    """Return the flag's account, for a registry of another one, or that of the credentials."""
    if chosen is None:
        return str(cloud.call(IDENTITY)["Account"])
    if not _ACCOUNT.fullmatch(chosen):
        raise RequestError(f"--account {chosen!r} is not an account id", hint="Give its 12 digits")
    return chosen


IDENTITY = Call("sts", "GetCallerIdentity")


def _boto3() -> Any:
    try:
        import boto3  # noqa: PLC0415 # most commands never need it
    except ImportError as error:
        raise MachineError(
            "boto3 is not installed", hint=f"Install it: {add_extra('cloud')}"
        ) from error
    return boto3


# ── failures ──


@contextmanager
def explained(call: Call, region: str) -> Iterator[None]:
    """Turn every error of botocore into a ByocError."""
    try:
        from botocore import exceptions  # noqa: PLC0415 # most commands never need it
    except ImportError:
        yield  # without botocore there is no boto3 either, which the caller finds out
        return
    try:
        yield
    except exceptions.ClientError as error:
        raise _refusal(call, region, error.response.get("Error", {})) from error
    except exceptions.BotoCoreError as error:
        raise _failure(call, region, error) from error
    except ValueError as error:  # a malformed AWS_ENDPOINT_URL
        raise RequestError(f"AWS can't be asked: {error}", hint="Check AWS_ENDPOINT_URL") from error
    except (AttributeError, KeyError, TypeError) as error:  # botocore's, of an answer's shape
        raise not_aws(call, f"can't be read: {error}") from error


def _refusal(call: Call, region: str, error: dict[str, Any]) -> ByocError:
    code, message = str(error.get("Code", "")), str(error.get("Message", "")).strip()
    what = f"{call.service} {call.operation} in {region}: {code}: {message}"
    if code in _EXPIRED:
        return MachineError(f"the AWS credentials have expired ({code})", hint=_LOG_IN)
    if code in _UNKNOWN:
        return MachineError(f"AWS doesn't know these credentials ({code})", hint=_LOG_IN)
    if code in _DENIED:
        hint = f"Let these credentials do {call.service}:{call.operation}, or use others"
        return AwsError(code, what, hint=hint)
    return AwsError(code, what, hint=_HINTS.get(code, "Read AWS's words above"))


_HINTS = {
    "LimitExceededException": "Delete what is not needed, or ask AWS for a higher quota",
    "RepositoryNotFoundException": "Check --repository, --account and --region",
    "InvalidParameterException": "Correct what AWS names",
    "ThrottlingException": "Wait a minute and run it again",
    "KmsException": "Let these credentials use the repository's KMS key",
}


def _failure(call: Call, region: str, error: Exception) -> ByocError:
    kind = type(error).__name__
    if kind in {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"}:
        return MachineError("no AWS credentials were found", hint=_LOG_IN)
    if kind == "ProfileNotFound":
        return RequestError(str(error), hint="Correct AWS_PROFILE, or: aws configure list-profiles")
    if "SSO" in kind or "Token" in kind:
        return MachineError(f"the login has expired: {error}", hint="aws sso login")
    if kind == "SSLError":
        return MachineError(
            f"AWS's certificate is not trusted here: {error}",
            hint="Name your proxy's authority in AWS_CA_BUNDLE",
        )
    if kind in {
        "EndpointConnectionError",
        "ConnectTimeoutError",
        "ReadTimeoutError",
        "ConnectionClosedError",
        "ConnectionError",
        "ProxyConnectionError",
    }:
        return MachineError(
            f"{call.service} in {region} can't be reached: {error}",
            hint="Check the region's name, AWS_ENDPOINT_URL, HTTPS_PROXY and the network",
        )
    return RequestError(
        f"{call.service} {call.operation} can't be asked: {error}", hint="Correct what it names"
    )
