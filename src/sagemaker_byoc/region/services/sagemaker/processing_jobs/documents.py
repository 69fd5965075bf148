"""The documents of a processing job: what Describe returns, and the files that a container finds.

Source of the files: developer guide, build-your-own-processing-container. The instance type in
resourceconfig.json is that of the SDK's local mode, in addition to the guide's two members.
"""

from __future__ import annotations

from typing import Any

from sagemaker_byoc.contract.files import write_json
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.region.services.sagemaker.processing_jobs.processing_plan import (
    ProcessingPlan,
    instances_of,
    max_runtime,
)

Document = dict[str, Any]

CONFIG = "config"
"""The folder, relative to /opt/ml; training jobs have input/config."""
JOB_FILE = "processingjobconfig.json"
RESOURCE_FILE = "resourceconfig.json"


def with_defaults(request: Document) -> Document:
    """Return the members that a description has in full, and those that the region chose."""
    cluster = request["ProcessingResources"]["ClusterConfig"]
    kind, count = instances_of(request)
    if cluster.get("InstancePreferences"):
        chosen = {"SelectedInstanceType": kind, "SelectedInstanceCount": count}
    else:
        chosen = {"InstanceCount": count}
    found: Document = {
        "ProcessingResources": {"ClusterConfig": {**chosen, **cluster}},
        "StoppingCondition": {"MaxRuntimeInSeconds": max_runtime(request)},
    }
    if "ProcessingInputs" in request:
        found["ProcessingInputs"] = [_input(each) for each in request["ProcessingInputs"]]
    if "ProcessingOutputConfig" in request:
        config = request["ProcessingOutputConfig"]
        outputs = [{"AppManaged": False, **each} for each in config.get("Outputs") or ()]
        found["ProcessingOutputConfig"] = {**config, "Outputs": outputs}
    return found


def _input(asked: Document) -> Document:
    found = {"AppManaged": False, **asked}
    if "S3Input" in asked:
        found["S3Input"] = {
            "S3DataDistributionType": "FullyReplicated",
            "S3CompressionType": "None",
            **asked["S3Input"],
        }
    return found


def write_config(tree: Tree, plan: ProcessingPlan, request: Document, arn: str, host: str) -> None:
    """Write the two files for the container of `host`."""
    folder = tree.root / CONFIG
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / JOB_FILE, job_config(request, arn))
    write_json(folder / RESOURCE_FILE, resource_config(plan, host))


def job_config(request: Document, arn: str) -> Document:
    """Return the request as a container reads it: an option that it leaves out is null."""
    full = with_defaults(request)
    kind, count = instances_of(request)
    outputs = full.get("ProcessingOutputConfig") or {}
    return {
        "ProcessingJobArn": arn,
        "ProcessingJobName": request["ProcessingJobName"],
        "AppSpecification": {
            "ContainerEntrypoint": None,
            "ContainerArguments": None,
            **request["AppSpecification"],
        },
        "Environment": request.get("Environment") or {},
        "ProcessingInputs": [_download(each) for each in full.get("ProcessingInputs") or ()],
        "ProcessingOutputConfig": {"Outputs": [], "KmsKeyId": None, **outputs},
        "ProcessingResources": {
            "ClusterConfig": {
                "VolumeKmsKeyId": None,
                **request["ProcessingResources"]["ClusterConfig"],
                "InstanceType": kind,
                "InstanceCount": count,
            }
        },
        "NetworkConfig": request.get("NetworkConfig"),
        "RoleArn": request["RoleArn"],
        "StoppingCondition": full["StoppingCondition"],
        "ExperimentConfig": request.get("ExperimentConfig"),
    }


def _download(described: Document) -> Document:
    if described.get("AppManaged") or "S3Input" not in described:
        return described
    return {**described, "S3Input": {**described["S3Input"], "S3DownloadMode": "StartOfJob"}}


def resource_config(plan: ProcessingPlan, host: str) -> Document:
    return {
        "current_host": host,
        "hosts": [*plan.hosts],
        "current_instance_type": plan.instance_type,
    }
