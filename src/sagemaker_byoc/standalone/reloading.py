"""An endpoint that follows its files: each change starts a container beside the one that serves.

The new one gets the requests once it is healthy; the old one finishes those it has. One that does
not become healthy is removed, and the old one continues to serve. While both are there, so are both
models.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from sagemaker_byoc.contract.errors import ByocError
from sagemaker_byoc.region.engines.container import Engine, GivenUpError
from sagemaker_byoc.standalone.changes import Changes
from sagemaker_byoc.standalone.endpoint import (
    Endpoint,
    EndpointRequest,
    free_port,
    open_endpoint,
    require_free,
)
from sagemaker_byoc.standalone.relay import Relay

LOOK = 0.3
"""Seconds between two looks at the files."""
_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Listeners:
    """Functions that get what happens, from the thread that calls `follow`."""

    line: Callable[[str], None]
    """Each line of a container's log, from other threads."""
    say: Callable[[str], None]
    failed: Callable[[Exception], None]
    """A container that did not become healthy, or ended."""
    healthy: Callable[[str], None]
    """The URL, each time that another container serves there."""


@dataclass(slots=True)
class Reloading:
    """`request.port` is the relay's; each container has one of its own."""

    request: EndpointRequest
    engine: Engine
    listeners: Listeners
    given_up: threading.Event
    hurried: threading.Event
    """Set to kill what would be stopped."""
    _current: tuple[Endpoint, ExitStack] | None = None
    _number: int = 0
    _leaving: list[threading.Thread] = field(default_factory=list)

    def follow(self) -> None:
        """Serve until `given_up` is set. Raise ByocError if the port is taken."""
        require_free(self.request.port)
        watched = [self.request.model]
        watched += [] if self.request.program is None else [self.request.program]
        changes = Changes(watched)
        with Relay(self.request.port) as relay:
            try:
                self._start(relay)
                while not self.given_up.wait(LOOK):
                    if changed := changes.settled():
                        self._say_what(changed)
                        self._start(relay)
                    self._look_after(relay)
            finally:
                self._leave()
                for thread in self._leaving:
                    thread.join()

    def _start(self, relay: Relay) -> None:
        stack, port = ExitStack(), free_port()
        self._number += 1
        request = replace(
            self.request,
            name=f"{self.request.name}-{self._number}",
            work=self.request.work.with_name(f"{self.request.work.name}-{self._number}"),
            port=port,
        )
        try:
            endpoint = stack.enter_context(
                open_endpoint(request, self.engine, self.listeners.line, self.given_up)
            )
        except GivenUpError:
            return
        except (ByocError, OSError) as error:
            if not self.given_up.is_set():
                self.listeners.failed(error)
                serving = "the previous one still serves" if self._current else "nothing serves"
                self.listeners.say(f"{serving}; waiting for a change")
            return
        relay.target = port
        self._leave()
        self._current = (endpoint, stack)
        self.listeners.healthy(f"http://127.0.0.1:{self.request.port}")

    def _look_after(self, relay: Relay) -> None:
        if self._current is None:
            return
        endpoint, stack = self._current
        code = endpoint.exit_code()
        if code is not None:
            relay.target = 0
            self._current = None
            stack.close()
            self.listeners.say(f"the container ended with exit code {code}; waiting for a change")

    def _leave(self) -> None:
        """Stop the current container in a thread: what it has begun may take half a minute."""
        if self._current is None:
            return
        endpoint, stack = self._current
        self._current = None

        def end() -> None:
            with stack:
                endpoint.stop(self.hurried)

        thread = threading.Thread(target=end)
        thread.start()
        self._leaving = [other for other in self._leaving if other.is_alive()] + [thread]

    def _say_what(self, changed: list[str]) -> None:
        names = [_short(Path(name), self.request.program) for name in changed[:_SHOWN]]
        more = len(changed) - len(names)
        self.listeners.say(
            f"changed: {', '.join(names)}{f' and {more} more' if more else ''}; starting again"
        )


def _short(path: Path, folder: Path | None) -> str:
    return str(path.relative_to(folder)) if folder and path.is_relative_to(folder) else path.name
