"""A serving container from its start until it answers: its log, /ping, and why it never will."""

from __future__ import annotations

import http.client
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from sagemaker_byoc.contract.errors import ByocError
from sagemaker_byoc.contract.hosting import http as hosting
from sagemaker_byoc.region.containers import listeners
from sagemaker_byoc.region.engines.container import Container, Reach, Reachable

LOG_SECONDS = 10.0
"""A log ends with its container; this bounds the wait for it."""
_LAST_LINES = 20
_POLL = 0.1
_LOOK = 1.0
"""Seconds between two looks at what an engine is slow to tell."""
_SURE = 3
"""Looks in a row that must agree before a container is called misplaced; some servers listen
elsewhere for a moment while they start."""


class EndpointError(ByocError):
    """The container ended, or did not become healthy in time; `what` says which, with its log."""

    def __init__(self, what: str, *, hint: str, last_lines: Sequence[str] | None = None) -> None:
        """`last_lines` of the log are added to `what`; `event` stays without them."""
        self.event = what
        self.last_lines = [*(last_lines or ())]
        if last_lines is not None:
            told = "".join(f"\n  {line}" for line in last_lines) or " (it is empty)"
            what = f"{what}; its log ends:{told}"
        super().__init__(what, hint=hint)


def stopped() -> EndpointError:
    return EndpointError("it was stopped before it was healthy", hint="Start it again")


class ContainerLog(threading.Thread):
    """Hands on a container's log while it runs, and keeps its end."""

    def __init__(
        self,
        container: Container,
        on_line: Callable[[str], None],
        on_end: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(daemon=True)
        self._container = container
        self._on_line = on_line
        self._on_end = on_end
        self._last: deque[str] = deque(maxlen=_LAST_LINES)

    def run(self) -> None:
        try:
            for line in self._container.lines():
                self._last.append(line)
                self._on_line(line)
        except (ByocError, OSError, ValueError) as error:
            self._on_line(f"byoc: the log was lost: {error}")
        finally:
            if self._on_end is not None:
                self._on_end()

    def last_lines(self) -> list[str]:
        """Return the last lines; of a container that has ended, up to its very last."""
        if self._container.exit_code() is not None:
            self.join(LOG_SECONDS)
        return [*self._last]


class Watch:
    """Looks for the end of a container, and for ports where nobody will ask, without haste."""

    def __init__(self, container: Container, port: int, log: ContainerLog) -> None:
        self._container = container
        self._port = port
        self._log = log
        self._next_exit = 0.0
        self._next_look = time.monotonic() + _LOOK
        self._faults = 0

    def exit_code(self) -> int | None:
        """Of a container whose log goes on it is asked once in a while: engines are slow to say."""
        now = time.monotonic()
        if self._log.is_alive() and now < self._next_exit:
            return None
        self._next_exit = now + _LOOK
        return self._container.exit_code()

    def misplaced(self) -> str | None:
        now = time.monotonic()
        if now < self._next_look:
            return None
        self._next_look = now + _LOOK
        reach = self._reach()
        fault = None if reach is None else listeners.misplaced(reach, self._wanted(reach))
        self._faults = 0 if fault is None else self._faults + 1
        return fault if self._faults >= _SURE else None

    def listening(self) -> str:
        reach = self._reach()
        return "" if reach is None else listeners.describe(reach, self._wanted(reach))

    def _reach(self) -> Reach | None:
        return self._container.reach() if isinstance(self._container, Reachable) else None

    def _wanted(self, reach: Reach) -> int:
        return hosting.PORT.value if reach.has_own_network else self._port


def wait_until_healthy(
    container: Container,
    port: int,
    timeout: float,
    log: ContainerLog,
    given_up: threading.Event | None = None,
) -> None:
    """Ping as SageMaker does until 200; raise EndpointError as soon as that can't come any more,
    or once `given_up` is set.
    """
    deadline = time.monotonic() + timeout
    answer = "no answer"
    watch = Watch(container, port, log)
    given_up = given_up or threading.Event()
    while time.monotonic() < deadline:
        code = watch.exit_code()
        if code is not None:
            raise EndpointError(
                f"the serving container ended with exit code {code}",
                hint="Correct the program or the model, then serve again",
                last_lines=log.last_lines(),
            )
        status, answer = ping(port)
        if status == http.client.OK:
            return
        fault = watch.misplaced() if status == 0 else None
        if fault is not None:
            raise EndpointError(
                f"the serving container runs, but {fault}",
                hint="Serve on the address 0.0.0.0 and the port of SAGEMAKER_BIND_TO_PORT, or 8080",
                last_lines=log.last_lines(),
            )
        if given_up.wait(_POLL):
            raise stopped()
    told = "; ".join(filter(None, [answer, watch.listening()]))
    raise EndpointError(
        f"/ping was not 200 within {timeout:.0f} s ({told})",
        hint="Load the model faster, or give more time with --startup-timeout",
        last_lines=log.last_lines(),
    )


def ping(port: int) -> tuple[int, str]:
    """Status and text of one GET /ping; status 0 where nothing answered within SageMaker's 2 s."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=hosting.PING_TIMEOUT.value)
    try:
        connection.request("GET", hosting.PING.value)
        response = connection.getresponse()
        return response.status, f"{response.status} {response.read(500).decode(errors='replace')}"
    except (OSError, http.client.HTTPException) as error:
        return 0, str(error) or type(error).__name__
    finally:
        connection.close()
