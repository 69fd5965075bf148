"""Trying again where a second time may go better: bounded, and slower each time."""

from __future__ import annotations

import random
from collections.abc import Callable
from threading import Event
from typing import TypeVar

from sagemaker_byoc.images.errors import ImageError, RegistryError, TrustError

T = TypeVar("T")
ATTEMPTS = 6
FIRST_WAIT = 0.5
"""Seconds; doubled each time, so that all waits of one action come to some 15."""
_AGAIN = frozenset({408, 429, 500, 502, 503, 504})


class StoppedError(ImageError):
    """Another part of the push failed, or the user has had enough."""

    def __init__(self) -> None:
        super().__init__("the push was stopped", hint="Run it again; it goes on where it was")


class Patience:
    """Shared by the threads of one push; `stop` ends all waits."""

    def __init__(self, note: Callable[[str], None], *, first_wait: float = FIRST_WAIT) -> None:
        self._note = note
        self._first_wait = first_wait
        self._stopped = Event()

    def stop(self) -> None:
        self._stopped.set()

    def check(self) -> None:
        if self._stopped.is_set():
            raise StoppedError

    def __call__(self, action: Callable[[], T]) -> T:
        """Raises what the last attempt raised."""
        for attempt in range(1, ATTEMPTS + 1):
            self.check()
            try:
                return action()
            except RegistryError as error:
                if self._stopped.is_set():  # which broke the connection
                    raise StoppedError from error
                if attempt == ATTEMPTS or not _may_pass(error):
                    raise
                wait = self._first_wait * 2 ** (attempt - 1) * random.uniform(0.8, 1.2)  # noqa: S311
                self._note(f"{error.what}; again in {wait:.1f} s ({attempt} of {ATTEMPTS - 1})")
                self._stopped.wait(wait)
        raise AssertionError


def _may_pass(error: RegistryError) -> bool:
    return not isinstance(error, TrustError) and (error.status == 0 or error.status in _AGAIN)
