"""The variables that point unmodified AWS clients and SageMaker SDKs at a region."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from sagemaker_byoc.contract.files import write_atomically
from sagemaker_byoc.region.core.account import Account
from sagemaker_byoc.region.core.credentials import Keys
from sagemaker_byoc.region.wire import sts_rules

SDK_CONFIG = "sdk-config.yaml"
URL_VARIABLE = "AWS_ENDPOINT_URL"
ROLE_VARIABLE = "SAGEMAKER_ROLE"
UNSET = (
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_SESSION_TOKEN",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
)
"""A profile's keys and endpoint would win over the variables, a token belongs to other keys."""

_PROXIES = ("http_proxy", "all_proxy")


def default_bucket(account: Account) -> str:
    """As the SageMaker SDK names it."""
    return f"sagemaker-{account.region}-{account.id}"


def variables(url: str, state: Path, account: Account, keys: Keys) -> dict[str, str]:
    """Return what `byoc local env` exports."""
    found = {
        **keys.environ,
        URL_VARIABLE: url,
        "AWS_REGION": account.region,
        "AWS_DEFAULT_REGION": account.region,
        "AWS_EC2_METADATA_DISABLED": "true",
        "SAGEMAKER_USER_CONFIG_OVERRIDE": str(state / SDK_CONFIG),
        ROLE_VARIABLE: account.role,
        sts_rules.VARIABLE: sts_rules.data_path(state, os.environ),
    }
    return found | _no_proxy(os.environ)


def unset(environ: Mapping[str, str]) -> list[str]:
    """Names that must go; an endpoint of one service would win over the one of all."""
    own = [name for name in environ if name.startswith(f"{URL_VARIABLE}_")]
    return [*UNSET, *sorted(own)]


def write_sdk_config(state: Path, account: Account) -> None:
    """What both SageMaker SDKs read; without a bucket of its own they ask the real STS for one."""
    text = (
        "SchemaVersion: '1.0'\n"
        "SageMaker:\n"
        "  PythonSDK:\n"
        "    Modules:\n"
        "      TelemetryOptOut: true\n"
        "      Session:\n"
        f"        DefaultS3Bucket: {default_bucket(account)}\n"
    )
    write_atomically(state / SDK_CONFIG, text.encode())


def _no_proxy(environ: Mapping[str, str]) -> dict[str, str]:
    """A proxy can't reach this machine's own port."""
    lower = {name.lower(): value for name, value in environ.items()}
    if not any(lower.get(name) for name in _PROXIES):
        return {}
    hosts = [host for host in lower.get("no_proxy", "").split(",") if host]
    text = ",".join([*hosts, *({"127.0.0.1"} - set(hosts))])
    return {"NO_PROXY": text, "no_proxy": text}
