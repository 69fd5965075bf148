"""Folders of a job's containers and their places in S3: synced folders and reports.

Synced folders, such as that of the checkpoints, are sent while the containers run; checkpoints are
restored before. The files of Debugger, of the profiler and of TensorBoard are sent at the end;
SageMaker sends them while the job runs.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sagemaker_byoc.contract import archives
from sagemaker_byoc.contract.folders import Entry, OnLeft, left_out, walk
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.region.containers import hosts
from sagemaker_byoc.region.engines.container import Container
from sagemaker_byoc.region.services.s3.store.object_store import ObjectStore
from sagemaker_byoc.region.services.s3.store.objects import S3Error, parse_s3_uri
from sagemaker_byoc.region.services.sagemaker.jobs.inputs import (
    DownloadError,
    Item,
    check_paths,
    copy_file,
)

LOG = logging.getLogger(__name__)

INTERVAL = 2.0
"""Seconds between two scans of the folders; SageMaker's interval is not published."""
SHARE = 0.1
"""Largest share of the time that scanning and copying may take."""

Place = tuple[str, str]
"""A host, and a path below its folder."""
Mark = tuple[int, int]
"""Size and mtime, in nanoseconds."""
_CHUNK = 1 << 20
ARCHIVE_TYPE = "application/x-gzip"
_LINK = "it is a link, and SageMaker follows none when it uploads"
"""Developer guide: byoc-input-and-output."""


def restore(store: ObjectStore, plan: SyncedFolder, tree: Tree) -> int:
    """Copy every object below the prefix into the host's folder and return their number.

    Raise DownloadError.
    """
    folder = tree.root / plan.folder
    folder.mkdir(parents=True, exist_ok=True)
    prefix = f"{plan.prefix}/" if plan.prefix else ""
    count = 0
    try:
        infos = [info for info in store.list(plan.bucket, prefix) if not info.key.endswith("/")]
        check_paths(
            plan.uri,
            [Item(plan.bucket, info.key, info.key.removeprefix(prefix)) for info in infos],
        )
        for info in infos:
            target = folder / info.key.removeprefix(prefix)
            target.parent.mkdir(parents=True, exist_ok=True)
            copy_file(store.get(plan.bucket, info.key).path, target)
            # Whole seconds, which every engine keeps: the file is then not taken for a changed one.
            os.utime(target, (int(time.time()),) * 2)
            count += 1
    except (S3Error, OSError) as error:
        raise DownloadError(f"the {plan.what} of {plan.uri}: {error}") from error
    return count


class FolderSync(threading.Thread):
    """Send what the containers write, once a file has not changed between two scans.

    A file that is deleted in a container stays in S3. If two hosts write one name, the file that
    is sent last is kept.
    """

    def __init__(
        self,
        store: ObjectStore,
        plan: SyncedFolder,
        trees: Mapping[str, Tree],
        on_line: Callable[[str], None],
    ) -> None:
        """`on_line` receives the same sentence at every scan while its cause lasts."""
        super().__init__(daemon=True, name=f"sync-{plan.folder}")
        self._store = store
        self._plan = plan
        self._trees = trees
        self._on_line = on_line
        self._containers: Mapping[str, Container] = {}
        self._sent = {place: mark for place, mark, _ in self._files()} if plan.is_restored else {}
        self._seen: dict[Place, Mark] = {}
        self._over = threading.Event()

    def follow(self, containers: Mapping[str, Container]) -> None:
        self._containers = containers
        self.start()

    def close(self) -> None:
        """End the thread; `finish` sends the rest."""
        self._over.set()
        if self.ident is not None:
            self.join()

    def finish(self) -> str | None:
        """Send the rest, after the containers have ended and their folders are on this machine.

        Return why that was not possible, or None.
        """
        self.close()
        return self._scan(lambda *_: True)

    def run(self) -> None:
        pause = INTERVAL
        while not self._over.wait(pause):
            began = time.monotonic()
            try:
                for container in self._containers.values():
                    container.fetch(self._plan.folder, self._on_line)
                self._scan(lambda place, mark: self._seen.get(place) == mark)
            except Exception as error:  # a later scan may succeed; the last one is reported
                LOG.exception("%s of %s", self._plan.what, self._plan.uri)
                self._on_line(f"the {self._plan.what} can't be read, which is tried again: {error}")
            pause = max(INTERVAL, (time.monotonic() - began) / SHARE)

    def _scan(self, is_settled: Callable[[Place, Mark], bool]) -> str | None:
        """Send what is settled and has not been sent; return why a file could not be, or None."""
        seen = {}
        failure = None
        try:
            for place, mark, entry in self._files():
                seen[place] = mark
                if failure is None and is_settled(place, mark) and self._sent.get(place) != mark:
                    failure = self._send(place, mark, entry)
        except OSError as error:
            failure = self._fail(error)
        self._seen = seen
        return failure

    def _files(self) -> Iterator[tuple[Place, Mark, Entry]]:
        for host, tree in self._trees.items():
            for entry in self._walk(tree):
                if entry.file is not None:
                    mark = (entry.status.st_size, entry.status.st_mtime_ns)
                    yield (host, entry.relative), mark, entry

    def _walk(self, tree: Tree) -> Iterator[Entry]:
        if self._plan.follows_links:
            return walk(tree.root, self._plan.folder, self._on_line)
        return walk_files(tree, self._plan.folder, self._on_line)

    def _send(self, place: Place, mark: Mark, entry: Entry) -> str | None:
        prefix = self._plan.prefix
        key = f"{prefix}/{entry.relative}" if prefix else entry.relative
        try:
            send(self._store, self._plan.bucket, key, entry, self._on_line)
        except (S3Error, OSError) as error:
            return self._fail(error)
        self._sent[place] = mark
        return None

    def _fail(self, error: Exception) -> str:
        failure = f"{self._plan.what} can't be sent to {self._plan.uri}: {error}"
        self._on_line(failure)
        return failure


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncedFolder:
    """A folder of each host that is sent to S3 while its container runs."""

    what: str
    """In sentences: `checkpoints`."""
    uri: str
    bucket: str
    prefix: str
    folder: str
    """Relative to /opt/ml."""
    is_restored: bool = False
    """Whether all that it holds at the start is in S3 already."""
    follows_links: bool = True
    """Whether links that stay inside /opt/ml are followed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportPlan:
    """A folder that Debugger, the profiler or TensorBoard writes, and its destination in S3."""

    name: str
    bucket: str
    prefix: str
    folder: str
    """Relative to /opt/ml, or absolute."""

    @property
    def is_outside(self) -> bool:
        return self.folder.startswith("/")


def location(uri: str) -> tuple[str, str]:
    """Return the bucket and the prefix, without slashes around it. Raise AwsError."""
    bucket, prefix = parse_s3_uri(uri)
    return bucket, prefix.strip("/")


def walk_files(tree: Tree, folder: str, on_left: OnLeft) -> Iterator[Entry]:
    """Yield what is in a folder of the tree; leave out each link, and a folder that is one."""
    if (tree.root / folder).is_symlink():
        on_left(left_out(folder, _LINK))
        return
    for entry in walk(tree.root, folder, on_left, keep_links=True):
        if entry.link is None:
            yield entry
        else:
            on_left(left_out(f"{folder}/{entry.relative}", _LINK))


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


def send_archive(
    store: ObjectStore, bucket: str, key: str, entries: Iterable[Entry], archive: Path
) -> bool:
    """Pack the entries into the file `archive` and send it; return False if there were none."""
    if not archives.pack_entries(entries, archive):
        return False
    store.put_file(bucket, key, archive, content_type=ARCHIVE_TYPE, move=True)
    return True


def send(store: ObjectStore, bucket: str, key: str, entry: Entry, on_line: OnLeft) -> None:
    """Send an open file of a walk. A file whose key is too long for S3 is left out with a line."""
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


def upload_reports(
    reports: Sequence[ReportPlan], trees: Mapping[str, Tree], store: ObjectStore, on_line: OnLeft
) -> None:
    """Send each report to its place. Raise AwsError or OSError."""
    for report in reports:
        if report.is_outside:
            found = [(host, outside(tree, report), "") for host, tree in trees.items()]
            found = [source for source in found if source[1].is_dir()]
        else:
            found = hosts.sources(trees, report.folder)
        files = hosts.merged(found, on_line)
        send_all(store, report.bucket, report.prefix, files, on_line)


def outside(tree: Tree, report: ReportPlan) -> Path:
    """Return the host's folder for a report that the container writes outside of /opt/ml."""
    return tree.root.with_name("outside") / report.name
