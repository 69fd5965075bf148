"""Checkpoints: out of S3 before the containers start, into S3 while they run and at the end."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.local.engines.container import Container
from sagemaker_byoc.local.errors import LocalError
from sagemaker_byoc.local.jobs.objects import DownloadError
from sagemaker_byoc.local.jobs.plan import CheckpointPlan
from sagemaker_byoc.local.jobs.stage import copy_file
from sagemaker_byoc.local.storage.errors import S3Error
from sagemaker_byoc.local.storage.store import ObjectStore

INTERVAL = 2.0
"""Seconds between two looks at the folders; the service's own is not published."""
SHARE = 0.1
"""Most of the time that looking and copying may take."""

Mark = tuple[int, int]
"""Size and mtime, in nanoseconds."""


def restore(store: ObjectStore, plan: CheckpointPlan, tree: Tree) -> int:
    """Every object below the prefix into the host's folder; how many. Raises DownloadError."""
    folder = tree.root / plan.folder
    folder.mkdir(parents=True, exist_ok=True)
    prefix = f"{plan.prefix}/" if plan.prefix else ""
    count = 0
    try:
        for info in store.list(plan.bucket, prefix):
            if info.key.endswith("/"):
                continue
            target = folder / info.key.removeprefix(prefix)
            if ".." in target.parts:
                raise DownloadError(f"s3://{plan.bucket}/{info.key} leads outside the folder")
            target.parent.mkdir(parents=True, exist_ok=True)
            copy_file(store.get(plan.bucket, info.key).path, target)
            # Whole seconds are what comes back out of every engine: the file is not news then.
            os.utime(target, (int(time.time()),) * 2)
            count += 1
    except (S3Error, OSError) as error:
        raise DownloadError(f"the checkpoints of {plan.uri}: {error}") from error
    return count


class CheckpointSync(threading.Thread):
    """Copies what the containers write: files that have not changed between two looks.

    What is deleted in a container stays in S3. A name that two hosts write is theirs to mend: the
    file that changed last is there.
    """

    def __init__(
        self,
        store: ObjectStore,
        plan: CheckpointPlan,
        trees: Mapping[str, Tree],
        on_line: Callable[[str], None],
    ) -> None:
        super().__init__(daemon=True, name="checkpoints")
        self._store = store
        self._plan = plan
        self._folders = {host: tree.root / plan.folder for host, tree in trees.items()}
        self._on_line = on_line
        self._containers: Mapping[str, Container] = {}
        self._sent: dict[Path, Mark] = dict(self._files())
        self._seen: dict[Path, Mark] = {}
        self._over = threading.Event()
        self._failed = False

    def follow(self, containers: Mapping[str, Container]) -> None:
        self._containers = containers
        self.start()

    def close(self) -> None:
        """End the thread; `finish` sends the rest."""
        self._over.set()
        if self.ident is not None:
            self.join()

    def finish(self) -> None:
        """Once the containers have ended and their folders are on the host."""
        self.close()
        self._send(dict(self._files()))

    def run(self) -> None:
        pause = INTERVAL
        while not self._over.wait(pause):
            began = time.monotonic()
            with suppress(LocalError):
                for container in self._containers.values():
                    container.fetch(self._plan.folder)
            files = dict(self._files())
            self._send({p: mark for p, mark in files.items() if self._seen.get(p) == mark})
            self._seen = files
            pause = max(INTERVAL, (time.monotonic() - began) / SHARE)

    def _files(self) -> Iterator[tuple[Path, Mark]]:
        for folder in self._folders.values():
            for place, _, names in os.walk(folder):
                for name in sorted(names):
                    path = Path(place, name)
                    with suppress(OSError):
                        status = path.stat()
                        if path.is_file():
                            yield path, (status.st_size, status.st_mtime_ns)

    def _send(self, files: Mapping[Path, Mark]) -> None:
        for path, mark in files.items():
            if self._sent.get(path) == mark:
                continue
            try:
                self._store.put_file(self._plan.bucket, self._key(path), path)
            except FileNotFoundError:
                continue
            except (S3Error, OSError) as error:
                if not self._failed:
                    self._on_line(f"byoc: checkpoints can't be sent to {self._plan.uri}: {error}")
                self._failed = True
                return
            self._sent[path] = mark

    def _key(self, path: Path) -> str:
        for folder in self._folders.values():
            if path.is_relative_to(folder):
                relative = path.relative_to(folder).as_posix()
                return f"{self._plan.prefix}/{relative}" if self._plan.prefix else relative
        raise AssertionError(path)
