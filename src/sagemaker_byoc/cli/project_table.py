"""[tool.byoc] of pyproject.toml: what the flags of a project's commands need not repeat."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.launch.inputs import is_remote
from sagemaker_byoc.launch.table import Table, parse_toml
from sagemaker_byoc.launch.train import read_channels

FILE = "pyproject.toml"
KINDS = ("train", "serve")


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """[tool.byoc.train] or [tool.byoc.serve]; empty if the table does not say."""

    program: Path | None = None
    dockerfile: Path | None = None
    channels: Mapping[str, Path] = field(default_factory=dict)
    """Channels on this machine; those in S3 are for `byoc launch`."""
    hyperparameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """Paths are relative to the file's folder."""

    folder: Path
    name: str = ""
    arguments: Mapping[str, str] = field(default_factory=dict)
    """Build arguments."""
    programs: Mapping[str, Program] = field(default_factory=dict)


def read(folder: Path) -> Project | None:
    """Return None if there is no file, or no such table in it. Raise RequestError with the key."""
    path = folder / FILE
    try:
        document = parse_toml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RequestError(f"{path} can't be read: {error}", hint="Correct the file") from error
    tool = document.get("tool", {})
    if not isinstance(tool, dict) or "byoc" not in tool:
        return None
    table = Table(f"{path}: [tool.byoc]", tool["byoc"])
    return Project(
        folder=folder,
        name=table.text("name"),
        arguments=Table(f"{path}: [tool.byoc.build]", table.value("build", {})).pairs("args"),
        programs={
            kind: _program(folder, Table(f"{path}: [tool.byoc.{kind}]", table.value(kind, {})))
            for kind in KINDS
        },
    )


def read_for(kind: str, path: Path | None) -> Program:
    """Return what is known of the program at `path`; of this folder's project if that is None.

    Only a folder is a project: for a file, nothing but its path is known.
    """
    if path is not None and not path.is_dir():
        return Program(program=path)
    project = read(path or Path())
    known = Program() if project is None else project.programs[kind]
    return known if path is None or known.program is not None else replace(known, program=path)


def _program(folder: Path, table: Table) -> Program:
    program, dockerfile = table.text("program"), table.text("dockerfile")
    return Program(
        program=folder / program if program else None,
        dockerfile=folder / dockerfile if dockerfile else None,
        channels={
            name: folder / channel.source
            for name, channel in read_channels(table).items()
            if not is_remote(channel.source)
        },
        hyperparameters=table.pairs("hyperparameters"),
    )
