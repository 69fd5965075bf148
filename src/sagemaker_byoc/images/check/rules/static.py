"""Rules about an image's manifest, configuration and files, and about its CUDA."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sagemaker_byoc.contract import gpu
from sagemaker_byoc.contract.gpu import HOST_IMAGES, OLDEST_DRIVER, is_enough
from sagemaker_byoc.contract.variables import PROGRAM, SUBMIT_DIRECTORY
from sagemaker_byoc.images.check.findings import SERVE, Found, Rule, Severity, Subject
from sagemaker_byoc.images.model import (
    DOCKER_LAYER,
    DOCKER_MANIFEST,
    ELOOP,
    ENOTDIR,
    File,
    Files,
    Image,
)

_OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_GZIP_LAYERS = frozenset({DOCKER_LAYER, _OCI_LAYER})
_MOUNTS = ("/opt/ml", "/opt/ml/input", "/opt/ml/input/data", "/opt/ml/model", "/opt/ml/output")
_NOT_CAUGHT = frozenset({"KILL", "9", "STOP", "19"})
"""Signals without a handler, signal(7), as Docker takes their names."""
_TORCH = re.compile(rb"^cuda\b[^=\n]*=\s*['\"](\d+)\.(\d+)", re.MULTILINE)
_TOOLKIT = re.compile(r"^/usr/local/cuda-(\d+)\.(\d+)(/|$)")
_DRIVER = re.compile(r"/(libcuda|libnvidia-ml|libnvidia-ptxjitcompiler)\.so\.(\d{3}\.[\d.]+)$")
_BUILD = (
    "docker buildx build --platform linux/amd64 --provenance=false --sbom=false "
    "--output type=docker . ; or let `byoc push` convert it, which needs no rebuild"
)


def media_type(subject: Subject) -> Iterator[Found]:
    kind = subject.image.manifest_type
    if kind and kind != DOCKER_MANIFEST and not subject.image.index_type:
        yield Found(f"the manifest is of the type {kind}", "manifest")


def index(subject: Subject) -> Iterator[Found]:
    image = subject.image
    if image.index_type:
        offers = ", ".join(platform or "unnamed" for platform in image.platforms)
        with_attestations = (
            f" and {image.attestations} attestation(s)" if image.attestations else ""
        )
        yield Found(f"an index ({image.index_type}) of {offers}{with_attestations}", "manifest")


def platform(subject: Subject) -> Iterator[Found]:
    config = subject.image.config
    if config.platform != "linux/amd64":
        yield Found(f"the image is for {config.platform}", "configuration: os, architecture")


def layer_types(subject: Subject) -> Iterator[Found]:
    for number, kind in enumerate(subject.image.layer_types):
        if kind not in _GZIP_LAYERS:
            yield Found(f"a layer of the type {kind}", f"layer {number}")


def size(subject: Subject) -> Iterator[Found]:
    limit = gpu.SERVERLESS_IMAGE.value
    packed = subject.image.compressed_bytes
    if packed is not None and packed > limit:
        yield Found(f"{packed / 1e9:.1f} GB compressed, of {limit / 1e9:.0f} allowed", "layers")


def user(subject: Subject) -> Iterator[Found]:
    name = subject.image.config.user.partition(":")[0]
    if SERVE in subject.roles and name not in {"", "0", "root"}:
        yield Found(f"USER {name}", "configuration: User")


def reserved_folder(subject: Subject) -> Iterator[Found]:
    if subject.image.files is None:
        return
    hiding = {path for path, _, _ in _in_the_way(subject.image.files)}
    files = [
        file
        for file in subject.image.files.below("/opt/ml")
        if file.kind != "dir" and file.path not in hiding and not _is_known_code(subject, file)
    ]
    if files:
        more = f" and {len(files) - 1} more" if len(files) > 1 else ""
        total = sum(file.size for file in files)
        yield Found(f"{files[0].path}{more}, {total} bytes", "/opt/ml")


def _is_known_code(subject: Subject, file: File) -> bool:
    """Tell whether it is the code that a variable of sagemaker-training names.

    AWS's guide (adapt-training-container) has it copied to /opt/ml/code.
    """
    named = {PROGRAM, SUBMIT_DIRECTORY} & {*subject.image.config.environment}
    return bool(named) and file.path.startswith("/opt/ml/code/")


def mount_points(subject: Subject) -> Iterator[Found]:
    """Yield one: what is in the way of /opt/ml is in the way of all that is below it."""
    if subject.image.files is None:
        return
    for path, place, kind in _in_the_way(subject.image.files):
        what = f"{place} leads to {path}, which" if place != path else path
        yield Found(f"{what} is {kind}", place)
        return


def _in_the_way(files: Files) -> Iterator[tuple[str, str, str]]:
    """Yield path, mount point and kind of each file or link where SageMaker mounts a folder.

    runc resolves links inside the image and makes folders that are missing (libcontainer,
    rootfs_linux.go: securejoin, createMountpoint); over anything else a mount of a folder fails.
    """
    for place in _MOUNTS:
        found = files.resolve(place)
        if found.error == ELOOP:
            yield place, place, "a link to itself"
        elif found.error == ENOTDIR or not (found.error or files.is_folder(found.path)):
            file = files.visible.get(found.path)
            yield found.path, place, "a file" if file is None else f"a {file.kind}"


def stop_signal(subject: Subject) -> Iterator[Found]:
    name = subject.image.config.stop_signal
    if name.upper().removeprefix("SIG") in _NOT_CAUGHT:
        yield Found(f"STOPSIGNAL {name}", "configuration: StopSignal")


def volumes(subject: Subject) -> Iterator[Found]:
    for volume in subject.image.config.volumes:
        if volume.rstrip("/") == "/opt/ml" or volume.startswith("/opt/ml/"):
            yield Found(f"VOLUME {volume}", "configuration: Volumes")


def ports(subject: Subject) -> Iterator[Found]:
    exposed = subject.image.config.ports
    if SERVE in subject.roles and exposed and "8080/tcp" not in exposed:
        yield Found(f"EXPOSE {' '.join(exposed)}", "configuration: ExposedPorts")


# ── CUDA against the drivers of the hosts ──


def versions(image: Image) -> dict[str, tuple[int, int]]:
    """Return CUDA versions by the place that states them."""
    found: dict[str, tuple[int, int]] = {}
    stated = re.match(r"(\d+)\.(\d+)", image.config.environment.get("CUDA_VERSION", ""))
    if stated:
        found["environment: CUDA_VERSION"] = (int(stated[1]), int(stated[2]))
    if image.files is None:
        return found
    for _, file in image.files.looked_into:
        match = _TORCH.search(file.head or b"") if file.path.endswith("torch/version.py") else None
        if match and file.path in image.files.visible:
            found[file.path] = (int(match[1]), int(match[2]))
    for path in image.files.visible:
        toolkit = _TOOLKIT.match(path)
        if toolkit:
            found[f"/usr/local/cuda-{toolkit[1]}.{toolkit[2]}"] = (int(toolkit[1]), int(toolkit[2]))
    return found


def by_major(image: Image) -> dict[int, tuple[str, int]]:
    """Return each major version once, with the first place that states it and the minor version.

    A base, a toolkit and torch may all state the same, which has one fix.
    """
    found: dict[int, tuple[str, int]] = {}
    for where, (major, minor) in versions(image).items():
        found.setdefault(major, (where, minor))
    return found


def runnable(subject: Subject) -> Iterator[Found]:
    for major, (where, minor) in by_major(subject.image).items():
        if not any(is_enough(host.driver, major) for host in HOST_IMAGES.value):
            yield Found(f"CUDA {major}.{minor} is not for any known driver of SageMaker's", where)


def some_hosts(subject: Subject) -> Iterator[Found]:
    inference = [host for host in HOST_IMAGES.value if "inference" in host.name]
    for major, (where, minor) in by_major(subject.image).items():
        able = [host.name for host in inference if is_enough(host.driver, major)]
        if able and len(able) < len(inference):
            names = ", ".join(able)
            oldest = OLDEST_DRIVER.value[major][0]
            yield Found(
                f"CUDA {major}.{minor} needs driver {oldest}, which only {names} has",
                where,
                fix=f"Set InferenceAmiVersion to {names} (`byoc launch` does), or use a build for "
                f"CUDA {major - 1}: TORCH=cuda{major - 1}",
            )


def bundled_driver(subject: Subject) -> Iterator[Found]:
    files = subject.image.files
    for path, file in files.visible.items() if files is not None else ():
        if file.kind == "file" and _DRIVER.search(path) and "/compat/" not in path:
            yield Found("a library of the NVIDIA driver", path)


RULES: tuple[Rule[Subject], ...] = (
    Rule(
        "IMG001",
        Severity.ERROR,
        "The manifest is not Docker's",
        "SageMaker takes application/vnd.docker.distribution.manifest.v2+json alone and answers "
        '"Unsupported manifest media type" to OCI\'s.',
        _BUILD,
        media_type,
    ),
    Rule(
        "IMG002",
        Severity.ERROR,
        "The tag names an index",
        "SageMaker does not choose from an index, even of one platform; attestations, which "
        "BuildKit adds by default, always make one.",
        _BUILD,
        index,
    ),
    Rule(
        "IMG003",
        Severity.ERROR,
        "The image is not for linux/amd64",
        "All but a few of SageMaker's instance types are x86-64; elsewhere the first program ends "
        'with "exec format error". Only for Graviton hosting is linux/arm64 right: ignore it then.',
        "docker build --platform linux/amd64 .",
        platform,
    ),
    Rule(
        "IMG004",
        Severity.ERROR,
        "A layer is not packed with gzip",
        "Docker's manifest knows gzip layers only; zstd needs OCI types, which SageMaker refuses.",
        "Build with compression=gzip,force-compression=true in --output",
        layer_types,
    ),
    Rule(
        "IMG005",
        Severity.WARNING,
        "The image is too large for serverless endpoints",
        "Serverless inference takes images of up to 10 GB compressed; everywhere else the image's "
        "size is the longest part of a job's start.",
        "Use torch's CPU build, and keep weights in model.tar.gz: TORCH=cpu scripts/build-images",
        size,
    ),
    Rule(
        "IMG011",
        Severity.WARNING,
        "The container does not run as root",
        "Hosting supports root only; model files and /tmp may not be readable otherwise.",
        "Remove the USER line from the Dockerfile",
        user,
    ),
    Rule(
        "IMG012",
        Severity.WARNING,
        "The image holds files under /opt/ml",
        "SageMaker mounts its own folders there: these files are hidden or lost, and code in "
        "/opt/ml/code is taken for code that the job sent.",
        "Copy them to another folder, such as /opt/program",
        reserved_folder,
    ),
    Rule(
        "IMG013",
        Severity.WARNING,
        "A volume is declared under /opt/ml",
        "An anonymous volume there hides from SageMaker what a job writes.",
        "Remove the VOLUME line from the Dockerfile",
        volumes,
    ),
    Rule(
        "IMG014",
        Severity.WARNING,
        "The image exposes other ports than 8080",
        "SageMaker calls port 8080, or the one in SAGEMAKER_BIND_TO_PORT, and reads no EXPOSE: a "
        "server on another port is never healthy.",
        "Listen on 0.0.0.0:8080 and write EXPOSE 8080",
        ports,
    ),
    Rule(
        "IMG016",
        Severity.ERROR,
        "Something is in the way of SageMaker's folders",
        "SageMaker mounts folders at /opt/ml; over anything but a folder the mount fails, and the "
        "container is not started.",
        "Remove it, or make it a folder, in the step that makes it",
        mount_points,
    ),
    Rule(
        "IMG017",
        Severity.WARNING,
        "STOPSIGNAL is a signal that no program can handle",
        "`docker stop` sends it in place of SIGTERM: whatever stops the container so, nothing is "
        "saved and no request is finished.",
        "Remove the STOPSIGNAL line, or write STOPSIGNAL SIGTERM",
        stop_signal,
    ),
)

CUDA_RULES: tuple[Rule[Subject], ...] = (
    Rule(
        "CUD001",
        Severity.ERROR,
        "No driver of SageMaker's can run the image's CUDA",
        "The driver is the host's; a toolkit of a newer major version ends with "
        '"CUDA driver version is insufficient".',
        "Install a build for an older CUDA: docs/reference/contract.md lists the drivers",
        runnable,
    ),
    Rule(
        "CUD002",
        Severity.WARNING,
        "Only some of SageMaker's hosts can run the image's CUDA",
        "The driver is the host's, and an endpoint gets an older one unless its variant names a "
        "newer machine image.",
        "Set InferenceAmiVersion in the production variant",
        some_hosts,
    ),
    Rule(
        "CUD003",
        Severity.ERROR,
        "The image brings an NVIDIA driver",
        "It hides the host's own, which the kernel there needs; CUDA then finds no device.",
        "Install the CUDA libraries without the driver: apt-get purge 'libnvidia-compute-*'",
        bundled_driver,
    ),
)
