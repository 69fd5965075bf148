"""The program's requirements.txt, installed only when it is asked for, and never another torch.

It costs minutes on every host, fails without a network, and what it installs today it may not
install tomorrow: the image is the better place. Imported only by jobs that ask.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.contract.facts import FAILURE_REASON
from sagemaker_byoc.contract.lifecycle import squeeze
from sagemaker_byoc.contract.requirements import FILE, MARK
from sagemaker_byoc.contract.training.job import Job
from sagemaker_byoc.contract.variables import INSTALL_REQUIREMENTS
from sagemaker_byoc.training.supervisor.failure.hints import hint_for_text
from sagemaker_byoc.training.supervisor.process.child import Outcome, Program

WHEELS_CHANNEL = "wheels"
_HOLDS = "this image holds"


def install_program(
    job: Job, folder: Path, environment: Mapping[str, str], *, replace: str = ""
) -> Program:
    """pip, as a program of the supervisor's: its output is in the log, and SIGTERM reaches it."""
    wanted = _wanted(folder)
    if not wanted:
        raise ContractError(
            where=INSTALL_REQUIREMENTS,
            what=f"is set, and {folder} has no {FILE} and no package to install",
            hint=f"Send {FILE} beside the program, or unset it",
        )
    if find_spec("pip") is None:
        raise ContractError(
            where=INSTALL_REQUIREMENTS,
            what=f"needs pip, which {sys.executable} does not have",
            hint="Install the requirements when the image is built",
        )
    command = (sys.executable, "-I", "-m", "sagemaker_byoc.contract.requirements")
    options = (*(("--replace", replace) if replace else ()), *_wheel_options(job), *wanted)
    quiet = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "PIP_PROGRESS_BAR": "off"}
    quiet["PIP_ROOT_USER_ACTION"] = "ignore"
    return Program((*command, *options), folder, {**quiet, **environment}, label="[pip] ")


def failure(outcome: Outcome) -> str:
    """Return the failure text: what conflicts with the image, else pip's last words."""
    said = f"{outcome.out}\n{outcome.err}"
    causes = re.findall(rf"^{MARK}(.+)", outcome.err, re.MULTILINE)
    cause = causes[-1] if causes else "pip was ended"
    help_ = "" if _HOLDS in cause else hint_for_text(said)
    lines = [
        f"the requirements can't be installed: {cause}",
        f"[pip exit {outcome.returncode}]",
        *([help_] if help_ else []),
        (
            f"hint: install them when the image is built, or give wheels as a channel named "
            f"{WHEELS_CHANNEL!r} (under network isolation nothing else can be reached)"
        ),
    ]
    room = FAILURE_REASON.value - len("\n".join(lines[1:]).encode()) - 1
    return "\n".join([squeeze(lines[0], room), *lines[1:]])


def _wanted(folder: Path) -> list[str]:
    words = ["--requirement", FILE] if (folder / FILE).is_file() else []
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
