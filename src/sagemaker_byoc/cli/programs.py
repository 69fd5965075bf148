"""Options that several commands share, and the parsing of their values."""

from __future__ import annotations

import argparse
import difflib
import re
import shlex
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sagemaker_byoc.cli import project_table
from sagemaker_byoc.cli.terminal import arguments as types
from sagemaker_byoc.cli.terminal import console
from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.region.containers import leftovers
from sagemaker_byoc.region.engines import process
from sagemaker_byoc.region.engines.container import Engine
from sagemaker_byoc.region.engines.docker import DockerEngine
from sagemaker_byoc.region.engines.packing import Copying
from sagemaker_byoc.region.engines.process import ProcessEngine

ENGINES = ("process", "docker")


@dataclass(frozen=True, slots=True)
class Program:
    """A folder of user code, and the file in it to start where the user named one."""

    folder: Path
    entry_point: str | None

    @property
    def name(self) -> str:
        """A legal job name made from the folder's."""
        stem = re.sub(r"[^a-zA-Z0-9]+", "-", self.folder.resolve().name).strip("-")
        return stem[:40].strip("-") or "program"


def parse_program(path: Path, usual: str = "train.py") -> Program:
    """PROGRAM of the command line: a folder, or one file of it."""
    if path.is_dir():
        return Program(path, None)
    if path.is_file():
        return Program(path.parent, path.name)
    names = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, names, n=1)
    meant = f"Did you mean {shlex.quote(str(path.parent / near[0]))}? " if near else ""
    raise RequestError(
        f"there is no program {path}", hint=f"{meant}Name a folder with {usual}, or a file"
    )


def add_program(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "program",
        type=Path,
        nargs="?",
        metavar="PROGRAM",
        help="its folder, or its file (default: what [tool.byoc] of ./pyproject.toml says)",
    )


def required(path: Path | None, kind: str) -> Path:
    if path is None:
        here = f": `byoc {kind} .` takes this one" if any(Path().glob("*.py")) else ""
        raise RequestError(
            f"there is no PROGRAM, and no [tool.byoc.{kind}] program in ./{project_table.FILE}",
            hint=f"Name a folder{here}, or a file, or start a project with `byoc init`",
        )
    return path


def parse_pairs(option: str, pairs: Iterable[str]) -> dict[str, str]:
    """KEY=VALUE, each key once."""
    values: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise RequestError(
                f"{option} {pair!r} is not KEY=VALUE", hint=f"Write {option} KEY=VALUE"
            )
        if key in values:
            raise RequestError(f"{option} {key!r} is given twice", hint="Give it once")
        values[key] = value
    return values


def check_engine(arguments: argparse.Namespace, option: str, hint: str) -> None:
    """Raise RequestError for an option that only the Docker engine has a use for."""
    if getattr(arguments, option) and arguments.engine != "docker":
        raise RequestError(f"--{option} needs --engine docker", hint=hint)


def image_of(arguments: argparse.Namespace, default_image: str) -> str:
    """Return the image that is asked for; RequestError if the engine has no use for it."""
    check_engine(arguments, "image", hint="Add --engine docker, or leave --image out")
    image: str = arguments.image or default_image
    return image


def add_engine(parser: argparse.ArgumentParser, default_image: str) -> None:
    parser.add_argument(
        "--engine",
        choices=ENGINES,
        default="process",
        help="process: this Python, no Docker needed (default); docker: a real container",
    )
    parser.add_argument("--image", help=f"for --engine docker (default: {default_image})")
    parser.add_argument(
        "--env",
        action="append",
        type=types.pair,
        default=[],
        metavar="KEY=VALUE",
        help="a variable of the container; may be repeated",
    )


def make_engine(
    name: str, *, mount_inputs: bool = False, copying: Copying | None = None
) -> DockerEngine | ProcessEngine:
    if name == "docker":
        return DockerEngine(mount_inputs=mount_inputs, copying=copying)
    with tempfile.TemporaryDirectory(prefix="byoc-") as scratch:
        engine = process.make_engine(Path(scratch))
    if not engine.unshare:
        console.detail(f"{process.lacking()}: /opt/ml is moved with SAGEMAKER_BASE_DIR")
    return engine


def sweep(engine: Engine) -> None:
    """End and remove what an earlier command left that was killed."""
    for sentence in leftovers.end_commands(docker_too=engine.name == "docker"):
        console.step(sentence)


def unique_name(stem: str) -> str:
    """`stem` and the time, in UTC, as SageMaker's SDK names jobs."""
    return f"{stem}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"
