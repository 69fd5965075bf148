"""The bridge to sagemaker-training and to botocore: the only file that names them.

It is imported when a job's code lies in S3, and costs a third of a second then. The image has
sagemaker-training; a Python that runs a job of the local region without an image has botocore.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from sagemaker_byoc.contract.errors import ContractError


def fetch(uri: str, folder: Path) -> None:
    """Download the .tar.gz at `uri` (s3://…) and unpack it into the empty `folder`."""
    try:
        from sagemaker_training import files  # noqa: PLC0415 - it imports boto3: only when needed
    except ImportError:
        files = None
    try:
        if files is None:
            _fetch_alone(uri, folder)
        else:
            files.download_and_extract(uri, str(folder))
    except ImportError as error:
        raise ContractError(
            where=f"sagemaker_submit_directory {uri}",
            what="needs the package sagemaker-training or botocore, and neither can be imported "
            f"here ({error})",
            hint="Install one of them where the program runs, or give the code as a channel "
            "named 'code'",
        ) from error
    except Exception as error:  # boto3's and tarfile's errors, and this room may not import boto3
        raise ContractError(
            where=f"sagemaker_submit_directory {uri}",
            what=f"could not be fetched ({type(error).__name__}: {error})",
            hint="Check that the object exists and is a .tar.gz, that the job's role may read it, "
            "and that the job has a network (EnableNetworkIsolation takes it away)",
        ) from error


def _fetch_alone(uri: str, folder: Path) -> None:
    from botocore.session import Session  # noqa: PLC0415

    from sagemaker_byoc.contract.archives import unpack  # noqa: PLC0415 - it imports tarfile

    bucket, _, key = uri.removeprefix("s3://").partition("/")
    client = Session().create_client("s3", region_name=os.environ.get("AWS_REGION"))
    archive = folder / ".code.tar.gz"
    try:
        with open(archive, "wb") as file:
            shutil.copyfileobj(client.get_object(Bucket=bucket, Key=key)["Body"], file)
        unpack(archive, folder)
    finally:
        archive.unlink(missing_ok=True)
