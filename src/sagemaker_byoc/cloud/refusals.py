"""What botocore raises, in the user's words: what happened, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sagemaker_byoc.cloud.errors import AwsError
from sagemaker_byoc.contract.errors import ByocError, MachineError, RequestError
from sagemaker_byoc.host.aws_calls import Call

_LOG_IN = "Log in: aws configure, aws sso login, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired"})
_UNKNOWN = frozenset(
    {"InvalidClientTokenId", "UnrecognizedClientException", "SignatureDoesNotMatch"}
)
_DENIED = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"})


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


def not_aws(call: Call, what: str) -> MachineError:
    """Return the error for an answer that no AWS service gives."""
    return MachineError(
        f"the answer to {call.service} {call.operation} {what}",
        hint="Check AWS_ENDPOINT_URL and HTTPS_PROXY: what answers there is not AWS",
    )


def only(call: Call, answer: Mapping[str, Any], key: str) -> Any:
    """Return the one entry of the list `key`. Raise MachineError if there is not exactly one."""
    entries = answer[key]
    if not isinstance(entries, list) or len(entries) != 1:
        raise not_aws(call, f"has not one entry of {key}")
    return entries[0]


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
    "LimitExceededException": "Delete what nobody needs, or ask AWS for a higher quota",
    "RepositoryNotFoundException": "Check --repository, --account and --region",
    "InvalidParameterException": "Correct what AWS names",
    "ThrottlingException": "Wait a minute and run it again",
    "KmsException": "Let these credentials use the repository's KMS key",
}


def _failure(call: Call, region: str, error: Exception) -> ByocError:
    kind = type(error).__name__
    if kind in {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"}:
        return MachineError("there are no AWS credentials here", hint=_LOG_IN)
    if kind == "ProfileNotFound":
        return RequestError(str(error), hint="Correct AWS_PROFILE, or: aws configure list-profiles")
    if "SSO" in kind or "Token" in kind:
        return MachineError(f"the login has run out: {error}", hint="aws sso login")
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
