"""One push as data: a step that can be printed and run, and what the steps have found out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from sagemaker_byoc.host.image_reference import Reference
from sagemaker_byoc.images.model import DOCKER_MANIFEST, Config, Image, Manifest
from sagemaker_byoc.images.push.programs import How, Layers, Screen
from sagemaker_byoc.images.registry import Login, Registry, Stored

TAG = "TAG"
"""Stands in a plan for twelve digits of the configuration's digest."""
UNKNOWN_REGISTRY = "REGISTRY"
"""Stands in a plan for what an endpoint other than AWS's calls its registry."""
_FOLDER = Path("PRIVATE_FOLDER")
"""Stands in a plan for the temporary folder of the push."""

FindLogin = Callable[[str], Login | None]
"""Return the login of a registry."""


@dataclass(frozen=True, slots=True)
class Step:
    """`do` is a command, or a request; `run` does it, or passes it over if it is not needed."""

    do: str
    run: Callable[[], None]
    why: str = ""


def run_steps(steps: Iterable[Step]) -> None:
    for step in steps:
        step.run()


@dataclass(slots=True, kw_only=True)
class Push:
    """One push: what is asked for, and what its steps have found out so far."""

    source: str
    """As `byoc check` takes it: docker://…, oci:DIR, docker-archive:FILE, a path, or a name."""
    platform: str
    destination: Reference
    """In a plan with placeholders; the tag is empty if the content makes it."""
    find_login: FindLogin
    screen: Screen
    plain: bool = False
    """Without TLS."""
    insecure: bool = False
    """A registry on another machine may be without TLS."""
    by_skopeo: bool = False
    """skopeo copies the image, and not docker; known once the copy is planned."""
    immutable: bool = False
    """Its tags can't be moved."""
    folder: Path = _FOLDER
    """Private, on a disk with room for the image."""
    undo: ExitStack = field(default_factory=ExitStack)
    image: Image | None = None
    local: str = ""
    """The name that the engine has for the image."""
    is_there: bool = False
    """The tag had the image already: nothing is sent."""
    layers: Layers = field(init=False)
    stored: Stored | None = None
    """What the tag names after the push."""
    manifest: Manifest | None = None
    config: Config | None = None
    _logins: dict[str, Login | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.layers = Layers(self.screen)

    def login(self, registry: str) -> Login | None:
        if registry not in self._logins:
            self._logins[registry] = self.find_login(registry)
        return self._logins[registry]

    @property
    def target(self) -> Reference:
        return replace(self.destination, tag=self.destination.tag or TAG)

    @property
    def registry(self) -> Registry:
        return Registry(self.target, self.login(self.destination.registry), plain=self.plain)

    @property
    def pushed(self) -> Reference:
        """The image by its digest, after the push."""
        assert self.stored is not None
        return replace(self.destination, tag="", digest=self.stored.digest)

    @property
    def converted_from(self) -> str:
        """The media type that the image had; empty if it had Docker's, or none."""
        image = self.image
        if image is None or self.is_there:
            return ""
        kind = image.index_type if image.source == "registry" else ""
        kind = kind or image.manifest_type
        return kind if kind != DOCKER_MANIFEST else ""

    @property
    def pushed_layers(self) -> list[tuple[str, int, How]]:
        """Digest, packed size and fate of each layer."""
        assert self.manifest is not None
        assert self.config is not None
        known = self.layers.by_name
        plain = [digest.partition(":")[2][:12] for digest in self.config.diff_ids]
        return [
            (layer.digest, layer.size, known.get(layer.digest) or known.get(name, How.THERE))
            for layer, name in zip(self.manifest.layers, plain, strict=False)
        ]


def derived_tag(image: Image) -> str:
    """Return a tag that the same image always has, and another image never."""
    return image.config_digest.partition(":")[2][:12]


def tag_hint(image: Image) -> str:
    return f"Use --tag {derived_tag(image)}, made from this image, or another; or --mutable"
