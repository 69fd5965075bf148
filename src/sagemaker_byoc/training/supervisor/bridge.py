"""The bridge to sagemaker-training: the only file that names it.

It is imported when a job's code lies in S3, and costs a third of a second then.
"""

from __future__ import annotations

from pathlib import Path

from sagemaker_byoc.contract.errors import ContractError


def fetch(uri: str, folder: Path) -> None:
    """Download the .tar.gz at `uri` (s3://…) and unpack it into the empty `folder`."""
    try:
        from sagemaker_training import files  # noqa: PLC0415 - it imports boto3: only when needed
    except ImportError as error:
        raise ContractError(
            where=f"sagemaker_submit_directory {uri}",
            what=f"needs the package sagemaker-training, which can't be imported here ({error})",
            cure="Install it in the image, or give the code as a channel named 'code'",
        ) from error
    try:
        files.download_and_extract(uri, str(folder))
    except Exception as error:  # boto3's and tarfile's errors, and this room may not import boto3
        raise ContractError(
            where=f"sagemaker_submit_directory {uri}",
            what=f"could not be fetched ({type(error).__name__}: {error})",
            cure="Check that the object exists and is a .tar.gz, that the job's role may read it, "
            "and that the job has a network (EnableNetworkIsolation takes it away)",
        ) from error
