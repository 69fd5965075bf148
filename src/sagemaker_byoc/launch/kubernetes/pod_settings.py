"""`[tool.byoc.train.kubernetes]` and `[tool.byoc.endpoint.kubernetes]`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.contract.files import Json
from sagemaker_byoc.host import image_reference
from sagemaker_byoc.launch.kubernetes import quantities
from sagemaker_byoc.launch.problems import Problems, SettingsError
from sagemaker_byoc.launch.shared import Shared
from sagemaker_byoc.launch.table import Table

POD_KEYS: Mapping[str, str] = {
    "namespace": "of all that is made (default: that of the kubectl context)",
    "cpus": 'of each pod, such as "2" or "500m"',
    "memory": 'of each pod, such as "4Gi"',
    "gpus": "of each pod (default: 0)",
    "user": "the uid that the container runs as (default: root to train, 10001 to serve)",
    "service-account": "of the pods",
    "image-pull-secrets": "names",
    "node-selector": "LABEL = VALUE",
    "secret": "the Secret that holds what has a secret's name (default: NAME-secrets)",
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
"""Of 63: a hash and `-worker-99` come behind it."""
MOST_PODS = 1000
"""Then the name of the last one still has 63 characters."""
_MOST_GPUS = 1024
LONGEST_RUN = 2**31 - 1
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
        ("cpus", "cpu", quantities.cpu_fault),
        ("memory", "memory", quantities.memory_fault),
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
    problems.add(
        f"{shared.where}: name",
        SettingsError(
            f"{shared.where}: name is {shared.name!r}, which Kubernetes would not take",
            hint="It begins with a letter; then letters, digits and hyphens: "
            f'name = "{near[:NAME_LENGTH].rstrip("-")}"',
        ),
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
            place = f"{shared.where}: environment.{name}"
            problems.add(place, SettingsError(f"{place} is {what}", hint=hint))


def check_common(shared: Shared, problems: Problems) -> None:
    """Report an image and variables that no pod can have."""
    place = f"{shared.where}: image"
    if not shared.image:
        hint = 'Write image = "REGISTRY/NAME:TAG", or give --image'
        problems.add(place, SettingsError(f"{place} is missing", hint=hint))
    else:
        try:
            image_reference.parse(shared.image)
        except RequestError as error:
            problems.add(place, SettingsError(f"{place}: {error.what}", hint=error.hint))
    if shared.instance_count > MOST_PODS:
        place = f"{shared.where}: instance-count"
        what = f"{place} is {shared.instance_count}"
        problems.add(place, SettingsError(what, hint=f"Use {MOST_PODS} pods at most"))
    for name, value in shared.environment.items():
        place = f"{shared.where}: environment.{name}"
        if not _VARIABLE.fullmatch(name):
            hint = "Use letters, digits and _, not beginning with a digit"
            problems.add(
                place, SettingsError(f"{place}: {name!r} is not a variable's name", hint=hint)
            )
        elif "\0" in value:
            hint = "Leave the NUL character out"
            problems.add(place, SettingsError(f"{place} has a NUL character", hint=hint))


def _is_label(key: str) -> bool:
    domain, slash, name = key.rpartition("/")
    return bool(
        name and _LABEL_VALUE.fullmatch(name) and (not slash or _SUBDOMAIN.fullmatch(domain))
    )
