"""The steps of a push: inspect the image and the tag, copy, verify what the registry has."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace

from sagemaker_byoc.host import docker, registry_images
from sagemaker_byoc.images import lookup, model
from sagemaker_byoc.images.archive import ZSTD_HINT, read_archive
from sagemaker_byoc.images.lookup import REMOTE, archive_path
from sagemaker_byoc.images.model import DOCKER_MANIFEST, Image, ImageError, Manifest, RegistryError
from sagemaker_byoc.images.push import copying, programs
from sagemaker_byoc.images.push.copying import Push, Step, derived_tag, tag_hint
from sagemaker_byoc.images.registry import Registry, Stored, lend_logins

_OTHER_HINT = "Someone else pushes to this tag: choose another, or make tags --immutable"


def source_steps(push: Push) -> list[Step]:
    """Return the steps that look at the image, before anything is done for it.

    The last raises ImageError for what SageMaker would refuse.
    """
    steps = list(_reading(push))
    last = steps.pop()

    def look() -> None:
        last.run()
        assert push.image is not None
        _check(push.image, push)
        if not push.destination.tag and push.image.config_digest:
            push.destination = replace(push.destination, tag=derived_tag(push.image))

    return [*steps, Step(last.do, look, last.why)]


def _reading(push: Push) -> Iterable[Step]:
    if push.source.startswith(REMOTE):
        parsed = registry_images.parse(push.source.removeprefix(REMOTE))
        registry = Registry(parsed, plain=push.plain)

        def read() -> None:
            registry.login = push.login(parsed.registry)
            push.image = lookup.read_remote(registry, layers=False, platform=push.platform)

        yield Step(f"GET {registry.url('manifests', parsed.target)}", lambda: None)
        yield Step(f"GET {registry.url('blobs', 'DIGEST')}", read, "the configuration")
        return
    if (path := archive_path(push.source)) is not None:

        def read_file() -> None:
            if push.image is None:
                push.image = read_archive(path, layers=False, platform=push.platform)

        yield Step(f"read {shlex.quote(str(path))}", read_file)
        return

    registry_images.parse(push.source)

    def inspect() -> None:
        push.image = lookup.describe_from_engine(push.source)

    yield Step(shlex.join([docker.client(), "image", "inspect", push.source]), inspect)


def _check(image: Image, push: Push) -> None:
    """Raise ImageError for an image that SageMaker would refuse, or that can't be pushed."""
    name = push.source
    found = image.config.platform
    if found == "/":
        raise ImageError(
            f"{name} is not an image: its configuration names no platform", hint="Name an image"
        )
    if found != push.platform and not (image.source == "engine" and not image.config_digest):
        check_platform(found, push.platform, name)
    for kind in image.layer_types:
        if "zstd" in kind:
            raise ImageError(
                f"{name} has layers packed with zstd, which Docker's media types don't have",
                hint=ZSTD_HINT,
            )
        if "foreign" in kind or "nondistributable" in kind:
            raise ImageError(
                f"{name} has a layer that may not be distributed ({kind})",
                hint="Build it from another base",
            )
        if kind and "tar" not in kind:
            raise ImageError(f"{name} has a layer of the type {kind}", hint="Name an image")


def check_platform(found: str, wanted: str, name: str) -> None:
    if found != wanted:
        raise ImageError(
            f"{name} is for {found}; SageMaker's instances want {wanted}",
            hint=f"Build it with --platform {wanted}"
            + (", or push with --platform linux/arm64 for Graviton" if "arm" in found else ""),
        )


def transfer_steps(push: Push) -> list[Step]:
    """Return the steps that copy the image to the destination, and verify it there.

    Which program copies an engine's image depends on the engine, which is asked for it.
    """
    url = Registry(push.target, plain=push.plain).url("manifests", push.target.tag)
    blob = url.partition("/manifests/")[0] + "/blobs/DIGEST"
    push.by_skopeo = copying.is_for_skopeo(push)
    copied = copying.with_skopeo(push) if push.by_skopeo else copying.with_docker(push)
    return [
        Step(f"GET {url}", lambda: _look_there(push), "is it there already?"),
        *(replace(step, run=_unless_there(push, step.run)) for step in copied),
        Step(f"GET {url}", lambda: _verify(push), "verified: digest and media types"),
        Step(f"GET {blob}", lambda: _verify_platform(push), "verified: the platform"),
    ]


def _unless_there(push: Push, run_step: Callable[[], None]) -> Callable[[], None]:
    def run_unless() -> None:
        if not push.is_there:
            run_step()

    return run_unless


def _look_there(push: Push) -> None:
    """Raise RegistryError if the tag names another image and can't be moved."""
    image = push.image
    assert image is not None
    logins = {name: found for name in _hosts(push) if (found := push.login(name))}
    lend_logins(push.folder, logins)
    if not image.config_digest and push.by_skopeo:
        copying.save(push)
        saved = read_archive(push.folder / "image.tar", layers=False, platform=push.platform)
        push.image = image = replace(saved, source="engine", manifest_type=image.manifest_type)
        _check(image, push)
    if not push.destination.tag:
        tag = derived_tag(image) or image.digest.partition(":")[2][:12]
        push.destination = replace(push.destination, tag=tag)
    push.layers.config_digest = image.config_digest
    before = push.registry.manifest()
    if before is None:
        return
    manifest = _docker_manifest(before)
    if manifest is not None and manifest.config.digest == image.config_digest:
        push.is_there = True
        return
    name = str(push.destination)
    if push.immutable:
        raise RegistryError(
            f"{name} is {before.digest} already, and the repository's tags can't be moved",
            hint=tag_hint(image),
        )
    push.screen.note(f"{name} was {before.digest}; endpoints that run keep that one")


def _hosts(push: Push) -> list[str]:
    hosts = [push.destination.registry]
    if push.source.startswith(REMOTE):
        hosts.append(registry_images.parse(push.source.removeprefix(REMOTE)).registry)
    return hosts


def _docker_manifest(stored: Stored) -> Manifest | None:
    """Return the manifest if SageMaker takes its form, None if not."""
    if stored.media_type != DOCKER_MANIFEST or _fault(stored) is not None:
        return None
    found = model.parse_manifest(stored.data, stored.digest, stored.media_type)
    return found if isinstance(found, Manifest) else None


def _fault(stored: Stored) -> registry_images.Fault | None:
    document = model.parse_object(stored.data, stored.digest)
    return registry_images.storage_fault(stored.media_type, document)


def _verify(push: Push) -> None:
    """Raise ByocError if the tag names anything but the pushed image in a form for SageMaker."""
    name = str(push.destination)
    stored = push.registry.manifest()
    if stored is None:
        raise RegistryError(f"{name} is not there after the push", hint="Run it again")
    sent = _sent_digest(push)
    if sent and stored.digest != sent:
        raise RegistryError(
            f"{name} is {stored.digest} and not {sent}, which was pushed",
            hint=_OTHER_HINT,
        )
    push.manifest = _docker_manifest(stored)
    known = push.image.config_digest if push.image else ""
    if not sent and known and push.manifest and push.manifest.config.digest != known:
        raise RegistryError(f"{name} is {stored.digest}, which is another image", hint=_OTHER_HINT)
    if push.manifest is None:
        fault = _fault(stored)
        hint = "Push to another registry; this one rewrites manifests"
        if not programs.has_skopeo():
            hint = "Install skopeo and push again: docker keeps the media types of its store"
        what = fault.what if fault else "has a manifest that SageMaker refuses"
        raise RegistryError(f"{name} {what}", hint=hint)
    push.stored = stored


def _sent_digest(push: Push) -> str:
    """Return the digest that the program has pushed; empty if nothing was sent."""
    if push.is_there:
        return ""
    with suppress(OSError):
        return (push.folder / "digest").read_text().strip()
    return push.layers.digest


def _verify_platform(push: Push) -> None:
    assert push.manifest is not None
    assert push.stored is not None
    data = push.registry.small_blob(push.manifest.config.digest)
    name = str(push.destination)
    found = model.parse_config(data, name)
    check_platform(found.platform, push.platform, name)
    push.config = found
