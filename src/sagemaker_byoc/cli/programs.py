"""The program that `byoc train`, `serve`, `build` and `check` mean: its settings, engine and shell.

[tool.byoc] of pyproject.toml says what the flags of a project's commands need not repeat.
"""

from __future__ import annotations

import argparse
import difflib
import re
import shlex
import tempfile
import time
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from sagemaker_byoc.cli.terminal import arguments as types
from sagemaker_byoc.cli.terminal import console, signals
from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.launch.inputs import is_remote
from sagemaker_byoc.launch.table import Table, parse_toml
from sagemaker_byoc.launch.train import read_channels
from sagemaker_byoc.region.containers import leftovers
from sagemaker_byoc.region.engines import process
from sagemaker_byoc.region.engines.container import ContainerSpec, Engine, ShellEngine
from sagemaker_byoc.region.engines.copying import Copying
from sagemaker_byoc.region.engines.docker import DockerEngine
from sagemaker_byoc.region.engines.process import ProcessEngine

ENGINES = ("process", "docker")
FILE = "pyproject.toml"
KINDS = ("train", "serve")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramSettings:
    """[tool.byoc.train] or [tool.byoc.serve]; empty if there is no such table."""

    program: Path | None = None
    dockerfile: Path | None = None
    channels: Mapping[str, Path] = field(default_factory=dict)
    """Channels on this machine; those in S3 are for `byoc launch`."""
    hyperparameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """[tool.byoc], empty if there is none. Paths are relative to the file's folder."""

    name: str
    arguments: Mapping[str, str]
    """Build arguments."""
    programs: Mapping[str, ProgramSettings]


def read_project(folder: Path) -> Project:
    """Raise RequestError, which names the key, for a table that is wrong."""
    path = folder / FILE
    table = read_table(path)
    return Project(
        name=table.text("name"),
        arguments=section(path, table, "build").pairs("args"),
        programs={kind: _settings(folder, section(path, table, kind)) for kind in KINDS},
    )


def read_table(path: Path) -> Table:
    """Return [tool.byoc] of a TOML file; it is empty if there is no such table, or no file."""
    try:
        document = parse_toml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        document = {}
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RequestError(f"{path} can't be read: {error}", hint="Correct the file") from error
    tool = document.get("tool")
    return Table(f"{path}: [tool.byoc]", tool.get("byoc", {}) if isinstance(tool, dict) else {})


def section(path: Path, table: Table, name: str) -> Table:
    return Table(f"{path}: [tool.byoc.{name}]", table.value(name, {}))


def read_settings(kind: str, path: Path | None) -> ProgramSettings:
    """Return what is known of the program at `path`; of this folder's project if that is None.

    Only a folder is a project: for a file, nothing but its path is known.
    """
    if path is not None and not path.is_dir():
        return ProgramSettings(program=path)
    known = read_project(path or Path()).programs[kind]
    return known if path is None or known.program is not None else replace(known, program=path)


def _settings(folder: Path, table: Table) -> ProgramSettings:
    program, dockerfile = table.text("program"), table.text("dockerfile")
    return ProgramSettings(
        program=folder / program if program else None,
        dockerfile=folder / dockerfile if dockerfile else None,
        channels={
            name: folder / channel.source
            for name, channel in read_channels(table).items()
            if not is_remote(channel.source)
        },
        hyperparameters=table.pairs("hyperparameters"),
    )


# ── the program ──


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
            f"there is no PROGRAM, and no [tool.byoc.{kind}] program in ./{FILE}",
            hint=f"Name a folder{here}, or a file, or start a project with `byoc init`",
        )
    return path


def parse_pairs(option: str, pairs: Iterable[str]) -> dict[str, str]:
    """Split KEY=VALUE pairs. Raise RequestError for a key that is given twice."""
    values: dict[str, str] = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        if key in values:
            raise RequestError(f"{option} {key!r} is given twice", hint="Give it once")
        values[key] = value
    return values


def channels(settings: ProgramSettings, arguments: argparse.Namespace) -> dict[str, Path]:
    """Return the channels of the settings, and those of --channel, which win."""
    given = parse_pairs("--channel", arguments.channel)
    return {**settings.channels, **{name: Path(folder) for name, folder in given.items()}}


def hyperparameters(settings: ProgramSettings, arguments: argparse.Namespace) -> dict[str, str]:
    """Return the hyperparameters of the settings, and those of --hp, which win."""
    return {**settings.hyperparameters, **parse_pairs("--hp", arguments.hp)}


def check_engine(arguments: argparse.Namespace, option: str, hint: str) -> None:
    """Raise RequestError for an option that needs the Docker engine."""
    if getattr(arguments, option) and arguments.engine != "docker":
        raise RequestError(f"--{option} needs --engine docker", hint=hint)


def image_of(arguments: argparse.Namespace, default_image: str) -> str:
    """Return the image to use. Raise RequestError if one is named and the engine needs none."""
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
    """End and remove what a command left that was killed."""
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


def open_shell(engine: ShellEngine, spec: ContainerSpec, command: str) -> int:
    """Return the exit code of the shell, or that of the signal that ended it."""
    console.step(f"a shell in the container; `{command}` starts what would run, `exit` removes it")
    received = signals.received()
    with engine.shell(spec) as process, received.leaving_terminal_to(process):
        code = process.wait()
    return received.exit_code if received.number else code
