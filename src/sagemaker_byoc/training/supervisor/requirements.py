"""The program's requirements.txt, installed only when it is asked for, and never another torch.

It costs minutes on every host, fails without a network, and what it installs today it may not
install tomorrow: the image is the better place. Imported only by jobs that ask.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path

from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.contract.failure import squeeze
from sagemaker_byoc.contract.job import Job
from sagemaker_byoc.contract.limits import FAILURE_REASON
from sagemaker_byoc.training.supervisor.child import Outcome, Program
from sagemaker_byoc.training.supervisor.hints import hint_for_text
from sagemaker_byoc.training.supervisor.settings import INSTALL_REQUIREMENTS

REQUIREMENTS = "requirements.txt"
WHEELS_CHANNEL = "wheels"
HELD = ("torch", "torchvision", "torchaudio", "triton", "nvidia-", "pytorch-triton")
"""By the beginning of the name: what belongs to the image's CUDA."""
LAST_LINES = 3
HELD_LINE = re.compile(r"The user requested \(constraint\) ([\w.-]+?)(?:[<>=!~][^,\s]*,)*(==\S+)")
WANTED_LINE = re.compile(
    r"^ {4}((?:The user requested (?!\(constraint\))|\S+ \S+ depends on ).+)$", re.MULTILINE
)
USELESS = "ERROR: ResolutionImpossible"


def install_program(
    job: Job, folder: Path, environment: Mapping[str, str], scratch: Path
) -> Program:
    """pip, as a program of the supervisor's: its output is in the log, and SIGTERM reaches it."""
    wanted = _wanted(folder)
    if not wanted:
        raise ContractError(
            where=INSTALL_REQUIREMENTS,
            what=f"is set, and {folder} has no {REQUIREMENTS} and no package to install",
            cure=f"Send {REQUIREMENTS} beside the program, or unset it",
        )
    if find_spec("pip") is None:
        raise ContractError(
            where=INSTALL_REQUIREMENTS,
            what=f"needs pip, which {sys.executable} does not have",
            cure="Install the requirements when the image is built",
        )
    constraints = scratch / "constraints.txt"
    constraints.write_text("".join(f"{line}\n" for line in held_versions()))
    options = ["--constraint", str(constraints), *_wheel_options(job)]
    command = (sys.executable, "-m", "pip", "install", *options, *wanted)
    quiet = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "PIP_PROGRESS_BAR": "off"}
    quiet["PIP_ROOT_USER_ACTION"] = "ignore"
    return Program(command, folder, {**quiet, **environment}, label="[pip] ")


def held_versions() -> list[str]:
    """A constraint for each installed package that must stay as it is."""
    found = {d.name.lower().replace("_", "-"): d.version for d in distributions() if d.name}
    return sorted(f"{name}=={version}" for name, version in found.items() if _is_held(name))


def failure(outcome: Outcome) -> str:
    """Return the failure text: what conflicts with the image, else pip's last words."""
    said = f"{outcome.out}\n{outcome.err}"
    conflict = _conflict(said)
    help_ = [hint_for_text(said)] if not conflict else []
    lines = [
        f"the requirements can't be installed: {conflict or _last_words(outcome)}",
        f"[pip exit {outcome.returncode}]",
        *(line for line in help_ if line),
        (
            f"hint: install them when the image is built, or give wheels as a channel named "
            f"{WHEELS_CHANNEL!r} (under network isolation nothing else can be reached)"
        ),
    ]
    room = FAILURE_REASON.value - len("\n".join(lines[1:]).encode()) - 1
    return "\n".join([squeeze(lines[0], room), *lines[1:]])


def _conflict(said: str) -> str:
    """Say who wants what, and which of it the image holds: pip calls that a constraint."""
    held = dict(HELD_LINE.findall(said))
    names = {name.lower() for name in held}
    wanted = [
        found[1]
        for found in WANTED_LINE.finditer(said)
        if not held or names & {re.split(r"[^\w-]", word)[0].lower() for word in found[1].split()}
    ]
    who = "; ".join(dict.fromkeys(wanted))
    if not held:
        return f"conflict: {who}" if who else ""
    who = who or "another version is wanted"
    image = ", ".join(f"{name}{version}" for name, version in held.items())
    return (
        f"conflict: {who}, and the image holds {image}, which belongs to its CUDA. Remove that pin "
        "or take the release that fits, or build the image with the other version"
    )


def _last_words(outcome: Outcome) -> str:
    words = [line.strip() for line in outcome.err.splitlines() if line.strip()]
    errors = [line for line in words if line.lower().startswith("error")] or words
    unique = [line for line in dict.fromkeys(errors) if not line.startswith(USELESS)]
    return " ".join(unique[-LAST_LINES:]) or "pip said nothing"


def _wanted(folder: Path) -> list[str]:
    words = ["--requirement", REQUIREMENTS] if (folder / REQUIREMENTS).is_file() else []
    return [*words, "."] if _is_package(folder) else words


def _is_package(folder: Path) -> bool:
    """Many a pyproject.toml only configures a formatter."""
    if (folder / "setup.py").is_file():
        return True
    try:
        text = (folder / "pyproject.toml").read_text()
    except (OSError, UnicodeDecodeError):
        return False
    return "[build-system]" in text or "[project]" in text


def _wheel_options(job: Job) -> list[str]:
    """From the channel's folder and nowhere else, where there is such a channel."""
    folder = job.tree.channel(WHEELS_CHANNEL)
    return ["--no-index", "--find-links", str(folder)] if folder.is_dir() else []


def _is_held(name: str) -> bool:
    return any(name == held or (held.endswith("-") and name.startswith(held)) for held in HELD)
