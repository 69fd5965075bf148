"""The program's requirements.txt, installed only if the job asks for it, and never another torch.

The installation takes minutes on every host, needs a network, and may install other versions
tomorrow: the image is the better place. Only the jobs that ask for it import this module.
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
"""Words of contract.requirements for a conflict, which says itself what helps."""
QUIET = {
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_INPUT": "1",
    "PIP_PROGRESS_BAR": "off",
    "PIP_ROOT_USER_ACTION": "ignore",
}


def install_program(
    job: Job, folder: Path, environment: Mapping[str, str], *, replace: str = ""
) -> Program:
    """Return pip as a program of the supervisor: its output is in the log, SIGTERM reaches it."""
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
    return Program((*command, *options), folder, {**QUIET, **environment}, label="[pip] ")


def failure(outcome: Outcome) -> str:
    """Return the failure text: what conflicts with the image, else pip's last words."""
    said = f"{outcome.out}\n{outcome.err}"
    causes = re.findall(rf"^{MARK}(.+)", outcome.err, re.MULTILINE)
    cause = causes[-1] if causes else "pip was ended"
    hint = None if _HOLDS in cause else hint_for_text(said)
    lasting = (
        "hint: install them when the image is built, or give wheels as a channel named "
        f"{WHEELS_CHANNEL!r} (under network isolation nothing else can be reached)"
    )
    rest = "\n".join(filter(None, (f"[pip exit {outcome.returncode}]", hint, lasting)))
    room = FAILURE_REASON.value - len(rest.encode()) - 1
    return squeeze(f"the requirements can't be installed: {cause}", room) + f"\n{rest}"


def _wanted(folder: Path) -> list[str]:
    words = ["--requirement", FILE] if (folder / FILE).is_file() else []
    return [*words, "."] if _is_package(folder) else words


def _is_package(folder: Path) -> bool:
    """Return whether pip can install the folder: many a pyproject.toml only configures tools."""
    if (folder / "setup.py").is_file():
        return True
    try:
        text = (folder / "pyproject.toml").read_text()
    except (OSError, UnicodeDecodeError):
        return False
    return "[build-system]" in text or "[project]" in text


def _wheel_options(job: Job) -> list[str]:
    """Return options to install from nothing but the channel of wheels, if there is one."""
    folder = job.tree.channel(WHEELS_CHANNEL)
    return ["--no-index", "--find-links", str(folder)] if folder.is_dir() else []
