"""[tool.byoc] of pyproject.toml: what a project's commands need not be told."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.launch.inputs import is_remote
from sagemaker_byoc.launch.table import as_text, parse_toml

FILE = "pyproject.toml"
KINDS = ("train", "serve")


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """[tool.byoc.train] or [tool.byoc.serve]; empty where the table does not say."""

    program: Path | None = None
    dockerfile: Path | None = None
    channels: Mapping[str, Path] = field(default_factory=dict)
    """Those on this machine; those in S3 are for `byoc launch`."""
    hyperparameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """Paths are the table's, seen from where the file lies."""

    folder: Path
    name: str = ""
    arguments: Mapping[str, str] = field(default_factory=dict)
    """Build arguments."""
    programs: Mapping[str, Program] = field(default_factory=dict)


def read(folder: Path) -> Project | None:
    """None where there is no file, or no such table in it. Raises RequestError with the key."""
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
    table = _Table(path, "tool.byoc", tool["byoc"])
    return Project(
        folder=folder,
        name=table.text("name"),
        arguments=table.table("build").texts("args"),
        programs={kind: _program(folder, table.table(kind)) for kind in KINDS},
    )


def read_for(kind: str, path: Path | None) -> Program:
    """What is known of the program at `path`; of this folder's project where that is None.

    Only a folder is a project: for a file, nothing but its path is known.
    """
    if path is not None and not path.is_dir():
        return Program(program=path)
    project = read(path or Path())
    known = Program() if project is None else project.programs[kind]
    return known if path is None or known.program is not None else replace(known, program=path)


def _program(folder: Path, table: _Table) -> Program:
    program, dockerfile = table.text("program"), table.text("dockerfile")
    return Program(
        program=folder / program if program else None,
        dockerfile=folder / dockerfile if dockerfile else None,
        channels={
            name: folder / place
            for name, place in table.places("channels").items()
            if not is_remote(place)
        },
        hyperparameters=table.texts("hyperparameters"),
    )


@dataclass(frozen=True, slots=True)
class _Table:
    file: Path
    name: str
    value: Any

    def __post_init__(self) -> None:
        if not isinstance(self.value, dict):
            raise RequestError(f"{self.file}: [{self.name}] is no table", hint="Make it one")

    def table(self, key: str) -> _Table:
        return _Table(self.file, f"{self.name}.{key}", self.value.get(key, {}))

    def text(self, key: str) -> str:
        value = self.value.get(key, "")
        if not isinstance(value, str):
            raise RequestError(
                f"{self.file}: [{self.name}] {key} is {value!r}, which is no text",
                hint=f'Write {key} = "…"',
            )
        return value

    def texts(self, key: str) -> dict[str, str]:
        """Each value as a container gets it."""
        return {name: as_text(value) for name, value in self.table(key).value.items()}

    def places(self, key: str) -> dict[str, str]:
        """NAME = "PLACE", or NAME = {source = "PLACE", …}."""
        found: dict[str, str] = {}
        for name, value in self.table(key).value.items():
            place = value.get("source") if isinstance(value, dict) else value
            if not isinstance(place, str):
                raise RequestError(
                    f"{self.file}: [{self.name}] {key}.{name} is {value!r}",
                    hint=f'Write {name} = "PATH", or {name} = {{source = "PATH"}}',
                )
            found[name] = place
        return found
