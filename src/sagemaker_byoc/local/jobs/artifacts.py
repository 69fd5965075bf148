"""What a job leaves: the folders of all hosts as one, packed, and sent to S3."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sagemaker_byoc.contract import archives
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.local.jobs.plan import MODEL_FOLDER, JobPlan
from sagemaker_byoc.local.jobs.stage import copy_file
from sagemaker_byoc.local.storage.store import ObjectStore

ARCHIVE_TYPE = "application/x-gzip"


def upload(
    plan: JobPlan,
    trees: Mapping[str, Tree],
    store: ObjectStore,
    work: Path,
    on_warning: Callable[[str], None],
) -> bool:
    """Model and output data; False where there was no model. Raises S3Error, or OSError."""
    hosts = [*trees]
    models = merge([trees[host].model for host in hosts], hosts, work / "model", on_warning)
    outputs = merge([trees[host].output_data for host in hosts], hosts, work / "data", on_warning)
    _send_archive(plan, store, outputs, work / archives.OUTPUT_ARCHIVE)
    if plan.compress:
        return _send_archive(plan, store, models, work / archives.MODEL_ARCHIVE)
    return _send_folder(plan, store, models)


def merge(
    folders: Sequence[Path], hosts: Sequence[str], target: Path, on_warning: Callable[[str], None]
) -> Path:
    """One folder with the files of all; of those with one name, the first host's is kept."""
    if len(folders) == 1:
        return folders[0]
    owners: dict[Path, str] = {}
    target.mkdir(parents=True, exist_ok=True)
    shown = "model" if target.name == "model" else "output/data"
    for folder, host in zip(folders, hosts, strict=True):
        for place, _, names in os.walk(folder):
            for name in sorted(names):
                source = Path(place, name)
                relative = source.relative_to(folder)
                owner = owners.setdefault(relative, host)
                if owner != host:
                    on_warning(
                        f"/opt/ml/{shown}/{relative} was written by {owner} and by {host}; "
                        f"{owner}'s is kept"
                    )
                    continue
                try:
                    _take(source, target / relative)
                except (FileExistsError, NotADirectoryError):
                    on_warning(
                        f"/opt/ml/{shown}/{relative} of {host} is left out: "
                        "one host wrote a file where another wrote a folder"
                    )
    return target


def _take(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_symlink():
        target.symlink_to(source.readlink())
        return
    try:
        os.link(source, target)
    except OSError:
        copy_file(source, target)


def _send_archive(plan: JobPlan, store: ObjectStore, folder: Path, archive: Path) -> bool:
    if not archives.pack(folder, archive):
        return False
    key = plan.output_key(archive.name)
    store.put_file(plan.output_bucket, key, archive, content_type=ARCHIVE_TYPE, move=True)
    return True


def _send_folder(plan: JobPlan, store: ObjectStore, folder: Path) -> bool:
    sent = False
    for place, _, names in os.walk(folder):
        for file in sorted(names):
            source = Path(place, file)
            if source.is_file():
                relative = source.relative_to(folder).as_posix()
                store.put_file(
                    plan.output_bucket, plan.output_key(f"{MODEL_FOLDER}/{relative}"), source
                )
                sent = True
    return sent
