"""The user's program: which file of the source folder, and the command that starts it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from sagemaker_byoc.contract.environment import PROGRAM
from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.contract.job import Job

PROGRAM_KEY = "sagemaker_program"
USUAL_NAMES = ("train.py", "train.sh")
MODULE = "-m "
DOTTED = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")
BASH = ("/bin/bash", "/usr/bin/bash", "/usr/local/bin/bash")
SHOWN = 20


def find_entry(job: Job, environ: Mapping[str, str], folder: Path) -> str:
    """The entry file, relative to `folder`; or a module, as `-m package.module`."""
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
    if entry.startswith(MODULE):
        return (sys.executable, "-m", entry.removeprefix(MODULE))
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


def source_file(folder: Path, entry: str) -> Path:
    """Where the program's options are declared, as far as a file name tells."""
    if not entry.startswith(MODULE):
        return folder / entry
    name = entry.removeprefix(MODULE)
    return _module_file(folder, name) or folder / name


def import_folders(folder: Path) -> tuple[Path, ...]:
    """What the program can import from: the folder, and src in it where that is the layout."""
    return (folder, folder / "src") if (folder / "src").is_dir() else (folder,)


def _module_file(folder: Path, name: str) -> Path | None:
    for root in import_folders(folder):
        path = root.joinpath(*name.split("."))
        for candidate in (path.with_name(f"{path.name}.py"), path / "__main__.py"):
            if candidate.is_file():
                return candidate
    return None


def _module(name: str, folder: Path) -> str | None:
    """`name` as a module to run: what is said to be one, or is one in the folder."""
    if name.startswith(MODULE):
        dotted = name.removeprefix(MODULE).strip()
        return f"{MODULE}{dotted}" if DOTTED.fullmatch(dotted) else None
    dotted = name.rstrip("/").replace("/", ".")
    if DOTTED.fullmatch(dotted) and not (folder / name).is_file() and _module_file(folder, dotted):
        return f"{MODULE}{dotted}"
    return None


def _named(name: str, folder: Path) -> str:
    module = _module(name, folder)
    if module:
        return module
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
