"""Pods: the settings of `[tool.byoc.train.kubernetes]` and `[tool.byoc.endpoint.kubernetes]`, and
what all pods have: environment, volumes, security, and where they run."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil

from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.contract.files import Json
from sagemaker_byoc.contract.masking import is_secret
from sagemaker_byoc.host import registry_images
from sagemaker_byoc.launch.shared import Shared
from sagemaker_byoc.launch.table import Problems, SettingsError, Table

POD_KEYS: Mapping[str, str] = {
    "namespace": "namespace of all objects (default: that of the kubectl context)",
    "cpus": 'of each pod, such as "2" or "500m"',
    "memory": 'of each pod, such as "4Gi"',
    "gpus": "of each pod (default: 0)",
    "user": "the uid that the container runs as (default: root to train, 10001 to serve)",
    "service-account": "service account of the pods",
    "image-pull-secrets": "names",
    "node-selector": "LABEL = VALUE",
    "secret": "Secret that holds the variables with a secret's name (default: NAME-secrets)",
    "model": '"pvc:CLAIM/FOLDER": where the model goes, or comes from; for KServe also "s3://…"',
}
TRAIN_KEYS: Mapping[str, str] = {
    **POD_KEYS,
    "processes": 'of each pod: a number, "gpu" or "cpu" (default: "auto")',
    "channels": 'NAME = "pvc:CLAIM/FOLDER" for each channel',
    "checkpoints": '"pvc:CLAIM/FOLDER"',
}
GPU = "nvidia.com/gpu"
NAME_LENGTH = 39
"""Longest name: of 63 characters, a hash and `-worker-99` follow it."""
MOST_PODS = 1000
"""With more, the name of the last one would have more than 63 characters."""
_MOST_GPUS = 1024
LONGEST_DEADLINE = 2**31 - 1
"""Seconds of activeDeadlineSeconds (kubernetes: pkg/apis/core/validation)."""
_HASH = 8
_LABEL = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")
"""DNS-1035: a Service, a PyTorchJob and an InferenceService begin with a letter (kubernetes:
apimachinery/pkg/util/validation; training-operator: pytorchjob_webhook.go; kserve: IsvcNameFmt)."""
_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(
    r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*"
)
"""DNS-1123, of most objects' names (kubernetes: apimachinery/pkg/util/validation)."""
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")
_VARIABLE = re.compile(r"(?!\.\.)(?!\.$)[A-Za-z_.-][A-Za-z0-9_.-]*")
"""Strict form; newer clusters take more (kubernetes: RelaxedEnvironmentVariableValidation)."""
_CLAIM = re.compile(r"pvc:(?P<claim>[^/]*)(/(?P<folder>[^/].*))?", re.DOTALL)
_LARGEST_ID = 2**31 - 1
_OBJECT = "Use lower-case letters, digits, hyphens and dots, up to 253"
CLAIM_HINT = 'Write {key} = "pvc:CLAIM/FOLDER", a folder of a PersistentVolumeClaim'


@dataclass(frozen=True, slots=True)
class Claim:
    """A folder of a PersistentVolumeClaim; empty is all of it."""

    name: str
    folder: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSettings:
    where: str
    namespace: str
    resources: Mapping[str, Json]
    """Limits: a container gets what it asks for, and no more."""
    user: int | None
    """None: as the image says."""
    service_account: str
    image_pull_secrets: tuple[str, ...]
    node_selector: Mapping[str, str]
    secret: str
    model: str


def read_pod(table: Table, shared: Shared, name: str, *, user: int | None) -> PodSettings:
    """`name` is that of the objects."""
    uid = table.number("user", user or 0, least=0)
    if uid > _LARGEST_ID:
        table.wrong("user", f"A uid is {_LARGEST_ID} at most")
    secrets = table.texts("image-pull-secrets")
    if not all(map(_SUBDOMAIN.fullmatch, secrets)):
        table.wrong("image-pull-secrets", f"These are names of Secrets. {_OBJECT}")
    selector = table.pairs("node-selector")
    if not all(_is_label(key) and _LABEL_VALUE.fullmatch(text) for key, text in selector.items()):
        table.wrong(
            "node-selector",
            "A label is [DOMAIN/]NAME; name and value have up to 63 letters, digits, - _ and .",
        )
    return PodSettings(
        where=f"{shared.where}: kubernetes",
        namespace=_named(table, "namespace", _NAMESPACE, "Use up to 63 of a-z, 0-9 and hyphens"),
        resources=_resources(table),
        user=uid or None,
        service_account=_named(table, "service-account", _SUBDOMAIN, _OBJECT),
        image_pull_secrets=secrets,
        node_selector=selector,
        secret=_named(table, "secret", _SUBDOMAIN, _OBJECT) or f"{name}-secrets",
        model=table.text("model"),
    )


def _named(table: Table, key: str, pattern: re.Pattern[str], hint: str) -> str:
    value = table.text(key)
    if value and not pattern.fullmatch(value):
        table.wrong(key, hint)
    return value


def _resources(table: Table) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for key, name, judge in (
        ("cpus", "cpu", cpu_fault),
        ("memory", "memory", memory_fault),
    ):
        value = table.plain(key)
        if value is None:
            continue
        if fault := judge(value):
            table.wrong(key, fault)
        found[name] = value
    gpus = table.number("gpus", 0, least=0)
    if gpus > _MOST_GPUS:
        table.wrong("gpus", f"No node has more than {_MOST_GPUS}")
    return found | ({GPU: str(gpus)} if gpus else {})


def pod_table(shared: Shared, keys: Mapping[str, str], problems: Problems) -> Table:
    return Table(f"{shared.where}: kubernetes", dict(shared.kubernetes), keys, problems)


def label(shared: Shared, problems: Problems) -> str:
    """Return the name as Kubernetes takes it: in lower case, a long one cut, with a hash."""
    name = shared.name.lower()
    if _LABEL.fullmatch(name):
        if len(name) <= NAME_LENGTH:
            return name
        digest = hashlib.sha256(name.encode()).hexdigest()[:_HASH]
        return f"{name[: NAME_LENGTH - _HASH - 1].rstrip('-')}-{digest}"
    near = re.sub(r"[^a-z0-9]+", "-", name).strip("-")
    near = near if near[:1].isalpha() else f"n-{near}".rstrip("-")
    problems.report(
        f"{shared.where}: name",
        f"is {shared.name!r}, which Kubernetes does not accept",
        "It begins with a letter; then letters, digits and hyphens: "
        f'name = "{near[:NAME_LENGTH].rstrip("-")}"',
    )
    return "name"


def claim(table: Table, key: str, text: str) -> Claim:
    """Read `pvc:CLAIM/FOLDER`; report a text that is not one."""
    found = _CLAIM.fullmatch(text)
    folder = (found["folder"] or "") if found else ""
    name = found["claim"] if found else ""
    outside = ".." in folder.split("/") or not folder.isprintable()
    if not _SUBDOMAIN.fullmatch(name) or outside:
        table.wrong_value(key, text, CLAIM_HINT.format(key=key))
    return Claim(name, folder)


def refuse_variables(
    shared: Shared, problems: Problems, names: Collection[str], what: str, hint: str
) -> None:
    """Report the variables among `names`; `what` continues the sentence "NAME is"."""
    for name in names:
        if name in shared.environment:
            problems.report(f"{shared.where}: environment.{name}", f"is {what}", hint)


def check_common(shared: Shared, problems: Problems) -> None:
    """Report an image and variables that no pod can have."""
    place = f"{shared.where}: image"
    if not shared.image:
        hint = 'Write image = "REGISTRY/NAME:TAG", or give --image'
        problems.report(place, "is missing", hint)
    else:
        try:
            registry_images.parse(shared.image)
        except RequestError as error:
            problems.add(place, SettingsError(f"{place}: {error.what}", hint=error.hint))
    if shared.instance_count > MOST_PODS:
        place, hint = f"{shared.where}: instance-count", f"Use {MOST_PODS} pods at most"
        problems.report(place, f"is {shared.instance_count}", hint)
    for name, value in shared.environment.items():
        place = f"{shared.where}: environment.{name}"
        if not _VARIABLE.fullmatch(name):
            hint = "Use letters, digits and _, not beginning with a digit"
            problems.report(place, "is not a variable's name", hint)
        elif "\0" in value:
            problems.report(place, "has a NUL character", "Leave the NUL character out")


def _is_label(key: str) -> bool:
    domain, slash, name = key.rpartition("/")
    return bool(
        name and _LABEL_VALUE.fullmatch(name) and (not slash or _SUBDOMAIN.fullmatch(domain))
    )


# ── amounts of CPU and memory, as Kubernetes writes them ──

# Source: kubernetes, apimachinery/pkg/api/resource/quantity.go, and the documentation "Resource
# Management for Pods and Containers".
_QUANTITY = re.compile(
    r"(?P<number>\d+(\.\d*)?|\.\d+)(?P<unit>[numkMGTPE]|[KMGTPE]i|[eE][+-]?\d{1,2})?"
)
_WRITTEN = re.compile(r"\s*(?P<number>\d+(\.\d+)?)\s*(?P<letter>[kmgtpe])i?b?\s*", re.IGNORECASE)
"""What people write: 16GB, 16 gb, 16gib."""
_SMALL = {"n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "m": Fraction(1, 1000)}
_LARGE = "kMGTPE"
_LEAST_MEMORY = 6 * 2**20
"""Bytes: with less no container starts (Docker: the minimum of --memory)."""
_MOST_MEMORY = 2**50
"""Bytes; an API server silently cuts what is above 2**63 - 1 (quantity.go)."""
_MOST_CPUS = 1024


def value_of(text: str) -> Fraction | None:
    """Return the amount; None if `text` is not a quantity above zero that an API server takes."""
    found = _QUANTITY.fullmatch(text)
    if found is None:
        return None
    number, unit = Fraction(found["number"].rstrip(".")), found["unit"] or ""
    if unit[1:] == "i":
        return number * Fraction(1024) ** ("KMGTPE".index(unit[0]) + 1)
    if unit and unit in _LARGE:
        return number * Fraction(1000) ** (_LARGE.index(unit) + 1)
    if unit in _SMALL:
        return number * _SMALL[unit]
    return number * Fraction(10) ** int(unit[1:] or 0)


def memory_fault(text: str) -> str:
    """Return what to write instead, "" if `text` is an amount of memory."""
    amount = value_of(text)
    written = _WRITTEN.fullmatch(text)
    if amount is None and written is not None:
        number, letter = written["number"], written["letter"].upper()
        decimal = "k" if letter == "K" else letter
        return f'Write memory = "{number}{letter}i" (1024s) or "{number}{decimal}" (1000s)'
    if amount is None:
        return 'Write memory = "16Gi", a number and one of Ki, Mi, Gi, Ti, k, M, G, T'
    if amount < _LEAST_MEMORY:
        shown = "less than a byte" if amount < 1 else f"{int(amount)} bytes"
        return f'That is {shown}, too little to start a container: memory = "16Gi"'
    if amount > _MOST_MEMORY:
        return 'That is more than 1 Pi, which no node has: memory = "16Gi"'
    return ""


def cpu_fault(text: str) -> str:
    """Return what to write instead, "" if `text` is a number of CPUs."""
    amount = value_of(text)
    if amount is None or text[-1:] == "i":
        return 'Write cpus = "2", "1.5" or "500m", as Kubernetes counts them'
    thousandths = amount * 1000
    if thousandths < 1:
        return 'The least that Kubernetes shares out is "1m", a thousandth of a CPU'
    if thousandths.denominator != 1:
        return f'Kubernetes counts thousandths of a CPU: cpus = "{ceil(thousandths)}m"'
    if amount > _MOST_CPUS:
        return f'That is {int(amount)} CPUs, which no node has: cpus = "2"'
    return ""


# ── the parts of a manifest ──

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
    """Return the security context; `alone` if the pod itself may not have one."""
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
