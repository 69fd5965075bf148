"""A botocore client of a region, without any of the user's AWS settings."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sagemaker_byoc.contract.errors import MachineError
from sagemaker_byoc.region.core.account import DEFAULT_REGION, Keys, read_keys
from sagemaker_byoc.region.core.state_folder import default_state, read_address


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
