"""A botocore client of a region: its keys, its URL, and nothing of the user's AWS settings."""

from __future__ import annotations

from typing import Any

from sagemaker_byoc.local.account import DEFAULT_REGION
from sagemaker_byoc.local.environ import ACCESS_KEY, SECRET_KEY


def make_client(service: str, url: str, *, region: str = DEFAULT_REGION, **config: Any) -> Any:
    """`service` as boto3 names it; the client is the one that boto3 would make.
    `config` are further options of botocore's Config.

    botocore is imported here because it takes longer to import than the commands without it to run.
    """
    from botocore.config import Config  # noqa: PLC0415
    from botocore.session import Session  # noqa: PLC0415

    session = Session(session_vars={"profile": (None, None, None, None)})
    return session.create_client(
        service,
        region_name=region,
        endpoint_url=url,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=Config(proxies={}, s3={"addressing_style": "path"}, **config),
    )
