"""What `byoc train`, `serve`, `build` and `check` share: the program, its engine, why it failed."""

from __future__ import annotations

import argparse
import difflib
import re
import shlex
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sagemaker_byoc.cli import project_table
from sagemaker_byoc.cli.terminal import arguments as types
from sagemaker_byoc.cli.terminal import console, signals
from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.contract.http import DEFAULT_PROGRAM
from sagemaker_byoc.region.containers import leftovers
from sagemaker_byoc.region.engines import process
from sagemaker_byoc.region.engines.container import ContainerSpec, Engine, ShellEngine
from sagemaker_byoc.region.engines.copying import Copying
from sagemaker_byoc.region.engines.docker import DockerEngine
from sagemaker_byoc.region.engines.process import ProcessEngine

ENGINES = ("process", "docker")


@dataclass(frozen=True, slots=True)
class Program:
    """A folder of user code, and the file in it to start if the user named one."""

    folder: Path
    entry_point: str | None

    @property
    def name(self) -> str:
        """A valid job name made from the folder's name."""
        stem = re.sub(r"[^a-zA-Z0-9]+", "-", self.folder.resolve().name).strip("-")
        return stem[:40].strip("-") or "program"


def parse_program(path: Path, usual: str = "train.py") -> Program:
    """Parse PROGRAM of the command line: a folder, or one file of it."""
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
        help="its folder or its file (default: what [tool.byoc] of ./pyproject.toml says)",
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
    """Parse KEY=VALUE pairs. Raise RequestError for a key that is given twice."""
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
    """Raise RequestError for an option that needs the Docker engine."""
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
    parser.add_argument("--image", help=f"image for --engine docker (default: {default_image})")
    parser.add_argument(
        "--env",
        action="append",
        type=types.pair,
        default=[],
        metavar="KEY=VALUE",
        help="environment variable of the container; may be repeated",
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
    """Return `stem` with the time in UTC, as the SageMaker SDK names jobs."""
    return f"{stem}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"


# ── a shell in the container ──


def add_shell(parser: argparse.ArgumentParser, command: str) -> None:
    parser.add_argument(
        "--shell",
        action="store_true",
        help=f"open a shell in the container instead of running `{command}`, which can be "
        "started there; nothing of it is kept",
    )


def attend(engine: ShellEngine, spec: ContainerSpec, command: str) -> int:
    """Return the exit code of the shell, or that of the signal that ended it."""
    console.step(f"a shell in the container; `{command}` starts what would run, `exit` removes it")
    received = signals.received()
    with engine.shell(spec) as process, received.leaving_terminal_to(process):
        code = process.wait()
    return received.exit_code if received.number else code


# ── why a container failed ──

# Images say what helps inside a container (`set NAME=VALUE`); a command says how to get it there.
_OURS = re.compile(r"byoc: (?:error: )(?:slot \d+: )?(?:loading failed: )?(.*)")
"""The cause in the log of an image of this toolkit; it comes last, if at all."""
_EXCEPTION = re.compile(r"(?:byoc: )?([A-Za-z_][\w.]*(?:Error|Exception|Exit|Interrupt)\b.*)")
_NOISE = re.compile(r"byoc: ping: ")
_CHOICE = re.compile(r"to choose from \(([^,)]+)")
_HINTS = (
    (
        re.compile(r"\bset ((?:BYOC|SAGEMAKER)_[A-Z_]+=[^\s,.;]+)"),
        "If that is what you want, add --env {found}",
    ),
    (re.compile(r"(?:is not installed|Install what it needs): ([^;\n]+)"), "Run: {found}"),
    (
        re.compile(r"channel '([^']+)' was not given"),
        "Add --channel {found}=DIR, with the folder that holds its data",
    ),
    (
        re.compile(r"((?:without|no) model_fn)\b"),
        "Define model_fn in {handlers}, or name another --model",
    ),
    (
        re.compile(r"(no \.py file that could be the program)"),
        "Name the program's file: byoc {command} FOLDER/FILE",
    ),
)


def cause_of(lines: Sequence[str]) -> str:
    """Return the line that says why; how it ends if none does, "" for an empty log."""
    for pattern in (_OURS, _EXCEPTION):
        for line in reversed(lines):
            if found := pattern.fullmatch(line.strip()):
                return found[1]
    said = [line for line in lines if line.strip() and not _NOISE.match(line)]
    return f"its log ends with: {said[-1].strip().removeprefix('byoc: ')}" if said else ""


def hint_for(command: str, program: Path | None, cause: str) -> str:
    """Return what to do about `cause`; "" if there is nothing more to say than the cause does."""
    if program is not None and (choice := _CHOICE.search(cause)):
        return f"Name the file: {shlex.join(['byoc', command, str(program / choice[1])])}"
    handlers = (
        "an inference.py, and name its folder"
        if program is None
        else program / DEFAULT_PROGRAM.value
    )
    for pattern, text in _HINTS:
        if found := pattern.search(cause):
            return text.format(found=found[1], handlers=handlers, command=command)
    return ""
