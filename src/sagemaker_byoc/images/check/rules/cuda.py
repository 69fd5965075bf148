"""The image's CUDA against the drivers on SageMaker's hosts."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sagemaker_byoc.contract.gpu import HOST_IMAGES, OLDEST_DRIVER, is_enough
from sagemaker_byoc.images.check.checked_image import Subject
from sagemaker_byoc.images.check.findings import Found, Rule, Severity
from sagemaker_byoc.images.model import Image

_TORCH = re.compile(rb"^cuda\b[^=\n]*=\s*['\"](\d+)\.(\d+)", re.MULTILINE)
_TOOLKIT = re.compile(r"^/usr/local/cuda-(\d+)\.(\d+)(/|$)")
_DRIVER = re.compile(r"/(libcuda|libnvidia-ml|libnvidia-ptxjitcompiler)\.so\.(\d{3}\.[\d.]+)$")


def versions(image: Image) -> dict[str, tuple[int, int]]:
    """Where a CUDA version is stated, and which."""
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

    A base, a toolkit and torch may all state the same; there is one thing to do about it.
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
