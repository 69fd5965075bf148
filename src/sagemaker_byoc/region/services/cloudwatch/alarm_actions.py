"""What alarms do when their state changes: a handler for each kind of action.

A service of the region registers a handler for the ARNs that it answers. A URL gets a POST with the
message that an SNS topic would get: that is ours, since the region has no SNS.
"""

from __future__ import annotations

import json
import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from sagemaker_byoc.region.core import bounded_http
from sagemaker_byoc.region.core.account import Account
from sagemaker_byoc.region.core.urls import is_url
from sagemaker_byoc.region.services.cloudwatch.alarm_changes import AlarmChange
from sagemaker_byoc.region.services.cloudwatch.alarm_history import ACTION, AlarmHistory

LOG = logging.getLogger(__name__)

QUEUED = 1000
"""URLs, and ARNs, that may wait; further ones fail."""
HTTP_SECONDS = 10.0
_CLOSING_SECONDS = 5.0

AlarmAction: TypeAlias = Callable[[AlarmChange, str], None]
"""A function of a change and the action's ARN or URL. What it raises is the history's error."""


@dataclass(frozen=True, slots=True)
class _Kind:
    prefix: str
    run: AlarmAction
    is_repeated: bool


_Item: TypeAlias = tuple[AlarmChange, str]


class _Worker:
    """A thread that runs items one after the other. It starts with the first one."""

    def __init__(self, run: Callable[[_Item], None]) -> None:
        self._run = run
        self._queue: queue.Queue[_Item | None] = queue.Queue(QUEUED)
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._is_closed = False

    def put(self, item: _Item) -> None:
        """Raise queue.Full if `QUEUED` items wait already."""
        with self._lock:
            if self._thread is None and not self._is_closed:
                self._thread = threading.Thread(
                    target=self._run_all, name="byoc-alarm-actions", daemon=True
                )
                self._thread.start()
        self._queue.put_nowait(item)

    def close(self, deadline: float) -> None:
        """Run what is queued until `deadline`, a time of time.monotonic. Idempotent."""
        with self._lock:
            self._is_closed = True
            thread = self._thread
        if thread is None:
            return
        try:
            self._queue.put(None, timeout=max(0.0, deadline - time.monotonic()))
        except queue.Full:
            return
        thread.join(max(0.0, deadline - time.monotonic()))

    def _run_all(self) -> None:
        while (item := self._queue.get()) is not None:
            self._run(item)


class AlarmActions:
    """Runs the actions of URLs in one thread and those of ARNs in another; records their outcomes.

    A URL that does not answer delays other URLs only.
    """

    def __init__(self, history: AlarmHistory, account: Account, clock: Callable[[], float]) -> None:
        self._history = history
        self._account = account
        self._clock = clock
        self._kinds: list[_Kind] = []
        self._urls = _Worker(self._run)
        self._arns = _Worker(self._run)

    def register(self, prefix: str, run: AlarmAction, *, is_repeated: bool = False) -> None:
        """Let `run` do the actions that begin with `prefix`.

        With `is_repeated` it is called at each evaluation while the state lasts, as auto scaling
        policies are.
        """
        self._kinds.append(_Kind(prefix, run, is_repeated))

    def start(self, change: AlarmChange, *, is_repetition: bool = False) -> None:
        """Queue the actions of the alarm's state. Never raise, and never wait."""
        if not change.alarm["ActionsEnabled"]:
            return
        for action in change.alarm[MEMBERS[change.state]]:
            kind = self._find(action)
            if is_repetition and not (kind and kind.is_repeated):
                continue
            if kind is None:
                error = "not delivered: this local region has nothing that answers it"
                self._record(change, action, error)
                continue
            worker = self._urls if is_url(action) else self._arns
            try:
                worker.put((change, action))
            except queue.Full:
                self._record(change, action, f"not delivered: {QUEUED} actions wait already")

    def close(self) -> None:
        """Run what is queued, for at most 5 s. Idempotent."""
        deadline = time.monotonic() + _CLOSING_SECONDS
        for worker in (self._arns, self._urls):
            worker.close(deadline)

    def _run(self, item: _Item) -> None:
        change, action = item
        kind = self._find(action)
        assert kind is not None, action
        try:
            kind.run(change, action)
            error = ""
        except Exception as failure:  # noqa: BLE001 - the history has it
            error = str(failure) or type(failure).__name__
        self._record(change, action, error)

    def _find(self, action: str) -> _Kind | None:
        if is_url(action):
            return _Kind(action, self._post, is_repeated=False)
        return next((each for each in self._kinds if action.startswith(each.prefix)), None)

    def _record(self, change: AlarmChange, action: str, error: str) -> None:
        if error:
            LOG.warning("alarm %a: action %a: %s", change.name, action, error)
        outcome = "Failed to execute" if error else "Successfully executed"
        data: dict[str, Any] = {
            "actionState": "Failed" if error else "Succeeded",
            "notificationResource": action,
            "stateUpdateTimestamp": round(change.alarm["StateUpdatedTimestamp"].timestamp() * 1000),
            "error": error or None,
        }
        summary = f"{outcome} action {action}"
        self._history.add(change.name, ACTION, summary, data, now=self._clock())

    def _post(self, change: AlarmChange, url: str) -> None:
        body = json.dumps(change.notification(self._account)).encode()
        headers = {"Content-Type": "application/json"}
        status = bounded_http.send("POST", url, body, headers, seconds=HTTP_SECONDS)
        if not 200 <= status < 300:
            raise ConnectionError(f"{url} answered {status}")


MEMBERS = {
    "OK": "OKActions",
    "ALARM": "AlarmActions",
    "INSUFFICIENT_DATA": "InsufficientDataActions",
}
"""The member that has the actions of a state."""
