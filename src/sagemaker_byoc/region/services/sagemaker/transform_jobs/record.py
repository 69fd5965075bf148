"""A transform job's document: what DescribeTransformJob returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sagemaker_byoc.region.core.records import now
from sagemaker_byoc.region.services.sagemaker import state_changes
from sagemaker_byoc.region.services.sagemaker.jobs.job import JobKind, Status, job_subject
from sagemaker_byoc.region.services.sagemaker.resources import echoed
from sagemaker_byoc.region.wire.operations import Parameters

TRANSFORM_JOB = JobKind(
    noun="transform job",
    member="TransformJob",
    resource="transform-job",
    folder="transform-jobs",
    group="/aws/sagemaker/TransformJobs",
    times="Transform",
    mark="transform_",
    order="Descending",
    subject=job_subject("TransformJob"),
    event=state_changes.TRANSFORM_JOB,
)
_DEFAULTS = {
    "TransformInput": {"CompressionType": "None", "SplitType": "None"},
    "TransformOutput": {"AssembleWith": "None", "KmsKeyId": ""},
    "DataProcessing": {"InputFilter": "$", "OutputFilter": "$", "JoinSource": "None"},
}
"""What AWS describes if the request leaves it out."""


def new_document(request: Mapping[str, Any], arn: str) -> Parameters:
    time = now()
    defaults = {
        member: {**values, **(request.get(member) or {})} for member, values in _DEFAULTS.items()
    }
    return {
        **echoed(dict(request), "DescribeTransformJobResponse"),
        **defaults,
        "TransformJobArn": arn,
        "TransformJobStatus": Status.IN_PROGRESS.value,
        "CreationTime": time,
        "LastModifiedTime": time,
    }
