"""One process that the supervisor starts: a plain program, or one rank of several."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from signal import Signals

from sagemaker_byoc.training.supervisor.process.relay import LINE_LIMIT, Lines, Tail
from sagemaker_byoc.training.supervisor.process.start_errors import start_error
from sagemaker_byoc.training.supervisor.process.writer import ERR, OUT, Writer

IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)
"""And so by its children, if they were not reset."""


@dataclass(frozen=True, slots=True)
class Program:
    """What is started."""

    command: tuple[str, ...]
    folder: Path
    environment: Mapping[str, str]
    rank: int | None = None
    """Its number among all ranks on all hosts; None for a plain program."""
    label: str = ""
    """Before each of its lines. Rank 0 has none, so that its metric lines stay as they are."""
    error_file: Path | None = None
    """Where torch's `record` writes the exception that ended it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a program ended."""

    returncode: int
    """Negative for a signal."""
    stop: Signals | None
    """The signal that asked for the end, if one did."""
    is_overrun: bool
    """It was killed because it outlived the grace period."""
    out: str
    err: str
    """The ends of its two streams."""
    rank: int | None = None
    error_file: Path | None = None


class Stream:
    """One of the two pipes of a child, as whole lines with its label."""

    def __init__(self, descriptor: int, reader: int, label: str) -> None:
        self.reader = reader
        self.tail = Tail()
        self._descriptor = descriptor
        self._lines = Lines()
        self._label = label.encode()
        self._newline = b"\n" + self._label
        self.is_open = True

    def read(self, writer: Writer) -> int:
        """Pass on what is there; how many bytes that was, -1 where nothing was."""
        try:
            data = os.read(self.reader, LINE_LIMIT)
        except BlockingIOError:
            return -1
        if data:
            self._pass_on(writer, self._lines.feed(data))
        return len(data)

    def close(self, writer: Writer) -> None:
        self._pass_on(writer, self._lines.end())
        os.close(self.reader)
        self.is_open = False

    def _pass_on(self, writer: Writer, whole: bytes) -> None:
        if whole:
            self.tail.add(whole)
            if self._label:
                whole = self._label + whole[:-1].replace(b"\n", self._newline) + b"\n"
            writer.put(self._descriptor, whole)


class Child:
    """A program that runs, or ran."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.status: int | None = None
        """Its wait status, once it has ended."""
        self.is_ending = False
        """It was told to end, or killed: its end is no cause of anything."""
        ends: dict[int, int] = {}
        self.streams: dict[int, Stream] = {}
        try:
            for descriptor in (OUT, ERR):
                reader, ends[descriptor] = os.pipe()
                os.set_blocking(reader, False)
                self.streams[descriptor] = Stream(descriptor, reader, program.label)
            self.pid = _spawn(program, ends)
        except (OSError, ValueError) as error:
            for stream in self.streams.values():
                os.close(stream.reader)
            raise start_error(program, error) from error
        finally:
            for end in ends.values():
                os.close(end)

    def signal(self, number: Signals) -> None:
        """To its process group, which it leads."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def outcome(self, stop: Signals | None, *, is_overrun: bool) -> Outcome:
        return Outcome(
            returncode=os.waitstatus_to_exitcode(self.status or 0),
            stop=stop,
            is_overrun=is_overrun,
            out=self.streams[OUT].tail.text(),
            err=self.streams[ERR].tail.text(),
            rank=self.program.rank,
            error_file=self.program.error_file,
        )


def _spawn(program: Program, ends: Mapping[int, int]) -> int:
    # posix_spawn takes no working folder, so ours becomes the program's. The import of
    # subprocess alone would keep the program waiting for 4 ms.
    os.chdir(program.folder)
    return os.posix_spawn(
        program.command[0],
        program.command,
        program.environment,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, ends[OUT], OUT),
            (os.POSIX_SPAWN_DUP2, ends[ERR], ERR),
        ],
        setsid=True,
        setsigdef=IGNORED_BY_PYTHON,
    )
