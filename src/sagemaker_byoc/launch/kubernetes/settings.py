"""`[tool.byoc.train.kubernetes]` and `[tool.byoc.endpoint.kubernetes]`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from sagemaker_byoc.contract.files import Json
from sagemaker_byoc.launch.errors import SettingsError
from sagemaker_byoc.launch.shared import Shared
from sagemaker_byoc.launch.table import Table

POD_KEYS: Mapping[str, str] = {
    "namespace": "of all that is made (default: that of the kubectl context)",
    "cpus": 'of each pod, such as "2"',
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
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_CLAIM = re.compile(r"pvc:(?P<claim>[a-z0-9][a-z0-9.-]*)(/(?P<folder>[^/].*))?")


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


def read_pod(table: Table, shared: Shared, *, user: int | None) -> PodSettings:
    resources: dict[str, Json] = {}
    for key, name in (("cpus", "cpu"), ("memory", "memory")):
        value = table.value(key)
        if value is not None:
            if isinstance(value, bool) or not isinstance(value, str | int):
                table.wrong(key, f'Write {key} = "2", as Kubernetes counts it')
            resources[name] = str(value)
    gpus = table.number("gpus", 0, least=0)
    if gpus:
        resources[GPU] = str(gpus)
    uid = table.number("user", user or 0, least=0)
    return PodSettings(
        where=f"{shared.where}: kubernetes",
        namespace=table.text("namespace"),
        resources=resources,
        user=uid or None,
        service_account=table.text("service-account"),
        image_pull_secrets=table.texts("image-pull-secrets"),
        node_selector=table.pairs("node-selector"),
        secret=table.text("secret") or f"{label(shared)}-secrets",
        model=table.text("model"),
    )


def pod_table(shared: Shared, keys: Mapping[str, str]) -> Table:
    return Table(f"{shared.where}: kubernetes", dict(shared.kubernetes), keys)


def label(shared: Shared) -> str:
    """The name, as Kubernetes takes it. Raises SettingsError."""
    name = shared.name.lower()
    if not _LABEL.fullmatch(name) or len(name) > NAME_LENGTH:
        raise SettingsError(
            f"{shared.where}: name is {shared.name!r}, which Kubernetes would not take",
            cure=f"Use up to {NAME_LENGTH} small letters, digits and hyphens",
        )
    return name


def claim(where: str, key: str, text: str) -> Claim:
    """`pvc:CLAIM/FOLDER`. Raises SettingsError."""
    found = _CLAIM.fullmatch(text)
    if found is None or ".." in (found["folder"] or "").split("/"):
        raise SettingsError(
            f"{where}: {key} is {text!r}",
            cure=f'Write {key} = "pvc:CLAIM/FOLDER", a folder of a PersistentVolumeClaim',
        )
    return Claim(found["claim"], found["folder"] or "")


def image(shared: Shared) -> str:
    if not shared.image:
        raise SettingsError(
            f"{shared.where}: image is missing",
            cure='Write image = "REGISTRY/NAME:TAG", or give --image',
        )
    return shared.image
