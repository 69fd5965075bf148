"""Model data from the object store to the folder that a container sees as /opt/ml/model."""

from __future__ import annotations

import shutil
from pathlib import Path

from sagemaker_byoc.contract import archives
from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.region.containers.health import EndpointError
from sagemaker_byoc.region.services.s3.store.errors import S3Error
from sagemaker_byoc.region.services.s3.store.store import ObjectStore
from sagemaker_byoc.region.services.s3.store.uri import parse_s3_uri
from sagemaker_byoc.region.services.sagemaker.endpoints.variants import ModelData
from sagemaker_byoc.region.services.sagemaker.jobs.inputs import (
    DownloadError,
    Item,
    check_paths,
)
from sagemaker_byoc.region.wire.errors import AwsError


def is_there(data: ModelData, store: ObjectStore) -> bool:
    """Whether the object, or any under the prefix, exists. Raises AwsError for what is no URI."""
    bucket, key = parse_s3_uri(data.uri)
    try:
        if data.is_archive:
            store.get(bucket, key)
            return True
        return next(store.list(bucket, key), None) is not None
    except S3Error as error:
        if error.code in {"NoSuchBucket", "NoSuchKey"}:
            return False
        raise


def fetch(data: ModelData, store: ObjectStore, folder: Path, container: str) -> None:
    """Into the empty `folder`. Raises EndpointError with SageMaker's sentence and the cause."""
    bucket, key = parse_s3_uri(data.uri)
    try:
        if data.is_archive:
            archives.unpack(store.get(bucket, key).path, folder)
        else:
            _copy_prefix(store, bucket, key, folder)
    except (AwsError, ContractError, DownloadError, OSError) as error:
        raise EndpointError(
            f'Failed to download model data for container "{container}" from URL: "{data.uri}". '
            "Please ensure that there is an object located at the URL and that the role passed to "
            f"CreateModel has permissions to download the object. ({error})",
            hint="Mend the object, then create the endpoint again",
        ) from error


def _copy_prefix(store: ObjectStore, bucket: str, prefix: str, folder: Path) -> None:
    infos = [*store.list(bucket, prefix)]
    if not infos:
        raise OSError(f"no object's key begins with {prefix!r}")
    names = {info.key: info.key[len(prefix) :].removeprefix("/") for info in infos}
    files = {key: name for key, name in names.items() if name and not key.endswith("/")}
    check_paths(f"s3://{bucket}/{prefix}", [Item(bucket, key, files[key]) for key in files])
    for key, name in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        # Not a link: what a container writes must not reach the object.
        shutil.copyfile(store.get(bucket, key).path, target)
