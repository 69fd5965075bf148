"""Data capture of a transform job: manifests of the objects that it read and wrote.

    DESTINATION/input/yyyy/mm/dd/hh/ID.json      [{"prefix": "s3://in/data/"}, "a.csv", …]
    DESTINATION/output/yyyy/mm/dd/hh/ID.json     [{"prefix": "s3://out/at/"}, "a.csv.out", …]

Source: developer guide, model-monitor-data-capture-batch. The hour is that of the job's start; the
names of the files are not documented.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from datetime import datetime

from sagemaker_byoc.contract.capture import hour_folder
from sagemaker_byoc.region.services.s3.store.object_store import ObjectStore
from sagemaker_byoc.region.services.sagemaker.jobs.inputs import Item
from sagemaker_byoc.region.services.sagemaker.transform_jobs.transform_plan import (
    TransformPlan,
)


def write(
    store: ObjectStore, plan: TransformPlan, items: Sequence[Item], started: datetime
) -> None:
    """Write the manifests of the transformed objects. Raise AwsError, OSError."""
    if plan.capture is None or not items:
        return
    items = sorted(items, key=lambda item: item.key)
    source = items[0].key.removesuffix(items[0].relative)  # the same for all
    sides = {
        "input": _manifest(items[0].bucket, source, [item.relative for item in items]),
        "output": _manifest(plan.bucket, plan.folder, [f"{item.relative}.out" for item in items]),
    }
    name = f"{hour_folder(started)}/{uuid.uuid4()}.json"
    for side, manifest in sides.items():
        key = "/".join(filter(None, (plan.capture.prefix, side, name)))
        data = json.dumps(manifest, ensure_ascii=False).encode()
        store.put_bytes(plan.capture.bucket, key, data, content_type="application/json")


def _manifest(bucket: str, prefix: str, names: Sequence[str]) -> list[object]:
    return [{"prefix": f"s3://{bucket}/{prefix}"}, *names]
