"""debughookconfig.json and profilerconfig.json: what a job's request said about Debugger.

Shapes: the service model (DebugHookConfig, ProfilerConfig), and smdebug 1.0 (core/json_config.py,
profiler/profiler_config_parser.py). Every value is a string. The nested ones of the profiler are
Python literals with trailing commas, not JSON; smdebug evals them, we only read literals.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sagemaker_byoc.contract.errors import DocumentError
from sagemaker_byoc.contract.files import Json, read_object
from sagemaker_byoc.contract.paths import Tree

HOOK_FILE = "debughookconfig.json"
HOOK_VARIABLE = "SMDEBUG_CONFIG_FILE_PATH"
PROFILER_FILE = "profilerconfig.json"
TENSORBOARD_FILE = "tensorboardoutputconfig.json"
PROFILER_VARIABLE = "SMPROFILER_CONFIG_PATH"
SAVE_INTERVAL = 500
"""Steps between two that are saved, if the request does not say (smdebug's default)."""
PROFILE_MS = 500
"""Milliseconds between two samples of the system, likewise."""


@dataclass(frozen=True, slots=True)
class HookConfig:
    """Which tensors are collected, at which steps."""

    parameters: Mapping[str, str] = field(default_factory=dict)
    collections: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @classmethod
    def read(cls, tree: Tree, environ: Mapping[str, str]) -> HookConfig | None:
        """Return None if the request had no DebugHookConfig."""
        path = hook_file(tree, environ)
        document = read_object(path)
        if document is None:
            return None
        collections = {}
        listed = document.get("CollectionConfigurations") or []
        if not isinstance(listed, list):
            raise _wrong(path, "CollectionConfigurations", "a list")
        for entry in listed:
            name = entry.get("CollectionName") if isinstance(entry, dict) else None
            if not isinstance(entry, dict) or not isinstance(name, str):
                raise _wrong(path, "CollectionConfigurations", "a list of named collections")
            collections[name] = _texts(path, entry, "CollectionParameters")
        return cls(_texts(path, document, "HookParameters"), collections)

    def number(self, name: str, default: int) -> int:
        """Return a step or an interval; the value for training wins over the general one."""
        text = self.parameters.get(f"train.{name}", self.parameters.get(name))
        if text is None:
            return default
        if not text.strip().isdecimal():
            raise DocumentError(
                where=f"{HOOK_FILE}: HookParameters {name}",
                what=f"is {text!r}",
                hint="Give a whole number of steps",
            )
        return int(text)


@dataclass(frozen=True, slots=True)
class ProfilerConfig:
    """How often the system is sampled, and which steps get a trace."""

    is_asked: bool = False
    """Whether the file exists: then the platform uploads its folder."""
    is_disabled: bool = False
    interval_ms: int = PROFILE_MS
    local_path: Path | None = None
    start_step: int | None = None
    steps: int = 1

    @classmethod
    def read(cls, tree: Tree, environ: Mapping[str, str]) -> ProfilerConfig:
        path = Path(environ.get(PROFILER_VARIABLE) or tree.config / PROFILER_FILE)
        document = read_object(path)
        if document is None:
            return cls()
        parameters = _texts(path, document, "ProfilingParameters")
        detailed = _literal(path, parameters.get("DetailedProfilingConfig", ""))
        interval = document.get("ProfilingIntervalInMilliseconds") or PROFILE_MS
        if not isinstance(interval, int) or interval < 1:
            raise _wrong(path, "ProfilingIntervalInMilliseconds", "a number of milliseconds")
        local = parameters.get("LocalPath")
        start = detailed.get("startstep")
        return cls(
            is_asked=True,
            is_disabled=document.get("DisableProfiler") is True,
            interval_ms=interval,
            local_path=tree.moved(local) if local else None,
            start_step=start if isinstance(start, int) else None,
            steps=_count(detailed.get("numsteps")),
        )


def tensorboard_folder(tree: Tree) -> Path | None:
    """Return the folder of events of a job with TensorBoardOutputConfig; None for any other."""
    document = read_object(tree.config / TENSORBOARD_FILE)
    if document is None:
        return None
    local = document.get("LocalPath")
    return tree.moved(local) if isinstance(local, str) and local else tree.output / "tensorboard"


def hook_file(tree: Tree, environ: Mapping[str, str]) -> Path:
    return Path(environ.get(HOOK_VARIABLE) or tree.config / HOOK_FILE)


def _texts(path: Path, document: Mapping[str, Json], key: str) -> dict[str, str]:
    """Return a mapping of strings; null is an empty one, as smdebug takes it."""
    found = document.get(key) or {}
    if not isinstance(found, dict):
        raise _wrong(path, key, "an object")
    return {
        name: value if isinstance(value, str) else str(value)
        for name, value in found.items()
        if value is not None
    }


def _literal(path: Path, text: str) -> dict[str, object]:
    """Return the dictionary in `text`, its keys in lower case as smdebug reads them."""
    if not text.strip():
        return {}
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        value = None
    if not isinstance(value, dict):
        raise _wrong(path, "DetailedProfilingConfig", "a literal such as {'StartStep': 5}")
    return {str(key).lower(): entry for key, entry in value.items()}


def _count(value: object) -> int:
    return max(1, value) if isinstance(value, int) else 1


def _wrong(path: Path, key: str, expected: str) -> DocumentError:
    return DocumentError(
        where=f"{path}: {key}", what=f"is not {expected}", hint=f"Write {expected}, or leave it out"
    )
