"""-q and -v: how much a command says on stderr beside its errors."""

from __future__ import annotations

import logging

from sagemaker_byoc.cli.terminal import console
from sagemaker_byoc.host.request_log import LOGGER


class _Handler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        console.detail(self.format(record))


_handler = _Handler()


def set_up(*, quiet: bool, verbose: bool) -> None:
    """-v wins over -q."""
    console.set_quiet(quiet=quiet and not verbose)
    if verbose:
        LOGGER.setLevel(logging.DEBUG)
        LOGGER.addHandler(_handler)


def reset() -> None:
    console.set_quiet(quiet=False)
    LOGGER.removeHandler(_handler)
    LOGGER.setLevel(logging.NOTSET)


def is_verbose() -> bool:
    return _handler in LOGGER.handlers
