"""What a job wrote for Debugger, for its profiler and for TensorBoard, sent where its request said.

SageMaker does so while a job runs; here it is done at its end. Names of the folders in S3: the
SDK's Estimator.latest_job_debugger_artifacts_path and its two neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from sagemaker_byoc.contract.folders import OnLeft
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.region.containers import results
from sagemaker_byoc.region.services.s3.store.store import ObjectStore
from sagemaker_byoc.region.services.sagemaker.training_jobs.plan import ReportPlan


def upload(
    reports: Sequence[ReportPlan], trees: Mapping[str, Tree], store: ObjectStore, on_line: OnLeft
) -> None:
    """Raises AwsError, or OSError."""
    for report in reports:
        if report.is_outside:
            found = [(host, outside(tree, report), "") for host, tree in trees.items()]
            found = [source for source in found if source[1].is_dir()]
        else:
            found = results.sources(trees, report.folder)
        files = results.merged(found, on_line)
        results.send_all(store, report.bucket, report.prefix, files, on_line)


def outside(tree: Tree, report: ReportPlan) -> Path:
    """Return the host's folder for a report that the container writes outside of /opt/ml."""
    return tree.root.with_name("outside") / report.name
