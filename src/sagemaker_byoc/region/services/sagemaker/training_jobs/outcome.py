"""How a training job ends: its artifacts in S3, its FailureReason, its last status."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from sagemaker_byoc.contract import archives
from sagemaker_byoc.contract.errors import ByocError, MachineError
from sagemaker_byoc.contract.folders import Entry, OnLeft
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.region.containers.hosts import Why, merged, noting_links, sources
from sagemaker_byoc.region.containers.images import PullError
from sagemaker_byoc.region.services.s3.store.object_store import ObjectStore
from sagemaker_byoc.region.services.sagemaker.jobs.inputs import (
    DownloadError,
)
from sagemaker_byoc.region.services.sagemaker.jobs.outputs import send_all
from sagemaker_byoc.region.services.sagemaker.training_jobs.plan import MODEL_FOLDER, JobPlan
from sagemaker_byoc.region.services.sagemaker.training_jobs.record import (
    Secondary,
    Status,
)
from sagemaker_byoc.region.wire.operations import AwsError

ARCHIVE_TYPE = "application/x-gzip"
REASON_PART = 600
"""Most bytes of the engine's message, which leaves room for where the containers are kept."""
INTERNAL = "InternalServerError: We encountered an internal error. Please try again."
_STOPPED = (Secondary.STOPPED, "Training job stopped", Status.STOPPED)
_ENDS: Mapping[Why | None, tuple[Secondary, str, Status]] = {
    None: (Secondary.COMPLETED, "Training job completed", Status.COMPLETED),
    Why.STOP: _STOPPED,
    Why.CLOSING: _STOPPED,
    Why.RUNTIME: (
        Secondary.MAX_RUNTIME_EXCEEDED,
        "Training job runtime exceeded MaxRuntimeInSeconds provided",
        Status.STOPPED,
    ),
    Why.WAIT: (
        Secondary.MAX_WAIT_TIME_EXCEEDED,
        "Training job wait time exceeded MaxWaitTimeInSeconds provided",
        Status.STOPPED,
    ),
}


def upload_artifacts(
    plan: JobPlan, trees: Mapping[str, Tree], store: ObjectStore, work: Path, on_line: OnLeft
) -> bool:
    """Send model and output data; return False if there is no model. Raise S3Error or OSError."""
    outputs = merged(sources(trees, "output/data"), on_line, keep_links=True)
    _send_archive(plan, store, outputs, work / archives.OUTPUT_ARCHIVE)
    found = sources(trees, "model")
    if not plan.compress:
        start = plan.output_key(MODEL_FOLDER)
        return send_all(store, plan.output_bucket, start, merged(found, on_line), on_line)
    entries = merged(found, on_line, keep_links=True)
    entries = noting_links(entries, archives.MODEL_ARCHIVE, on_line)
    return _send_archive(plan, store, entries, work / archives.MODEL_ARCHIVE)


def _send_archive(
    plan: JobPlan, store: ObjectStore, entries: Iterable[Entry], archive: Path
) -> bool:
    if not archives.pack_entries(entries, archive):
        return False
    key = plan.output_key(archive.name)
    store.put_file(plan.output_bucket, key, archive, content_type=ARCHIVE_TYPE, move=True)
    return True


class UploadError(Exception):
    """The artifacts can't be stored: the bucket is gone, or the disk is full."""


class CollectError(Exception):
    """The containers' folders can't be copied, or the engine lost the containers."""


def _reason_of(error: BaseException) -> str:
    """Return the FailureReason of a job that `error` ended."""
    match error:
        case PullError():
            return f"ClientError: {error.message}"
        case DownloadError() | AwsError():
            text = error.message if isinstance(error, AwsError) else str(error)
            return f"ClientError: Data download failed: {text}"
        case MachineError() | CollectError() | OSError():
            return f"InternalServerError: {error}"
        case ByocError():
            return f"ClientError: {error}"
        case UploadError():
            return f"ClientError: Artifact upload failed: {error}"
    return INTERNAL
