"""What a job leaves: the folders of all hosts as one, packed or file by file, sent to S3."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from sagemaker_byoc.contract import archives
from sagemaker_byoc.contract.folders import LEFT_OUT, Entry, OnLeft, left_out, readable, walk
from sagemaker_byoc.contract.paths import DEFAULT_ROOT, Tree
from sagemaker_byoc.region.services.s3.store.errors import S3Error
from sagemaker_byoc.region.services.s3.store.store import ObjectStore
from sagemaker_byoc.region.services.sagemaker.training_jobs.plan import MODEL_FOLDER, JobPlan

ARCHIVE_TYPE = "application/x-gzip"
_CHUNK = 1 << 20

Source = tuple[str, Path, str]
"""A host, its tree, and the folder below the tree's root."""


def upload(
    plan: JobPlan, trees: Mapping[str, Tree], store: ObjectStore, work: Path, on_line: OnLeft
) -> bool:
    """Send model and output data; return False if there was no model. Raises S3Error, OSError."""
    outputs = merged(sources(trees, "output/data"), on_line, keep_links=True)
    _send_archive(plan, store, outputs, work / archives.OUTPUT_ARCHIVE)
    found = sources(trees, "model")
    if not plan.compress:
        start = plan.output_key(MODEL_FOLDER)
        return send_all(store, plan.output_bucket, start, merged(found, on_line), on_line)
    entries = merged(found, on_line, keep_links=True)
    entries = noting_links(entries, archives.MODEL_ARCHIVE, on_line)
    return _send_archive(plan, store, entries, work / archives.MODEL_ARCHIVE)


def sources(trees: Mapping[str, Tree], folder: str) -> list[Source]:
    return [(host, tree.root, folder) for host, tree in trees.items()]


def merged(
    found: Iterable[Source], on_line: OnLeft, *, keep_links: bool = False
) -> Iterator[Entry]:
    """Yield the files of all hosts; of those with one name, the first host's."""
    owners: dict[str, tuple[str, bool]] = {}
    for host, root, folder in found:
        for entry in walk(root, folder, on_line, keep_links=keep_links):
            is_folder = entry.file is None and entry.link is None
            known = owners.setdefault(entry.relative, (host, is_folder))
            shown = readable(str(DEFAULT_ROOT / folder / entry.relative))
            if known == (host, is_folder):
                above = (str(path) for path in PurePosixPath(entry.relative).parents)
                if all(owners.get(path, known)[1] or path == "." for path in above):
                    yield entry
            elif is_folder != known[1]:
                on_line(
                    f"{LEFT_OUT}{shown} of {host} because one host wrote a file where another "
                    "wrote a folder"
                )
            elif not is_folder:
                on_line(f"{shown} was written by {known[0]} and by {host}; {known[0]}'s is kept")


def send_all(
    store: ObjectStore, bucket: str, start: str, entries: Iterable[Entry], on_line: OnLeft
) -> bool:
    """Send each file below the key `start`; return False if there was none."""
    sent = False
    for entry in entries:
        if entry.file is not None:
            send(
                store,
                bucket,
                f"{start}/{entry.relative}" if start else entry.relative,
                entry,
                on_line,
            )
            sent = True
    return sent


def send(store: ObjectStore, bucket: str, key: str, entry: Entry, on_line: OnLeft) -> None:
    """Send an open file of a walk; one whose key S3 can't have is left out with a line."""
    assert entry.file is not None
    try:
        writer = store.open_writer(bucket, key)
    except S3Error as error:
        if error.code != "KeyTooLongError":
            raise
        on_line(left_out(f"…/{entry.relative}", "its key in S3 would be longer than 1024 bytes"))
        return
    with writer, open(entry.file, "rb", buffering=0, closefd=False) as data:
        while chunk := data.read(_CHUNK):
            writer.write(chunk)
        writer.commit()


def noting_links(entries: Iterable[Entry], archive: str, on_line: OnLeft) -> Iterator[Entry]:
    """Yield `entries`; at their end, say that there are links among them."""
    links = 0
    example = ""
    for entry in entries:
        if entry.link is not None:
            links += 1
            example = readable(entry.relative)
        yield entry
    if links:
        on_line(
            f"{archive} holds {links} links, as {example}: hosting may refuse an archive with "
            "links; copy the files instead"
        )


def _send_archive(
    plan: JobPlan, store: ObjectStore, entries: Iterable[Entry], archive: Path
) -> bool:
    if not archives.pack_entries(entries, archive):
        return False
    key = plan.output_key(archive.name)
    store.put_file(plan.output_bucket, key, archive, content_type=ARCHIVE_TYPE, move=True)
    return True
