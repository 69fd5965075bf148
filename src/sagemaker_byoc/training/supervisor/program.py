"""The user's program: which file of the source folder, and the command that starts it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from sagemaker_byoc.contract.environment import PROGRAM
from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.contract.job import Job

PROGRAM_KEY = "sagemaker_program"
USUAL_NAMES = ("train.py", "train.sh")
BASH = ("/bin/bash", "/usr/bin/bash", "/usr/local/bin/bash")
SHOWN = 20


def find_entry(job: Job, environ: Mapping[str, str], folder: Path) -> str:
    """The entry file, relative to `folder`."""
    name = job.hyperparameters.text(PROGRAM_KEY) or environ.get(PROGRAM)
    if name:
        return _named(name, folder)
    for usual in USUAL_NAMES:
        if (folder / usual).is_file():
            return usual
    scripts = sorted(path.name for path in folder.glob("*.py"))
    if len(scripts) == 1:
        return scripts[0]
    raise ContractError(
        where=str(folder),
        what=f"has no {' or '.join(USUAL_NAMES)}, and {_several(scripts)}; it holds "
        f"{_listing(folder)}",
        cure=f"Name the program with hyperparameter {PROGRAM_KEY} or variable {PROGRAM}",
    )


def command(folder: Path, entry: str) -> tuple[str, ...]:
    """What is executed for `entry`, without its arguments; no shell ever sees those."""
    path = folder / entry
    match path.suffix:
        case ".py":
            return (sys.executable, str(path))
        case ".sh":
            return (next(filter(os.path.exists, BASH), "/bin/sh"), str(path))
    if os.access(path, os.X_OK):
        return (str(path),)
    raise ContractError(
        where=str(path),
        what="is neither a .py nor a .sh file, nor executable",
        cure="Name a .py or .sh file, or make it executable (chmod +x) before it is packed",
    )


def _named(name: str, folder: Path) -> str:
    path = Path(name)
    if path.is_absolute() and path.is_relative_to(folder):
        path = path.relative_to(folder)
    if path.is_absolute() or ".." in path.parts:
        raise ContractError(
            where=f"program {name!r}",
            what=f"is outside the source folder {folder}",
            cure="Give a path relative to the source folder",
        )
    if not (folder / path).is_file():
        raise ContractError(
            where=f"program {name!r}",
            what=f"is not in {folder}, which holds {_listing(folder)}",
            cure=f"Correct hyperparameter {PROGRAM_KEY} (or variable {PROGRAM}), or the code "
            "that was sent",
        )
    return str(path)


def _several(scripts: list[str]) -> str:
    return f"{len(scripts)} .py files to choose from" if scripts else "no .py file"


def _listing(folder: Path) -> str:
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return (", ".join(names[:SHOWN]) or "nothing") + more
