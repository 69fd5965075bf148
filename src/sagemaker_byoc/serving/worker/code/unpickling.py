"""While a model is loaded by default, nothing is built from a pickle, whoever would have read it.

`torch.export.load` unpickles parts of a .pt2 archive by itself (`weights_only=False`), so a switch
of our own calls would not be enough. Every lookup of a class or function by Python's unpickler is
an audit event, which can be refused; tensors alone need none, since torch reads those by another.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock, get_ident

from sagemaker_byoc.contract import variables
from sagemaker_byoc.contract.installation import hint_for_module

_EVENT = "pickle.find_class"
_guarded: set[int] = set()
"""Threads that load a model."""
_lock = Lock()
_is_installed = False


class PickleError(Exception):
    """A file would have run code of its own while it was loaded."""


@contextmanager
def forbidden() -> Iterator[None]:
    """In this thread, Python's unpickler looks up no name: PickleError where one is asked for."""
    _install()
    _guarded.add(get_ident())
    try:
        yield
    finally:
        _guarded.discard(get_ident())


def _install() -> None:
    """Once: a hook can't be removed."""
    global _is_installed  # noqa: PLW0603 - the interpreter's own state
    with _lock:
        if not _is_installed:
            sys.addaudithook(_refuse)
            _is_installed = True


def _refuse(event: str, arguments: tuple[object, ...]) -> None:
    if event == _EVENT and get_ident() in _guarded:
        raise PickleError(
            f"it holds a pickle that asks for {arguments[0]}.{arguments[1]}, and pickles are "
            f"programs; set {variables.ALLOW_PICKLE}=1 if you trust the archive"
        )


def hint_of(error: Exception) -> str:
    """Return what to do about a name that an allowed pickle asks for in vain."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"{hint_for_module(error.name, os.environ)}, or in code/ beside the model"
    if isinstance(error, ImportError):
        return "The package that defines it is damaged, or has another version here"
    if is_about_main(error):
        return (
            "The class was defined in the script that saved the model. Move it to a file of its "
            "own, which that script imports, save the model again, and put that file into code/ "
            "beside the model"
        )
    return "The package that defines it has another version here than where the model was saved"


def is_about_main(error: Exception) -> bool:
    """Return whether a pickle asks for what the script that wrote it had defined."""
    return "__main__" in str(error) and "get attribute" in str(error)
