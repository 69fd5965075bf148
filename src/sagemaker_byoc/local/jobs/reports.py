"""What a job wrote for Debugger, for its profiler and for TensorBoard, sent where its request said.

SageMaker does so while a job runs; here it is done at its end. Names of the folders in S3: the
SDK's Estimator.latest_job_debugger_artifacts_path and its two neighbours.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sagemaker_byoc.contract.paths import Tree, moved
from sagemaker_byoc.local.storage.store import ObjectStore
from sagemaker_byoc.local.storage.uri import parse_s3_uri

KINDS = (
    ("DebugHookConfig", "/opt/ml/output/tensors", "debug-output"),
    ("ProfilerConfig", "/opt/ml/output/profiler", "profiler-output"),
    ("TensorBoardOutputConfig", "/opt/ml/output/tensorboard", "tensorboard-output"),
)
"""Member of the request, where it writes without a LocalPath, and the folder in S3."""


def upload(document: Mapping[str, Any], trees: Sequence[Tree], store: ObjectStore) -> None:
    """Of a job's description; raises AwsError, or OSError."""
    for member, default, name in KINDS:
        config = document.get(member) or {}
        if not config.get("S3OutputPath"):
            continue
        bucket, prefix = parse_s3_uri(config["S3OutputPath"])
        parameters = config.get("ProfilingParameters") or {}
        local = config.get("LocalPath") or parameters.get("LocalPath") or default
        start = "/".join((*filter(None, prefix.split("/")), document["TrainingJobName"], name))
        for tree in trees:
            folder = moved(tree, local)
            if not folder.is_relative_to(tree.output) or ".." in folder.parts:
                continue  # not one of those that are brought out of a container
            for file in _files(folder):
                store.put_file(bucket, f"{start}/{file.relative_to(folder).as_posix()}", file)


def _files(folder: Path) -> Iterator[Path]:
    """Without links, which may lead anywhere on this machine."""
    for place, _, names in os.walk(folder):
        yield from (
            Path(place, name) for name in sorted(names) if not Path(place, name).is_symlink()
        )
