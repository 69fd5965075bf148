"""Images by the URI of a request: the reference, and what a Docker engine has under it."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias

from sagemaker_byoc.contract.errors import ByocError, DocumentError, MachineError, RequestError
from sagemaker_byoc.contract.files import read_object
from sagemaker_byoc.host import registry_images
from sagemaker_byoc.host.docker import follow
from sagemaker_byoc.region.containers.specs import Image, PushedImage
from sagemaker_byoc.region.engines import docker
from sagemaker_byoc.region.wire.operations import AwsError

_PULL_SECONDS = 1800.0
_LAYER_STATES = {
    "Pulling fs layer": False,
    "Waiting": False,
    "Already exists": True,
    "Pull complete": True,
}
"""Words of docker's client without a terminal (docker/cli), and whether the layer is here then."""
_MOST_LAYERS = 1000
_PULL_HINTS = (
    ("no space left", "Make room for the engine: docker system df, docker image prune"),
    ("no matching manifest", "Build it for the engine's platform: --platform linux/amd64"),
    ("does not match the specified platform", "Build it with --platform linux/amd64"),
    ("manifest unknown", "Push it again: the registry has lost its manifest"),
    ("unknown blob", "Push it again: the registry has lost a part of it"),
    ("not found", "Push it again: the registry has lost a part of it"),
    ("unauthorized", "Push it again; if that does not help, start the region again"),
    ("no basic auth", "Push it again; if that does not help, start the region again"),
    ("http response to https", "Allow 127.0.0.0/8 in the engine's insecure-registries"),
    ("connection refused", "The engine can't reach this machine's 127.0.0.1: use an engine here"),
    ("gave no answer", "Run it again, or pull it by hand to see how far it comes"),
    ("timeout", "Run it again; look at the engine with: docker info"),
)
"""Words of docker's and containerd's refusals, the most telling first."""
_PROGRAMS_OF_AWS = {
    "sagemaker-clarify-processing": "compute the metrics in a script of a ScriptProcessor",
    "sagemaker-debugger-rules": "watch the job with byoc watch",
    "sagemaker-model-monitor-analyzer": "make baselines and reports with byoc monitor",
    "sagemaker-spark-processing": "run Spark in a script of a ScriptProcessor, with an image that "
    "has it",
}
"""What to do instead of a job of these repositories: an image of one's own has no such program."""


@dataclass(frozen=True, slots=True)
class Reference:
    """`HOST/REPOSITORY:TAG@DIGEST`; only the repository is required."""

    host: str
    repository: str
    tag: str
    digest: str

    @classmethod
    def parse(cls, uri: str) -> Reference:
        """Raise AwsError if `uri` is not an image reference."""
        try:
            found = registry_images.parse(uri)
        except RequestError as error:
            raise AwsError("ValidationException", f"{error.sentence}. {error.hint}") from error
        tag = found.tag or ("" if found.digest else registry_images.DEFAULT_TAG)
        return cls(found.registry, found.repository, tag, found.digest)

    @property
    def is_ours(self) -> bool:
        """Whether its host is a registry that this region emulates."""
        host = self.host.rpartition(":")[0] or self.host
        return registry_images.ecr_host(self.host) is not None or registry_images.is_loopback(host)

    @property
    def local_name(self) -> str:
        """The reference without its host."""
        return self.repository + (f":{self.tag}" if self.tag else f"@{self.digest}")

    def pinned(self, digest: str) -> str:
        """Return the name with a digest, which always means the same image."""
        host = f"{self.host}/" if self.host else ""
        return f"{host}{self.repository}@{digest}"


class PullError(AwsError):
    """The registry has the image, but the engine could not pull it."""


class Images(Protocol):
    def resolve(self, uri: str) -> Image:
        """Return the image of that name at once, without a pull.

        Raise AwsError (ValidationException, with the hint) if there is none.
        """

    def bring(
        self,
        image: Image,
        *,
        say: Callable[[str], None] = lambda _text: None,
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """Pull the image unless the engine has it; this can take many minutes.

        `say` receives the progress. Return early once `is_stopped` returns True.
        Raise PullError.
        """


Pushed: TypeAlias = Callable[[Reference], PushedImage | None]
"""Looks an image up in the region's registry, by digest or by tag."""


def unknown_image(uri: str, known: str, hint: str) -> AwsError:
    instead = _PROGRAMS_OF_AWS.get(Reference.parse(uri).repository)
    if instead is not None:
        hint = f"The image holds a program of AWS's, which the region does not have: {instead}"
    return AwsError("ValidationException", f"Cannot find image {uri}: {known}. {hint}")


@dataclass(frozen=True, slots=True)
class DockerImages:
    """What was pushed to the region's registry, else what the Docker engine has."""

    pushed: Pushed = lambda _reference: None

    def resolve(self, uri: str) -> Image:
        reference = Reference.parse(uri)
        pushed = self._pushed(uri, reference)
        if pushed is None:
            return self._found(uri, reference)
        return Image(
            uri=uri,
            resolved=reference.pinned(pushed.digest),
            digest=pushed.digest,
            name=f"{pushed.host}/{reference.repository}@{pushed.digest}",
            architecture=pushed.architecture,
            pushed=pushed,
        )

    def bring(
        self,
        image: Image,
        *,
        say: Callable[[str], None] = lambda _text: None,
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        if image.pushed is None:
            return
        try:
            is_here = _inspect(image.name) is not None
        except AwsError as error:
            raise PullError(error.code, error.message) from error
        if not is_here:
            _pull(image.name, image.pushed, say, is_stopped)

    def _pushed(self, uri: str, reference: Reference) -> PushedImage | None:
        """Return the image of the region's registry. Raise AwsError if SageMaker refuses it."""
        pushed = self.pushed(reference) if reference.is_ours else None
        if pushed is not None:
            _check_form(uri, pushed)
        return pushed

    def _found(self, uri: str, reference: Reference) -> Image:
        """Return the image that the engine has under this name."""
        for name in (uri, reference.local_name) if reference.is_ours else (uri,):
            found = _inspect(name)
            if found is not None:
                digest, architecture = found
                return Image(
                    uri=uri,
                    resolved=reference.pinned(digest),
                    digest=digest,
                    name=name,
                    architecture=architecture,
                )
        engine = "the Docker engine has no image of that name"
        known = f"{engine}, nor has the region's registry" if reference.is_ours else engine
        pull = "" if reference.is_ours else f" pull it with: docker pull {uri},"
        name = reference.local_name
        if not reference.is_ours and "/" in uri:
            name = uri  # the engine would not find it without its registry
        build = f"Build it with: docker build -t {name} . "
        build += f"(or byoc build),{pull} or push"
        if reference.digest:
            build = "Name the digest that its push printed, or push"
        raise unknown_image(uri, known, f"{build} it to the region's registry")


def _inspect(name: str) -> tuple[str, str] | None:
    """Return digest and architecture of the engine's image `name`; None if there is none."""
    try:
        found = json.loads(docker.run("image", "inspect", name))[0]
    except MachineError as error:
        if "no such image" in str(error).lower():
            return None
        raise _engine_error(error) from error
    pinned = [str(each).partition("@")[2] for each in found.get("RepoDigests") or ()]
    return (pinned[0] if pinned else str(found["Id"])), str(found.get("Architecture", ""))


def _check_form(uri: str, pushed: PushedImage) -> None:
    """Refuse what SageMaker does not run, though ECR takes it; media types in AWS's words."""
    fault = registry_images.storage_fault(pushed.media_type, pushed.manifest)
    if fault is None:
        return
    words = f"Cannot run image {uri}."
    if pushed.media_type != registry_images.DOCKER_MANIFEST.value:
        words = (
            f"Unsupported manifest media type {pushed.media_type} for image {uri}. Ensure that "
            "valid manifest media type is used for specified image."
        )
    raise AwsError("ValidationException", f"{words} It {fault.what}. {fault.hint}")


def _pull(
    name: str, pushed: PushedImage, say: Callable[[str], None], is_stopped: Callable[[], bool]
) -> None:
    """Bring the image into the engine with the registry's own token. Raise PullError."""
    home = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    with tempfile.TemporaryDirectory(prefix="byoc-docker-") as folder:
        # The user's configuration, which may name the engine, with no key of his but one of ours.
        config = _user_config(home)
        config["auths"] = {pushed.host: {"auth": pushed.token}}
        Path(folder, "config.json").write_text(json.dumps(config))
        if (home / "contexts").is_dir():
            Path(folder, "contexts").symlink_to((home / "contexts").resolve())
        try:
            follow(
                *("--config", folder, "pull", name),
                on_line=_Layers(say).see,
                is_stopped=is_stopped,
                timeout=_PULL_SECONDS,
                instead=docker.INSTEAD,
            )
        except MachineError as error:
            what = error.what.replace("`docker --config`", "`docker pull`")
            raise PullError(
                "ValidationException", f"Cannot pull image {name}: {what}. {_pull_hint(what)}"
            ) from error


@dataclass(slots=True)
class _Layers:
    """Count the layers of a pull in docker's lines, `ID: STATE`."""

    say: Callable[[str], None]
    found: set[str] = field(default_factory=set)
    done: set[str] = field(default_factory=set)

    def see(self, line: str) -> None:
        layer, colon, state = line.partition(": ")
        if not colon or state not in _LAYER_STATES or len(self.found) >= _MOST_LAYERS:
            return
        self.found.add(layer)
        if _LAYER_STATES[state] and layer not in self.done:
            self.done.add(layer)
            self.say(f"{len(self.done)} of {len(self.found)} layers")


def _pull_hint(what: str) -> str:
    words = what.lower()
    return next(
        (hint for part, hint in _PULL_HINTS if part in words), "Check the engine with: docker info"
    )


def _user_config(home: Path) -> dict[str, object]:
    try:
        found = read_object(home / "config.json") or {}
    except DocumentError:
        return {}
    return {name: found[name] for name in ("currentContext", "proxies") if name in found}


def _engine_error(error: ByocError) -> AwsError:
    return AwsError("InternalFailure", f"{error.sentence}. {error.hint}", status=500)
