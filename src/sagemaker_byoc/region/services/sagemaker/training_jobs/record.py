"""A training job's document: what DescribeTrainingJob returns, saved after each change."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from typing import Any

from sagemaker_byoc.contract.lifecycle import clip
from sagemaker_byoc.region.core.polling import Subject
from sagemaker_byoc.region.core.records import Records, now
from sagemaker_byoc.region.services.sagemaker.catalog import echoed
from sagemaker_byoc.region.services.sagemaker.training_jobs.plan import DEFAULT_RUNTIME

Document = dict[str, Any]

DEFAULT_VOLUME = 30
"""GiB, as both SDKs request; a request may leave it out."""


class Status(StrEnum):
    IN_PROGRESS = "InProgress"
    COMPLETED = "Completed"
    FAILED = "Failed"
    STOPPING = "Stopping"
    STOPPED = "Stopped"

    @property
    def has_ended(self) -> bool:
        return self in {Status.COMPLETED, Status.FAILED, Status.STOPPED}


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


SUBJECT = Subject(
    look=_look,
    has_ended=lambda document: Status(document["TrainingJobStatus"]).has_ended,
    hold=5.0,
    settle=2.0,
    sdk_first=45.0,
    sdk_hold=5.0,
)
"""`settle`: SDK 3 sleeps 5 s after each answer with a running job, however short the job is.
`sdk_first`: after an answer with a running job, SDK 2 looks again 30 s later, and at the end of the
job it sleeps 10 s more."""

_BEFORE_STOPPING = frozenset(
    {Secondary.STARTING, Secondary.DOWNLOADING, Secondary.TRAINING, Secondary.INTERRUPTED}
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


class JobRecord:
    """One job's document while it runs; `announce` is called after each change."""

    def __init__(self, name: str, records: Records, announce: Callable[[str], None]) -> None:
        self.name = name
        self._records = records
        self._announce = announce
        self._lock = threading.Lock()

    @property
    def document(self) -> Document:
        document = self._records.get(self.name)
        assert document is not None, self.name
        return document

    @property
    def status(self) -> Status:
        return Status(self.document["TrainingJobStatus"])

    def enter(
        self,
        secondary: Secondary,
        message: str,
        status: Status | None = None,
        **members: object,
    ) -> None:
        """Add a transition, or change the message of the current one.

        A stopping job does not return to an earlier status, and an ended job does not change.
        """
        with self._lock:
            document = self.document
            before = Status(document["TrainingJobStatus"])
            if before.has_ended or (before is Status.STOPPING and secondary in _BEFORE_STOPPING):
                return
            time = now()
            _transition(document, secondary, message, time)
            if status is not None:
                document["TrainingJobStatus"] = status.value
                if status.has_ended:
                    document["SecondaryStatusTransitions"][-1]["EndTime"] = time
            document.update(members)
            document["LastModifiedTime"] = time
            self._records.settle(self.name, document)
        self._announce(self.name)

    def begin_training_time(self) -> None:
        """Set TrainingStartTime, once per job, however often it is interrupted."""
        with self._lock:
            document = self.document
            if "TrainingStartTime" not in document:
                document["TrainingStartTime"] = now()
                self._records.settle(self.name, document)

    def flush(self) -> None:
        """Write what a full disk prevented from being written."""
        self._records.flush()

    def fail(self, reason: str, **members: object) -> None:
        self.enter(
            Secondary.FAILED,
            "Training job failed",
            Status.FAILED,
            FailureReason=clip(reason),
            **members,
        )


def _transition(document: Document, secondary: Secondary, message: str, time: datetime) -> None:
    transitions = document["SecondaryStatusTransitions"]
    last = transitions[-1]
    if last["Status"] == secondary.value:
        last["StatusMessage"] = message
    else:
        last["EndTime"] = time
        transitions.append({"Status": secondary.value, "StartTime": time, "StatusMessage": message})
    document["SecondaryStatus"] = secondary.value
