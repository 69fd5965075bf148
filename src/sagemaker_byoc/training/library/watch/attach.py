"""The one watch of this process, made by a program or, if the job asks, at the process's start."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torch import nn

from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.contract.variables import WATCH
from sagemaker_byoc.training.library.watch.rules.base import EVAL
from sagemaker_byoc.training.library.watch.settings import Rules, make_rules, read_settings
from sagemaker_byoc.training.library.watch.watch import Watch

VALIDATION = re.compile(
    r"(?:^|[^a-z])(?:val|valid|validation|eval|test)(?:[^a-z]|$)", re.IGNORECASE
)
LOSS = re.compile(r"loss", re.IGNORECASE)

_current: list[Watch] = []


def current_watch() -> Watch | None:
    """Return the watch that is attached, if any."""
    return _current[-1] if _current else None


def watch(  # noqa: PLR0913 - each keyword is one setting
    model: nn.Module | None = None,
    *,
    rules: Rules = None,
    save_interval: int | None = None,
    action: str | None = None,
    webhook: str | None = None,
    folder: Path | None = None,
    on_stop: Callable[[], None] | None = None,
) -> Watch:
    """Watch every optimizer of this process from now on. Defaults are the job's settings.

    A watch that is attached already is closed. Raise ContractError for wrong settings.
    """
    old = current_watch()
    if old:
        old.close()
        _current.clear()
    tree = Tree.from_environ(os.environ)
    settings = read_settings(os.environ.get(WATCH) or "1", tree, os.environ)
    if rules is not None:
        settings = replace(settings, rules=make_rules(rules))
    settings = replace(
        settings,
        save_interval=save_interval or settings.save_interval,
        action=action or settings.action,
        webhook=webhook or settings.webhook,
        folder=folder or settings.folder,
        system_folder=folder or settings.system_folder,
        failure=tree if tree.output.is_dir() else None,
    )
    made = Watch(settings, on_stop=on_stop)
    if model is not None:
        made.model(model)
    _current.append(made)
    return made


def attach_from_environ(environ: Mapping[str, str] = os.environ) -> None:
    """Attach a watch at the start of a process if the job asks for it."""
    text = environ.get(WATCH)
    if text and not _current:
        tree = Tree.from_environ(environ)
        _current.append(Watch(read_settings(text, tree, environ)))


def show_losses(rows: Sequence[tuple[int, Mapping[str, float]]]) -> None:
    """Show validation losses that a program logs to the watch of this process, if there is one.

    Training losses are taken from backward: logged ones would count twice.
    """
    watch = current_watch()
    if watch is None:
        return
    for step, values in rows:
        for name, value in values.items():
            if is_validation_loss(name):
                watch.loss(value, mode=EVAL, step=step)


@functools.lru_cache(1024)
def is_validation_loss(name: str) -> bool:
    return LOSS.search(name) is not None and VALIDATION.search(name) is not None
