"""The serving image as a Deployment with a Service, and as an InferenceService of KServe.

Health, drain and metrics are the image's own: /ping, 25 s after SIGTERM, /metrics. KServe (0.16 and
above) fetches a model from S3 into /opt/ml/model; a Deployment takes it from a volume.
"""

from __future__ import annotations

from sagemaker_byoc.contract import http
from sagemaker_byoc.contract.files import Json
from sagemaker_byoc.contract.lifecycle import SERVE_ARGUMENT, SERVE_STOP_GRACE
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.contract.serving import METRICS
from sagemaker_byoc.launch.endpoint import EndpointSettings
from sagemaker_byoc.launch.errors import SettingsError
from sagemaker_byoc.launch.inputs import is_remote
from sagemaker_byoc.launch.kubernetes import pods
from sagemaker_byoc.launch.kubernetes.settings import (
    POD_KEYS,
    PodSettings,
    claim,
    image,
    label,
    pod_table,
    read_pod,
)

DEPLOYMENT, KSERVE = "deployment", "kserve"
USER = 10001
"""No root: no cluster that is careful would let it in."""
LEAVE_SECONDS = 5
"""Between a pod's end being decided and SIGTERM, for those that still route requests to it."""
_PROBE_SECONDS = 5
_HTTP_PORT = 80
_TREE = Tree()


def deployment(settings: EndpointSettings) -> list[dict[str, Json]]:
    """Raises SettingsError."""
    shared = settings.shared
    name, pod = label(shared), _pod(settings)
    if is_remote(pod.model):
        raise SettingsError(
            f"{pod.where}: model is {pod.model!r}, which a Deployment has nobody to fetch",
            cure='Write model = "pvc:CLAIM/FOLDER", or use --kubernetes kserve',
        )
    volumes = _volumes(settings, pod)
    startup = settings.startup_timeout or http.STARTUP_TIMEOUT.value
    container: dict[str, Json] = {
        "name": SERVE_ARGUMENT.value,
        **_container(settings, pod),
        "startupProbe": {**_ping(), "failureThreshold": -(-startup // _PROBE_SECONDS)},
        "readinessProbe": {**_ping(), "failureThreshold": 2},
        "livenessProbe": {**_ping(), "failureThreshold": 12},
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", str(LEAVE_SECONDS)]}}},
        "volumeMounts": volumes.mounts,
    }
    spec: dict[str, Json] = {
        **pods.pod_spec(pod),
        "terminationGracePeriodSeconds": LEAVE_SECONDS + SERVE_STOP_GRACE.value,
        "containers": [container],
        "volumes": volumes.volumes,
    }
    selector: dict[str, Json] = {"app.kubernetes.io/name": name}
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": pods.metadata(name, pod),
            "spec": {
                "replicas": shared.instance_count,
                # As an endpoint's update: the new ones serve before an old one goes.
                "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
                "progressDeadlineSeconds": startup + 600,
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


def inference_service(settings: EndpointSettings) -> list[dict[str, Json]]:
    """Raises SettingsError."""
    shared = settings.shared
    name, pod = label(shared), _pod(settings)
    remote = is_remote(pod.model)
    volumes = _volumes(settings, pod)
    # No preStop and no grace period: KServe's serverless mode refuses both, and Kubernetes' own
    # 30 seconds are SageMaker's. No startupProbe either, so nothing may kill what still loads.
    container: dict[str, Json] = {
        "name": "kserve-container",
        **_container(settings, pod),
        "readinessProbe": {**_ping(), "failureThreshold": 2},
        "livenessProbe": {
            "tcpSocket": {"port": http.PORT.value},
            "initialDelaySeconds": 30,
            "periodSeconds": _PROBE_SECONDS,
            "failureThreshold": 12,
        },
        "volumeMounts": volumes.mounts,
    }
    predictor: dict[str, Json] = {
        **pods.pod_spec(pod),
        "minReplicas": shared.instance_count,
        "maxReplicas": shared.instance_count,
        "timeout": http.INVOCATION_TIMEOUT.value,
        **({"storageUris": [{"uri": pod.model, "mountPath": str(_TREE.model)}]} if remote else {}),
        "containers": [container],
        "volumes": volumes.volumes,
    }
    return [
        {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": pods.metadata(name, pod, annotations=_annotations()),
            "spec": {"predictor": predictor},
        }
    ]


def _pod(settings: EndpointSettings) -> PodSettings:
    return read_pod(pod_table(settings.shared, POD_KEYS), settings.shared, user=USER)


def _container(settings: EndpointSettings, pod: PodSettings) -> dict[str, Json]:
    return {
        "image": image(settings.shared),
        "args": [SERVE_ARGUMENT.value],
        "ports": [{"name": "http1", "containerPort": http.PORT.value, "protocol": "TCP"}],
        "env": pods.environment(settings.shared.environment, pod),
        **pods.resources(pod),
        **pods.container_security(pod, read_only_root=True),
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def _volumes(settings: EndpointSettings, pod: PodSettings) -> pods.Volumes:
    volumes = pods.Volumes()
    volumes.empty("tmp", "/tmp")  # noqa: S108 - the one place that the server writes to
    volumes.shared_memory()
    if pod.model and not is_remote(pod.model):
        place = claim(pod.where, "model", pod.model)
        volumes.claim(place, str(_TREE.model), read_only=True)
    if settings.model and not pod.model:
        raise SettingsError(
            f"{pod.where}: model is missing, and a pod can't have {settings.model!r}",
            cure='Write kubernetes.model = "pvc:CLAIM/FOLDER"; with KServe "s3://…" will do too',
        )
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
