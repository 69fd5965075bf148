"""What all pods have: environment, volumes, security, and where they run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sagemaker_byoc.contract.files import Json
from sagemaker_byoc.contract.masking import is_secret
from sagemaker_byoc.launch.kubernetes.pod_settings import GPU, Claim, PodSettings

MANAGED_BY = {"app.kubernetes.io/managed-by": "byoc"}
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - where torch's data loaders hand over their batches


@dataclass(slots=True)
class Volumes:
    """The volumes of one pod: each claim once, however many of its folders are mounted."""

    volumes: list[Json] = field(default_factory=list)
    mounts: list[Json] = field(default_factory=list)
    _claims: dict[str, str] = field(default_factory=dict)

    def claim(self, claim: Claim, path: str, *, read_only: bool) -> None:
        name = self._claims.get(claim.name)
        if name is None:
            name = self._claims[claim.name] = f"claim-{len(self._claims)}"
            source: Json = {"claimName": claim.name}
            self.volumes.append({"name": name, "persistentVolumeClaim": source})
        mount: dict[str, Json] = {"name": name, "mountPath": path}
        if claim.folder:
            mount["subPath"] = claim.folder
        self.mounts.append(mount | ({"readOnly": True} if read_only else {}))

    def empty(self, name: str, path: str, *, memory: bool = False) -> None:
        source: dict[str, Json] = {"medium": "Memory"} if memory else {}
        self.volumes.append({"name": name, "emptyDir": source})
        self.mounts.append({"name": name, "mountPath": path})

    def shared_memory(self) -> None:
        self.empty("shared-memory", _SHARED_MEMORY, memory=True)

    def config(self, name: str, path: str) -> None:
        self.volumes.append({"name": "config", "configMap": {"name": name}})
        self.mounts.append({"name": "config", "mountPath": path, "readOnly": True})


def environment(values: Mapping[str, str], pod: PodSettings) -> list[Json]:
    """Return the variables; one with a secret's name refers to the Secret instead of its value."""
    return [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": pod.secret, "key": name}}}
        if is_secret(name)
        else {"name": name, "value": literal(value)}
        for name, value in values.items()
    ]


def literal(text: str) -> str:
    """Return what the kubelet turns into `text`, in which it expands $(NAME) and reads $$ as $.

    Source: kubernetes, third_party/forked/golang/expansion/expand.go.
    """
    return text.replace("$", "$$")


def resources(pod: PodSettings) -> dict[str, Json]:
    if not pod.resources:
        return {}
    limits: dict[str, Json] = dict(pod.resources)
    return {"resources": {"limits": limits, "requests": dict(limits)}}


def container_security(
    pod: PodSettings, *, read_only_root: bool, alone: bool = False
) -> dict[str, Json]:
    """Return the security context; `alone` if the pod may not have one of its own."""
    found: dict[str, Json] = {"allowPrivilegeEscalation": False}
    if pod.user is not None:
        found["capabilities"] = {"drop": ["ALL"]}
        if alone:
            found |= _identity(pod.user)
    if read_only_root:
        found["readOnlyRootFilesystem"] = True
    return {"securityContext": found}


def _identity(user: int) -> dict[str, Json]:
    return {
        "runAsNonRoot": True,
        "runAsUser": user,
        "runAsGroup": user,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def restricted_pod_spec(pod: PodSettings) -> dict[str, Json]:
    """Return what is not about a container, as far as Knative accepts it by default."""
    found: dict[str, Json] = {}
    if pod.service_account:
        found["serviceAccountName"] = pod.service_account
    if pod.image_pull_secrets:
        found["imagePullSecrets"] = [{"name": name} for name in pod.image_pull_secrets]
    return found


def pod_spec(pod: PodSettings) -> dict[str, Json]:
    """Return what is not about a container."""
    found = restricted_pod_spec(pod)
    found["automountServiceAccountToken"] = bool(pod.service_account)
    if pod.user is not None:
        found["securityContext"] = {**_identity(pod.user), "fsGroup": pod.user}
    if pod.node_selector:
        found["nodeSelector"] = dict(pod.node_selector)
    if GPU in pod.resources:
        found["tolerations"] = [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}]
    return found


def metadata(name: str, pod: PodSettings, **more: Json) -> dict[str, Json]:
    namespace: dict[str, Json] = {"namespace": pod.namespace} if pod.namespace else {}
    labels: dict[str, Json] = {"app.kubernetes.io/name": name, **MANAGED_BY}
    return {"name": name, **namespace, "labels": labels, **more}
