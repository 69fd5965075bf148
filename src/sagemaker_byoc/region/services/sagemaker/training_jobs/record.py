"""A training job's document: what DescribeTrainingJob returns, and the transitions in it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sagemaker_byoc.region.core.records import now
from sagemaker_byoc.region.services.sagemaker import state_changes
from sagemaker_byoc.region.services.sagemaker.jobs.job import (
    DEFAULT_RUNTIME,
    JobKind,
    Stage,
    Status,
    job_subject,
)
from sagemaker_byoc.region.services.sagemaker.resources import echoed

Document = dict[str, Any]

DEFAULT_VOLUME = 30
"""GiB, as both SDKs request; a request may leave it out."""


class Secondary(StrEnum):
    STARTING = "Starting"
    DOWNLOADING = "Downloading"
    TRAINING = "Training"
    UPLOADING = "Uploading"
    STOPPING = "Stopping"
    STOPPED = "Stopped"
    INTERRUPTED = "Interrupted"
    COMPLETED = "Completed"
    FAILED = "Failed"
    MAX_RUNTIME_EXCEEDED = "MaxRuntimeExceeded"
    MAX_WAIT_TIME_EXCEEDED = "MaxWaitTimeExceeded"


def _look(document: Document) -> tuple[str, ...]:
    last = document["SecondaryStatusTransitions"][-1]
    return (document["TrainingJobStatus"], last["Status"], last["StatusMessage"])


_NOTES = {
    Stage.STARTING: (Secondary.STARTING, "Starting the training job"),
    Stage.LAUNCHING: (Secondary.STARTING, "Launching requested ML instances"),
    Stage.PREPARING: (Secondary.STARTING, "Preparing the instances for training"),
    Stage.DOWNLOADING: (Secondary.DOWNLOADING, "Downloading input data"),
    Stage.PULLING: (Secondary.TRAINING, "Downloading the training image"),
    Stage.RUNNING: (
        Secondary.TRAINING,
        "Training image download completed. Training in progress.",
    ),
    Stage.UPLOADING: (Secondary.UPLOADING, "Uploading generated training model"),
    Stage.INTERRUPTED: (
        Secondary.INTERRUPTED,
        "The job stopped because the managed spot training instances were interrupted",
    ),
    Stage.STOPPING: (Secondary.STOPPING, "Stopping the training job"),
    Stage.COMPLETED: (Secondary.COMPLETED, "Training job completed"),
    Stage.STOPPED: (Secondary.STOPPED, "Training job stopped"),
    Stage.OUT_OF_RUNTIME: (
        Secondary.MAX_RUNTIME_EXCEEDED,
        "Training job runtime exceeded MaxRuntimeInSeconds provided",
    ),
    Stage.OUT_OF_WAIT: (
        Secondary.MAX_WAIT_TIME_EXCEEDED,
        "Training job wait time exceeded MaxWaitTimeInSeconds provided",
    ),
    Stage.FAILED: (Secondary.FAILED, "Training job failed"),
}
"""The transition that each stage is, and its message."""


def note_stage(document: Document, stage: Stage, detail: str, time: datetime) -> None:
    """Add a transition, or change the message of the current one."""
    secondary, message = _NOTES[stage]
    message = f"{message}: {detail}" if detail else message
    transitions = document["SecondaryStatusTransitions"]
    last = transitions[-1]
    if last["Status"] == secondary.value:
        last["StatusMessage"] = message
    else:
        last["EndTime"] = time
        transitions.append({"Status": secondary.value, "StartTime": time, "StatusMessage": message})
    if stage.status is not None and stage.status.has_ended:
        transitions[-1]["EndTime"] = time
    document["SecondaryStatus"] = secondary.value


TRAINING_JOB = JobKind(
    noun="training job",
    member="TrainingJob",
    resource="training-job",
    folder="training-jobs",
    group="/aws/sagemaker/TrainingJobs",
    times="Training",
    note=note_stage,
    subject=job_subject("TrainingJob", _look),
    event=state_changes.TRAINING_JOB,
)


def new_document(request: Document, arn: str, model: str) -> Document:
    """Return a new job's document. `model` is the S3 URI of its model, if it leaves one."""
    time = now()
    document = echoed(request, "DescribeTrainingJobResponse")
    stopping = {"MaxRuntimeInSeconds": DEFAULT_RUNTIME, **(request.get("StoppingCondition") or {})}
    return {
        **document,
        **_with_defaults(document),
        "EnableNetworkIsolation": bool(request.get("EnableNetworkIsolation")),
        "EnableManagedSpotTraining": bool(request.get("EnableManagedSpotTraining")),
        "EnableInterContainerTrafficEncryption": bool(
            request.get("EnableInterContainerTrafficEncryption")
        ),
        "StoppingCondition": stopping,
        "TrainingJobArn": arn,
        "ModelArtifacts": {"S3ModelArtifacts": model},
        "TrainingJobStatus": Status.IN_PROGRESS.value,
        "SecondaryStatus": Secondary.STARTING.value,
        "SecondaryStatusTransitions": [
            {
                "Status": Secondary.STARTING.value,
                "StartTime": time,
                "StatusMessage": "Starting the training job",
            }
        ],
        "CreationTime": time,
        "LastModifiedTime": time,
    }


def _with_defaults(document: Document) -> Document:
    """Return the members that AWS always describes in full.

    SDK 2 relies on some of them, as in `Estimator.attach`.
    """
    algorithm = document["AlgorithmSpecification"]
    found: Document = {
        "AlgorithmSpecification": {
            "EnableSageMakerMetricsTimeSeries": bool(algorithm.get("MetricDefinitions")),
            **algorithm,
        },
        "OutputDataConfig": {
            "KmsKeyId": "",
            "CompressionType": "GZIP",
            **document["OutputDataConfig"],
        },
        "ResourceConfig": {"VolumeSizeInGB": DEFAULT_VOLUME, **document["ResourceConfig"]},
        "ProfilingStatus": "Disabled",
    }
    if "InputDataConfig" in document:
        found["InputDataConfig"] = [_channel(each) for each in document["InputDataConfig"]]
    return found


def _channel(asked: Document) -> Document:
    source = dict(asked.get("DataSource", {}))
    if "S3DataSource" in source:
        source["S3DataSource"] = {
            "S3DataDistributionType": "FullyReplicated",
            **source["S3DataSource"],
        }
    return {"CompressionType": "None", "RecordWrapperType": "None", **asked, "DataSource": source}
