"""Loads the watch into a program that imports torch; others pay for one comparison.

Python imports this at its start, since the supervisor put the folder on PYTHONPATH. Nothing that
goes wrong here may harm the program. A sitecustomize of the user's or the system's still runs.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

AWAITED = "torch"


class _ThenAttach(Loader):
    """The module's own loader, and the watch after it."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        try:
            from sagemaker_byoc.training.library.watch.attach import attach_from_environ  # noqa: PLC0415

            attach_from_environ()
        except Exception as error:  # noqa: BLE001 - see above
            sys.stderr.write(f"byoc watch: off: {type(error).__name__}: {error}\n")


class _Finder:
    """Finds one module, once."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != AWAITED:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            spec.loader = _ThenAttach(spec.loader)
        return spec


def _run_next() -> None:
    """The sitecustomize that this one hides."""
    here = Path(__file__).parent
    places = [place for place in sys.path if Path(place or ".").resolve() != here.resolve()]
    spec = PathFinder.find_spec("sitecustomize", places)
    if spec is not None and spec.loader is not None:
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)


sys.meta_path.insert(0, _Finder())
_run_next()
