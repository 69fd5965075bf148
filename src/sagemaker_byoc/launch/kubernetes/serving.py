"""The serving image as a Deployment with a Service, and as an InferenceService of KServe.

Health, drain and metrics are the image's own: /ping, 25 s after SIGTERM, /metrics. KServe (0.16 and
above) fetches a model from S3 into /opt/ml/model; a Deployment takes it from a volume.

In KServe's serverless mode Knative refuses much of a pod unless its administrator enables it.
Source: knative/serving, pkg/apis/serving/fieldmask.go and k8s_validation.go,
config/core/configmaps/features.yaml; kserve, pkg/constants and pkg/validation/env_policy.go.
"""

from __future__ import annotations

import re

from sagemaker_byoc.contract import http
from sagemaker_byoc.contract.files import Json
from sagemaker_byoc.contract.http import METRICS
from sagemaker_byoc.contract.lifecycle import SERVE_ARGUMENT, SERVE_STOP_GRACE
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.launch.endpoint import EndpointSettings
from sagemaker_byoc.launch.inputs import is_remote
from sagemaker_byoc.launch.kubernetes import pods
from sagemaker_byoc.launch.kubernetes.pods import (
    GPU,
    POD_KEYS,
    PodSettings,
    check_common,
    claim,
    label,
    pod_table,
    read_pod,
    refuse_variables,
)
from sagemaker_byoc.launch.table import Problems, Table

DEPLOYMENT, KSERVE, SERVERLESS = "deployment", "kserve", "kserve-serverless"
UNUSED = (
    "ami-version", "bucket", "download-timeout", "instance-type", "region", "request", "role",
    "security-groups", "serverless", "subnets", "tags",
)  # fmt: skip
"""Keys of the table that only SageMaker has a use for."""
USER = 10001
"""Not root, which a careful cluster does not admit."""
LEAVE_SECONDS = 5
"""Seconds between the decision to end a pod and SIGTERM: requests are still routed to it."""
LONGEST_STARTUP = 86400
_PROBE_SECONDS = 5
_HTTP_PORT = 80
_TREE = Tree()
_MODE = "serving.kserve.io/deploymentMode"
_RAW, _KNATIVE = "RawDeployment", "Serverless"
"""KServe 0.16 and above also calls them Standard and Knative, and takes both words."""
_FETCHED = re.compile(r"s3://[a-z0-9][a-z0-9._-]*(/[^\s?#]*)?")
"""KServe takes it for a URL, whose path ends at ? and # (python/storage: urlparse)."""
_BLOCKED = ("PYTHONPATH",)
_FETCHES = "STORAGE_URI"
"""KServe downloads it into /mnt/models of a custom container (kserve: pkg/apis/serving/v1beta1)."""
_RESERVED = ("PORT", "K_SERVICE", "K_CONFIGURATION", "K_REVISION")
_FLAGS = {
    "node-selector": "kubernetes.podspec-nodeselector",
    "model": "kubernetes.podspec-persistent-volume-claim",
    "gpus": "kubernetes.podspec-tolerations",
}


def deployment(
    settings: EndpointSettings, problems: Problems | None = None
) -> list[dict[str, Json]]:
    """Return the Deployment and its Service.

    Raise SettingsError with all that is wrong, what `problems` has already included.
    """
    shared, found = settings.shared, Problems() if problems is None else problems
    name = label(shared, found)
    table, pod = _read(settings, name, found)
    if is_remote(pod.model):
        hint = 'Nothing fetches it: write model = "pvc:CLAIM/FOLDER", or use --kubernetes kserve'
        table.wrong("model", hint)
    volumes = _volumes(settings, table, pod)
    found.check(shared.where)
    spec = _drained_pod(settings, pod, volumes, SERVE_ARGUMENT.value)
    selector: dict[str, Json] = {"app.kubernetes.io/name": name}
    # Without a count in the settings, what scales the Deployment keeps its own.
    replicas: dict[str, Json] = {"replicas": shared.instance_count} if shared.is_counted else {}
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": pods.metadata(name, pod),
            "spec": {
                **replicas,
                # As an endpoint's update: the new ones serve before an old one goes.
                "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
                "progressDeadlineSeconds": _startup(settings) + 600,
                "selector": {"matchLabels": selector},
                "template": {
                    "metadata": {"labels": selector, "annotations": _annotations()},
                    "spec": spec,
                },
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": pods.metadata(name, pod),
            "spec": {
                "selector": selector,
                "ports": [{"name": "http", "port": _HTTP_PORT, "targetPort": "http1"}],
            },
        },
    ]


def inference_service(
    settings: EndpointSettings, problems: Problems | None = None, *, serverless: bool = False
) -> list[dict[str, Json]]:
    """Return the InferenceService, of KServe's RawDeployment mode or of its serverless one.

    Raise SettingsError with all that is wrong, what `problems` has already included.
    """
    shared, found = settings.shared, Problems() if problems is None else problems
    name = label(shared, found)
    table, pod = _read(settings, name, found)
    names = [*_BLOCKED, *(_RESERVED if serverless else ())]
    hint = "Set it in the image, or leave it out"
    refuse_variables(shared, found, names, "a variable that KServe does not take", hint)
    hint = 'Write kubernetes.model = "s3://BUCKET/PREFIX"'
    refuse_variables(shared, found, (_FETCHES,), "what KServe fetches a model by", hint)
    remote = is_remote(pod.model)
    if remote and not _FETCHED.fullmatch(pod.model):
        table.wrong("model", 'Write model = "s3://BUCKET/PREFIX", without spaces, ? and #')
    volumes = _volumes(settings, table, pod)
    if serverless:
        _refuse_features(table, pod, found)
    found.check(shared.where)
    container = "kserve-container"
    make = _knative_pod if serverless else _drained_pod
    predictor: dict[str, Json] = {
        "minReplicas": shared.instance_count,
        "maxReplicas": shared.instance_count,
        "timeout": http.INVOCATION_TIMEOUT.value,
        **({"storageUris": [{"uri": pod.model, "mountPath": str(_TREE.model)}]} if remote else {}),
        **make(settings, pod, volumes, container),
    }
    mode = {_MODE: _KNATIVE if serverless else _RAW}
    return [
        {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": pods.metadata(name, pod, annotations={**_annotations(), **mode}),
            "spec": {"predictor": predictor},
        }
    ]


def _read(settings: EndpointSettings, name: str, problems: Problems) -> tuple[Table, PodSettings]:
    check_common(settings.shared, problems)
    if _startup(settings) > LONGEST_STARTUP:
        place = f"{settings.shared.where}: startup-timeout"
        problems.report(place, f"is {settings.startup_timeout} seconds", "Use a day at most")
    table = pod_table(settings.shared, POD_KEYS, problems)
    return table, read_pod(table, settings.shared, name, user=USER)


def _refuse_features(table: Table, pod: PodSettings, problems: Problems) -> None:
    """Report what Knative takes only if its administrator has enabled it."""
    hint = "Knative refuses it unless {} is enabled in its config-features: use --kubernetes kserve"
    if pod.node_selector:
        table.wrong("node-selector", hint.format(_FLAGS["node-selector"]))
    if pod.model and not is_remote(pod.model):
        instead = 'or write model = "s3://BUCKET/PREFIX"'
        table.wrong("model", f"{hint.format(_FLAGS['model'])}, {instead}")
    if GPU in pod.resources:
        problems.warn(
            "warning: kubernetes.gpus: a tainted GPU node takes no pod of this service, because "
            f"Knative refuses tolerations unless {_FLAGS['gpus']} is enabled in its "
            "config-features; --kubernetes kserve has them"
        )


def _drained_pod(
    settings: EndpointSettings, pod: PodSettings, volumes: pods.Volumes, container: str
) -> dict[str, Json]:
    """Return a pod that may load as long as SageMaker allows, and finishes its requests."""
    failures = -(-_startup(settings) // _PROBE_SECONDS)
    return {
        **pods.pod_spec(pod),
        "terminationGracePeriodSeconds": LEAVE_SECONDS + SERVE_STOP_GRACE.value,
        "containers": [
            {
                "name": container,
                **_container(settings, pod),
                **pods.container_security(pod, read_only_root=True),
                "startupProbe": {**_ping(), "failureThreshold": failures},
                "readinessProbe": {**_ping(), "failureThreshold": 2},
                "livenessProbe": {**_ping(), "failureThreshold": 12},
                "lifecycle": {"preStop": {"exec": {"command": ["sleep", str(LEAVE_SECONDS)]}}},
                "volumeMounts": volumes.mounts,
            }
        ],
        "volumes": volumes.volumes,
    }


def _knative_pod(
    settings: EndpointSettings, pod: PodSettings, volumes: pods.Volumes, container: str
) -> dict[str, Json]:
    """Return a pod with only what Knative accepts by default.

    No preStop and no grace period, which it refuses; Kubernetes' own 30 seconds are SageMaker's. No
    startupProbe, which older versions refuse, so nothing may kill a pod that still loads.
    """
    return {
        **pods.restricted_pod_spec(pod),
        "containers": [
            {
                "name": container,
                **_container(settings, pod),
                **pods.container_security(pod, read_only_root=True, alone=True),
                "readinessProbe": {**_ping(), "failureThreshold": 2},
                "livenessProbe": {
                    "tcpSocket": {"port": http.PORT.value},
                    "initialDelaySeconds": 30,
                    "periodSeconds": _PROBE_SECONDS,
                    "failureThreshold": 12,
                },
                "volumeMounts": volumes.mounts,
            }
        ],
        "volumes": volumes.volumes,
    }


def _startup(settings: EndpointSettings) -> int:
    return settings.startup_timeout or http.STARTUP_TIMEOUT.value


def _container(settings: EndpointSettings, pod: PodSettings) -> dict[str, Json]:
    return {
        "image": settings.shared.image,
        "args": [SERVE_ARGUMENT.value],
        "ports": [{"name": "http1", "containerPort": http.PORT.value, "protocol": "TCP"}],
        "env": pods.environment(settings.shared.environment, pod),
        **pods.resources(pod),
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def _volumes(settings: EndpointSettings, table: Table, pod: PodSettings) -> pods.Volumes:
    volumes = pods.Volumes()
    volumes.empty("tmp", "/tmp")  # noqa: S108 - the one place that the server writes to
    volumes.shared_memory()
    if pod.model and not is_remote(pod.model):
        place = claim(table, "model", pod.model)
        volumes.claim(place, str(_TREE.model), read_only=True)
    if settings.model and not pod.model:
        hint = (
            f"A pod can't have {settings.model!r}: write kubernetes.model = "
            '"pvc:CLAIM/FOLDER"; with KServe "s3://…" will do too'
        )
        table.wrong("model", hint)
    return volumes


def _ping() -> dict[str, Json]:
    return {
        "httpGet": {"path": http.PING.value, "port": http.PORT.value},
        "periodSeconds": _PROBE_SECONDS,
        "timeoutSeconds": http.PING_TIMEOUT.value,
    }


def _annotations() -> dict[str, Json]:
    return {
        "prometheus.io/scrape": "true",
        "prometheus.io/path": METRICS.value,
        "prometheus.io/port": str(http.PORT.value),
    }
