"""Additions to a program that imports torch: a clean exit, and the watch if the job asks for it.

Python imports this module at its start, because the supervisor puts its folder on PYTHONPATH. That
costs a program without torch 2 ms, so only modules that Python has loaded anyway are imported here.
No error in it may harm the program. A sitecustomize of the user or of the system still runs.
"""

from __future__ import annotations

import atexit
import os
import sys
from _frozen_importlib_external import PathFinder  # importlib.machinery's, 1 ms cheaper

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

AWAITED = "torch"


class _ThenComplete:
    """The module's own loader, with the additions after it."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        try:
            _complete()
        except Exception as error:  # noqa: BLE001 - see above
            if _is_watched():
                sys.stderr.write(f"byoc watch: off: {type(error).__name__}: {error}\n")


def _complete() -> None:
    from sagemaker_byoc.training.library.gloo import wait_until_idle  # noqa: PLC0415

    atexit.register(wait_until_idle)
    if _is_watched():
        from sagemaker_byoc.training.library.watch.attach import attach_from_environ  # noqa: PLC0415

        attach_from_environ()


def _is_watched() -> bool:
    from sagemaker_byoc.contract.variables import WATCH  # noqa: PLC0415

    return bool(os.environ.get(WATCH))


class _Finder:
    """Finder for the first import of torch."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != AWAITED:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            spec.loader = _ThenComplete(spec.loader)  # type: ignore[assignment]  # a Loader by its methods
        return spec


def _run_next() -> None:
    """Run the sitecustomize that this one hides."""
    here = os.path.dirname(os.path.realpath(__file__))  # noqa: PTH120 - pathlib costs 7 ms
    places = [place for place in sys.path if os.path.realpath(place or ".") != here]
    spec = PathFinder.find_spec("sitecustomize", places)
    if spec is not None and spec.loader is not None:
        from importlib.util import module_from_spec  # noqa: PLC0415 - 3 ms

        spec.loader.exec_module(module_from_spec(spec))


sys.meta_path.insert(0, _Finder())
_run_next()
