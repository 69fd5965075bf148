"""The containers of one job, from the first start to the last end, and what they leave."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path, PurePosixPath
from queue import SimpleQueue

from sagemaker_byoc.contract import facts, folders, lifecycle
from sagemaker_byoc.contract.errors import ByocError
from sagemaker_byoc.contract.folders import LEFT_OUT, Entry, OnLeft, readable, walk
from sagemaker_byoc.contract.lifecycle import clip
from sagemaker_byoc.contract.paths import DEFAULT_ROOT, Tree
from sagemaker_byoc.region.engines.container import Container, ContainerSpec, Engine, start_all

LOG = logging.getLogger(__name__)

OnLine = Callable[[str, str], None]
"""Receives a host's name and one line of its log, from several threads."""

_STOPPED = ""
"""Sentinel put on the queue when a stop is requested."""
LOG_ENDS = 30.0
"""Seconds that a log may take to end after its container has ended."""


@dataclass(frozen=True, slots=True)
class Outcome:
    codes: Mapping[str, int]
    """Exit codes by host, in the order in which the hosts ended."""
    seconds: float
    """From the start to the last end."""
    stopped: bool
    """Whether a stop was requested before the last host ended by itself."""
    lost: Mapping[str, str] = field(default_factory=dict)
    """Why the engine could not tell how a host ended, or could not end it."""

    @property
    def failed(self) -> str | None:
        """The first host whose exit code is not 0."""
        return next((host for host, code in self.codes.items() if code), None)


@dataclass(slots=True)
class Hosts:
    """Started containers by host, each with a thread that reads its log to the end."""

    containers: dict[str, Container] = field(default_factory=dict)
    _ended: SimpleQueue[str] = field(default_factory=SimpleQueue)
    _codes: dict[str, int] = field(default_factory=dict)
    _lost: dict[str, str] = field(default_factory=dict)
    _kept: bool = False
    _hurried: bool = False
    _readers: list[threading.Thread] = field(default_factory=list)
    _stoppers: list[threading.Thread] = field(default_factory=list)

    def start(
        self,
        engine: Engine,
        specs: Mapping[str, ContainerSpec],
        on_line: OnLine,
        given_up: Callable[[], bool] = lambda: False,
    ) -> None:
        """Start all containers or none.

        Raise ByocError if one can't start, GivenUpError once `given_up` returns True.
        """
        self.containers = start_all(engine, specs, given_up)
        for host, container in self.containers.items():
            reader = threading.Thread(
                target=self._read, args=(host, container, on_line), daemon=True
            )
            reader.start()
            self._readers.append(reader)

    def wait(self, stop: StopSwitch, grace: Callable[[], float]) -> Outcome:
        """Wait until all containers have ended.

        A host that fails ends the others, and `stop` ends all: SIGTERM, then SIGKILL after
        `grace()` seconds, or at once if the stop is hurried.
        """
        began = time.monotonic()
        stop.listen(lambda: self._ended.put(_STOPPED))
        stopped = False
        while len(self._codes) < len(self.containers):
            host = self._ended.get()
            if host == _STOPPED:
                stopped = stopped or len(self._codes) < len(self.containers)
                self._stop_all(grace(), hurried=stop.hurried)
            elif self._codes.get(host, 1) and len(self._codes) < len(self.containers):
                self._stop_all(lifecycle.TRAIN_STOP_GRACE.value)
        return Outcome(dict(self._codes), time.monotonic() - began, stopped, dict(self._lost))

    def keep(self) -> str:
        """End all containers, keep them for the user, and return how to reach them."""
        self._kept = True
        return ". ".join(filter(None, (each.keep() for each in self.containers.values())))

    def close(self) -> None:
        """End and remove all containers, and wait for the rest of their logs."""
        with ExitStack() as stack:
            for container in () if self._kept else self.containers.values():
                stack.callback(container.close)
        for thread in (*self._stoppers, *self._readers):
            thread.join(LOG_ENDS)

    def _read(self, host: str, container: Container, on_line: OnLine) -> None:
        code = 1
        try:
            self._copy_log(host, container, on_line)
            code = container.wait()
        except Exception as error:
            LOG.exception("the log of %s can't be read", host)
            self._lost[host] = str(error)
        finally:
            self._codes.setdefault(host, code)
            self._ended.put(host)

    def _copy_log(self, host: str, container: Container, on_line: OnLine) -> None:
        try:
            for line in container.lines():
                on_line(host, line)
        except (ByocError, OSError, ValueError) as error:
            on_line(host, f"byoc: the log of {host} was lost: {error}")

    def _stop_all(self, grace: float, *, hurried: bool = False) -> None:
        if self._hurried or (self._stoppers and not hurried):
            return
        self._hurried = hurried
        grace = 0.0 if hurried else grace
        for host, container in self.containers.items():
            if host not in self._codes:
                stopper = threading.Thread(
                    target=self._stop, args=(host, container, grace), daemon=True
                )
                stopper.start()
                self._stoppers.append(stopper)

    def _stop(self, host: str, container: Container, grace: float) -> None:
        try:
            container.stop(grace)
        except Exception as error:  # it might never end, and the job must
            LOG.exception("%s can't be stopped", host)
            self._lost[host] = str(error)
            self._codes.setdefault(host, 1)
            self._ended.put(host)


class Why(StrEnum):
    STOP = "stop"
    RUNTIME = "MaxRuntimeInSeconds is over"
    WAIT = "MaxWaitTimeInSeconds is over"
    INTERRUPTED = "the spot instance is taken away"
    CLOSING = "the region ends"
    BROKEN = "the input is broken"


class StopSwitch:
    """A request to stop a running job, made from a signal handler or from another thread.

    The first reason is kept. No method waits for a lock, since a signal handler must not.
    """

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._listeners: list[Callable[[], None]] = []
        self.why: Why | None = None
        self.hurried = False
        """Whether the containers are to be killed at once, without a grace period."""

    def ask(self, why: Why = Why.STOP) -> None:
        if self.why is None:
            self.why = why
        self._asked.set()
        for listener in [*self._listeners]:
            listener()

    def hurry(self) -> None:
        self.hurried = True
        self.ask()

    @property
    def asked(self) -> bool:
        return self._asked.is_set()

    def wait(self, timeout: float) -> bool:
        return self._asked.wait(timeout)

    def listen(self, listener: Callable[[], None]) -> None:
        """Call `listener` at every `ask`, and now if one has been made. It must not block."""
        self._listeners.append(listener)
        if self.asked:
            listener()


Source = tuple[str, Path, str]
"""A host, its tree, and the folder below the tree's root."""


def sources(trees: Mapping[str, Tree], folder: str) -> list[Source]:
    return [(host, tree.root, folder) for host, tree in trees.items()]


def merged(
    found: Iterable[Source], on_line: OnLeft, *, keep_links: bool = False
) -> Iterator[Entry]:
    """Yield the files of all hosts; if several hosts wrote one name, the first host's file."""
    owners: dict[str, tuple[str, bool]] = {}
    for host, root, folder in found:
        for entry in walk(root, folder, on_line, keep_links=keep_links):
            is_folder = entry.file is None and entry.link is None
            known = owners.setdefault(entry.relative, (host, is_folder))
            shown = readable(str(DEFAULT_ROOT / folder / entry.relative))
            if known == (host, is_folder):
                above = (str(path) for path in PurePosixPath(entry.relative).parents)
                if all(owners.get(path, known)[1] or path == "." for path in above):
                    yield entry
            elif is_folder != known[1]:
                on_line(
                    f"{LEFT_OUT}{shown} of {host} because one host wrote a file where another "
                    "wrote a folder"
                )
            elif not is_folder:
                on_line(f"{shown} was written by {known[0]} and by {host}; {known[0]}'s is kept")


def noting_links(entries: Iterable[Entry], archive: str, on_line: OnLeft) -> Iterator[Entry]:
    """Yield `entries`; at the end, report the links among them."""
    links = 0
    example = ""
    for entry in entries:
        if entry.link is not None:
            links += 1
            example = readable(entry.relative)
        yield entry
    if links:
        on_line(
            f"{archive} holds {links} links, as {example}: hosting may refuse an archive with "
            "links; copy the files instead"
        )


def failure_reason(tree: Tree, code: int, on_left: OnLeft = lambda _: None) -> str:
    """Return `AlgorithmError: TEXT, exit code: N`, at most 1024 characters, its end never cut off.

    TEXT is empty if there is no failure file, as in SageMaker's own reasons.
    """
    return failure_text(read_failure(tree, on_left) or "", code)


def failure_text(text: str, code: int) -> str:
    start, end = "AlgorithmError: ", f", exit code: {code}"
    room = facts.FAILURE_REASON.value - len(start) - len(end)
    return f"{start}{clip(text, room)}{end}"


def read_failure(tree: Tree, on_left: OnLeft = lambda _: None) -> str | None:
    """Return the failure file's text as SageMaker would show it; None if there is no such file.

    A program may have put anything in its place: `on_left` receives a sentence if it is not read.
    """
    name = tree.failure.relative_to(tree.root)
    try:
        data = folders.read(tree.root, str(name), 4 * facts.FAILURE_REASON.value)
    except (OSError, folders.LeftOutError) as error:
        on_left(folders.left_out(str(name), error))
        return None
    text = (data or b"").decode("utf-8", "replace")
    return text[: facts.FAILURE_REASON.value].strip() or None
