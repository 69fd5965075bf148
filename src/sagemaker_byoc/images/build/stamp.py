"""Labels that say which torch an image holds, read from the image and not from its arguments."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from sagemaker_byoc.contract.accelerators import CUDA_LABEL, DRIVER_LABEL, OLDEST_DRIVER
from sagemaker_byoc.images.build.builders import BUILDAH, Ask, Builder

TORCH_LABEL = "sagemaker-byoc.torch"
_SECONDS = 120.0
_LOOK = """\
from importlib.util import find_spec
from pathlib import Path
spec = find_spec("torch")
print(Path(spec.origin).with_name("version.py").read_text() if spec and spec.origin else "")
"""
_CUDA = re.compile(r"^cuda\b[^=\n]*=\s*(?:'(?P<cuda>\d+\.\d+)|None)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Torch:
    """`cuda` is empty for a build without it."""

    cuda: str

    @property
    def labels(self) -> dict[str, str]:
        major = int(self.cuda.partition(".")[0] or 0)
        oldest = OLDEST_DRIVER.value.get(major)
        return {
            TORCH_LABEL: f"cuda{major}" if self.cuda else "cpu",
            CUDA_LABEL.value: self.cuda,
            DRIVER_LABEL.value: ".".join(map(str, oldest)) if oldest else "",
        }


def wrong_labels(image: str, builder: Builder, ask: Ask) -> dict[str, str] | None:
    """Return the labels of `image` that differ from its torch, with their right values.

    Empty for an image without such labels, and for buildah, which runs no image; None for one
    that can't be looked into.
    """
    if builder.name == BUILDAH:
        return {}
    client = builder.command[0]
    said = ask([client, "image", "inspect", "--format", "{{json .Config.Labels}}", image])
    found = _object(said)
    if TORCH_LABEL not in found:
        return {}
    run = [client, "run", "--rm", "--network", "none", "--entrypoint", "/opt/venv/bin/python"]
    text = ask([*run, image, "-I", "-c", _LOOK])
    match = _CUDA.search(text or "")
    if match is None:
        return None
    right = Torch(match["cuda"] or "").labels
    return {name: value for name, value in right.items() if found.get(name, "") != value}


def put(image: str, labels: Mapping[str, str], builder: Builder, platform: str) -> str:
    """Give `image` the labels, without a layer; return what went wrong, or an empty text."""
    command = [*builder.command, "--platform", platform, "--tag", image]
    for name, value in sorted(labels.items()):
        command += ["--label", f"{name}={value}"]
    try:
        done = subprocess.run(
            [*command, "-"],
            input=f"FROM {image}\n",
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_SECONDS,
            env=builder.variables(),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "" if done.returncode == 0 else (done.stderr.strip() or "no message").splitlines()[-1]


def _object(text: str | None) -> dict[str, str]:
    try:
        found = json.loads(text or "null")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
