"""How clients find a region: variables and endpoint rules for unmodified ones, and one of botocore.

Both SageMaker SDKs build `https://sts.REGION.amazonaws.com` themselves for
`get_execution_role()`, `Session().account_id()` and `default_bucket()`. A URL that a program gives
wins over every variable and profile. botocore still asks the service's endpoint rules where to
send a request, and it looks for these rules in the folders of AWS_DATA_PATH first.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sagemaker_byoc.contract.errors import MachineError
from sagemaker_byoc.contract.files import write_atomically
from sagemaker_byoc.contract.variables import ROLE, USER_CONFIG
from sagemaker_byoc.region.core.account import DEFAULT_REGION, Account, Keys, read_keys
from sagemaker_byoc.region.core.state_folder import default_state, read_address

SDK_CONFIG = "sdk-config.yaml"
URL_VARIABLE = "AWS_ENDPOINT_URL"
UNSET = (
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_SESSION_TOKEN",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
)
"""The keys and the endpoint of a profile win over variables; a token belongs to other keys."""

_PROXIES = ("http_proxy", "all_proxy")


def default_bucket(account: Account) -> str:
    """Return the bucket's name as the SageMaker SDK makes it."""
    return f"sagemaker-{account.region}-{account.id}"


def variables(url: str, state: Path, account: Account, keys: Keys) -> dict[str, str]:
    """Return what `byoc local env` exports."""
    found = {
        **keys.environ,
        URL_VARIABLE: url,
        "AWS_REGION": account.region,
        "AWS_DEFAULT_REGION": account.region,
        "AWS_EC2_METADATA_DISABLED": "true",
        USER_CONFIG: str(state / SDK_CONFIG),
        ROLE: account.role,
        DATA_PATH_VARIABLE: data_path(state, os.environ),
    }
    return found | _no_proxy(os.environ)


def unset(environ: Mapping[str, str]) -> list[str]:
    """Return the names to unset; an endpoint of one service wins over the one of all."""
    own = [name for name in environ if name.startswith(f"{URL_VARIABLE}_")]
    return [*UNSET, *sorted(own)]


def write_sdk_config(state: Path, account: Account) -> None:
    """Write what both SageMaker SDKs read; without a bucket in it they ask the real STS for one."""
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
    """Return variables that exempt this machine: a proxy can't reach its port."""
    lower = {name.lower(): value for name, value in environ.items()}
    if not any(lower.get(name) for name in _PROXIES):
        return {}
    hosts = [host for host in lower.get("no_proxy", "").split(",") if host]
    text = ",".join([*hosts, *({"127.0.0.1"} - set(hosts))])
    return {"NO_PROXY": text, "no_proxy": text}


DATA_PATH_VARIABLE = "AWS_DATA_PATH"
DATA_FOLDER = "botocore"
"""A folder in the state folder; botocore expects only FOLDER/SERVICE/VERSION/FILE in it."""
_STS_RULES = Path("sts", "2011-06-15", "endpoint-rule-set-1.json")
_STS_PARAMETERS = {
    "Region": ("AWS::Region", "string"),
    "UseDualStack": ("AWS::UseDualStack", "boolean"),
    "UseFIPS": ("AWS::UseFIPS", "boolean"),
    "Endpoint": ("SDK::Endpoint", "string"),
    "UseGlobalEndpoint": ("AWS::STS::UseGlobalEndpoint", "boolean"),
}
"""Parameters that botocore passes to the rules of STS; rules must declare each of them."""


def write_sts_rules(state: Path, url: str) -> None:
    """Write the rules for the region at `url`; a region that starts again overwrites them."""
    write_atomically(state / DATA_FOLDER / _STS_RULES, json.dumps(_rule_set(url)).encode())


def data_path(state: Path, environ: Mapping[str, str]) -> str:
    """Return the value of AWS_DATA_PATH: the folder of the rules before those that are set."""
    own = str(state / DATA_FOLDER)
    others = [each for each in environ.get(DATA_PATH_VARIABLE, "").split(os.pathsep) if each]
    return os.pathsep.join([own, *(each for each in others if each != own)])


def _rule_set(url: str) -> dict[str, object]:
    signature = {"name": "sigv4", "signingName": "sts", "signingRegion": "{Region}"}
    endpoint = {"url": url, "properties": {"authSchemes": [signature]}, "headers": {}}
    return {
        "version": "1.0",
        "parameters": {
            name: {"builtIn": built_in, "type": kind, "required": False, "documentation": ""}
            for name, (built_in, kind) in _STS_PARAMETERS.items()
        },
        "rules": [{"conditions": [], "type": "endpoint", "endpoint": endpoint}],
    }


def find_keys(url: str, state: Path | None = None) -> Keys:
    """Return the keys for the region at `url`: those in its `state` folder; else those of the
    default folder, if its region is the one; else those of the environment, which can be those of
    an earlier region at that address.

    Raise MachineError if there are none.
    """
    if state is None:
        address = read_address(default_state())
        if address is not None and address.url == url:
            state = default_state()
    keys = None if state is None else read_keys(state)
    keys = keys or _keys_of_environment()
    if keys is None:
        raise MachineError(
            f"the keys of the region at {url} are unknown",
            hint='Run eval "$(byoc local env)" first, or name its folder with --state',
        )
    return keys


def _keys_of_environment() -> Keys | None:
    if not os.environ.get("AWS_ACCESS_KEY_ID"):
        return None
    return Keys(
        os.environ["AWS_ACCESS_KEY_ID"],
        os.environ.get("AWS_SECRET_ACCESS_KEY", ""),
        os.environ.get("AWS_SESSION_TOKEN", ""),
    )


def make_client(
    service: str,
    url: str,
    keys: Keys | None = None,
    *,
    region: str = DEFAULT_REGION,
    **config: Any,
) -> Any:
    """Return the client of `service` that boto3 would make, signing with `keys`, or with those
    that are found for `url`. `config` are further options of botocore's Config.

    botocore is imported here because it takes longer to import than the commands without it to run.
    """
    from botocore.config import Config  # noqa: PLC0415
    from botocore.session import Session  # noqa: PLC0415

    keys = keys or find_keys(url)
    session = Session(session_vars={"profile": (None, None, None, None)})
    return session.create_client(
        service,
        region_name=region,
        endpoint_url=url,
        aws_access_key_id=keys.access_key,
        aws_secret_access_key=keys.secret_key,
        aws_session_token=keys.token or None,
        config=Config(proxies={}, s3={"addressing_style": "path"}, **config),
    )
