"""Make the calls of a plan, one after the other, and report what exists if one fails."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from sagemaker_byoc.contract import archives
from sagemaker_byoc.contract.errors import ByocError
from sagemaker_byoc.host.aws_calls import Call, Caller, RefusedError
from sagemaker_byoc.launch.steps import File, Plan, Step, Upload
from sagemaker_byoc.launch.table import SettingsError

PART_BYTES = 64 * 2**20
"""Size of a part; a smaller file is one call. S3 accepts 10,000 parts at most."""
_MOST_PARTS = 10_000
_ABSENT = frozenset(
    {
        "404",
        "NoSuchBucket",
        "NoSuchKey",
        "NotFound",
        "ResourceNotFound",
        "ResourceNotFoundException",
    }
)
_ABSENT_WORDS = ("could not find", "not found", "does not exist")
Say = Callable[[str], None]


class LaunchError(ByocError):
    """A call of the plan failed."""


class UnfinishedError(LaunchError):
    """What was created stays; the message names it, and how to delete it."""


class Sent(Protocol):
    """Gets the bytes that will be uploaded, and those that have been."""

    def expect(self, size: int) -> None: ...

    def advance(self, size: int) -> None: ...


class _Unseen:
    """Progress that is not shown."""

    def expect(self, size: int) -> None: ...

    def advance(self, size: int) -> None: ...


def execute(plan: Plan, caller: Caller, say: Say, sent: Sent | None = None) -> list[str]:
    """Return what was made. Raise LaunchError, without secrets in it, for the first failure."""
    made: list[tuple[str, str]] = []
    for step in plan.steps:
        try:
            if isinstance(step, Upload):
                _upload(step, caller, say, made, sent or _Unseen())
            else:
                _make(step, caller, say, made)
        except OSError as error:
            what, hint = f"{step.makes}: {error}", "Check that the files can be read"
            raise _explained(LaunchError(what, hint=hint), plan, step, made) from error
        except Exception as error:
            raise _explained(error, plan, step, made) from error
    return [what for what, _ in made]


def find(call: Call, caller: Caller) -> dict[str, Any] | None:
    """Return the answer, None if the thing is absent. Raise RefusedError for another refusal."""
    try:
        return caller.call(call)
    except RefusedError as refusal:
        words = refusal.what.lower()
        absent = refusal.code in _ABSENT or (
            refusal.code == "ValidationException" and any(word in words for word in _ABSENT_WORDS)
        )
        if absent:
            return None
        raise


def _make(step: Step, caller: Caller, say: Say, made: list[tuple[str, str]]) -> None:
    found = None if step.look is None else find(step.look, caller)
    if found is None:
        caller.call(step.call)
        made.append((step.makes, step.undo))
        say(f"{step.makes}: made")
        return
    status = next((str(found[key]) for key in found if key.endswith("Status")), "")
    same = all(found.get(key) == value for key, value in step.same.items())
    changing = same and step.instead is not None and status not in {"Failed", "Deleting"}
    if status in step.dead and not changing:
        raise SettingsError(f"{step.makes} exists and is {status}", hint=step.dead[status])
    if step.instead is None or same:
        say(f"{step.makes}: exists already{f', {status}' if status else ''}")
        return
    caller.call(step.instead)
    say(f"{step.makes}: updated")


def _upload(
    upload: Upload, caller: Caller, say: Say, made: list[tuple[str, str]], sent: Sent
) -> None:
    there = dict(_listed(upload, caller))
    missing = [file for file in upload.files if not _is_there(file, there)]
    sent.expect(sum(file.size for file in missing))
    for number, file in enumerate(missing):
        if not number:
            made.append((upload.makes, upload.undo))
        if file.path.is_dir():
            with tempfile.TemporaryDirectory(prefix="byoc-launch-") as scratch:
                archive = Path(scratch) / archives.MODEL_ARCHIVE
                archives.pack(file.path, archive)
                sent.expect(archive.stat().st_size - file.size)
                _put(caller, upload.bucket, file.key, archive, sent)
        else:
            _put(caller, upload.bucket, file.key, file.path, sent)
    count = f"{len(missing)} of {len(upload.files)} files uploaded"
    what = count if missing else "exists already"
    say(f"{upload.makes}: {what}")


def _is_there(file: File, there: dict[str, int]) -> bool:
    """A packed folder has another size than its files; its hash is in its prefix."""
    size = there.get(file.key)
    return size is not None and (file.path.is_dir() or size == file.size)


def _listed(upload: Upload, caller: Caller) -> Iterator[tuple[str, int]]:
    asked: dict[str, Any] = {"Bucket": upload.bucket, "Prefix": upload.prefix}
    while True:
        page = caller.call(Call("s3", "ListObjectsV2", asked))
        for entry in page.get("Contents", ()):
            yield entry["Key"], entry["Size"]
        if not page.get("IsTruncated"):
            return
        asked["ContinuationToken"] = page["NextContinuationToken"]


def _put(caller: Caller, bucket: str, key: str, path: Path, sent: Sent) -> None:
    place = {"Bucket": bucket, "Key": key}
    size = path.stat().st_size
    if size <= PART_BYTES:
        with path.open("rb") as body:
            caller.call(Call("s3", "PutObject", {**place, "Body": body}))
        sent.advance(size)
        return
    part_bytes = max(PART_BYTES, -(-size // _MOST_PARTS))
    begun = caller.call(Call("s3", "CreateMultipartUpload", place))
    asked = {**place, "UploadId": begun["UploadId"]}
    try:
        parts: list[dict[str, Any]] = []
        with path.open("rb") as file:
            while block := file.read(part_bytes):
                number = len(parts) + 1
                part = {**asked, "PartNumber": number, "Body": block}
                tag = caller.call(Call("s3", "UploadPart", part))["ETag"]
                parts.append({"PartNumber": number, "ETag": tag})
                sent.advance(len(block))
        done = {**asked, "MultipartUpload": {"Parts": parts}}
        caller.call(Call("s3", "CompleteMultipartUpload", done))
    except BaseException:
        # Or its parts are stored, and paid for.
        caller.call(Call("s3", "AbortMultipartUpload", asked))
        raise


def _explained(
    error: Exception, plan: Plan, step: Step | Upload, made: list[tuple[str, str]]
) -> Exception:
    """Return the same error if nothing was made, else one with what exists and how to undo it."""
    if not isinstance(error, ByocError):
        return error
    mask = plan.masker()
    what, hint = mask(error.sentence), mask(error.hint)
    if made:
        there = "; ".join(name for name, _ in made)
        undo = " && ".join(command for _, command in reversed(made))
        what = f"{step.makes} could not be made: {what}. Made before it, and still there: {there}"
        hint = f"{hint}. Run it again to continue from there, or undo it: {undo}"
        return UnfinishedError(what, hint=hint)
    error.mask(mask)
    return error
