"""The only entrance to user code, and to text made from what it raises.

Whatever a handler raises or does to its process ends as a `Failure`, short of what ends the
process. Only this module catches BaseException: no other module may call user code outside
`attempt`, or put a user's object into text.
"""

from __future__ import annotations

import asyncio
import atexit
import faulthandler
import os
import signal
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, ParamSpec, Self, TypeGuard, TypeVar

from sagemaker_byoc.contract.lifecycle import ExitCode
from sagemaker_byoc.serving import error_replies, log
from sagemaker_byoc.serving.error_replies import MESSAGE_LENGTH, Refusal

P = ParamSpec("P")
T = TypeVar("T")

LINES = 40
"""Lines of one traceback; a deep recursion has thousands."""
CHAIN = 8
"""Exceptions of one report: causes, and members of groups."""
REPORT_LENGTH = 16 * 1024
"""Characters of a report; the log may be a service that charges per byte."""
RECURSION = 1000
"""Python's default limit; a handler that sets a lower one would leave the worker without stack."""
END = 1.5
"""Seconds for the user's exit functions; the supervisor kills after 2."""
NO_TEXT = "its text can't be shown"
_OF_ALL = vars(BaseException)
"""Attributes of BaseException itself: a subclass may have properties of the same names."""
OURS = str(Path(__file__).parents[2])


@dataclass(frozen=True, slots=True)
class Failure:
    """The failure of a call: the answer to the caller, and the lines for the log."""

    status: int
    code: str
    message: str
    report: str = ""
    """Empty if nothing is logged."""
    place: str = ""
    """The type of the error and its line, for a log that must not show a user's data."""

    @property
    def explained(self) -> str:
        """Return the text for the log."""
        return f"{self.message}\n{self.report}"


@dataclass(frozen=True, slots=True)
class Held:
    """A descriptor of the worker. User code may close it, and another file may then get its
    number."""

    descriptor: int
    file: tuple[int, int]

    @classmethod
    def of(cls, descriptor: int) -> Self:
        return cls(descriptor, _file_at(descriptor))

    def is_whole(self) -> bool:
        try:
            return _file_at(self.descriptor) == self.file
        except OSError:
            return False


def _file_at(descriptor: int) -> tuple[int, int]:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino


class Stop(SystemExit):
    """Raised by SIGTERM, also inside user code; the only exception that no guard catches."""


@dataclass(slots=True)
class _Process:
    """State of this process since `run`."""

    held: tuple[Held, ...] = ()
    """The descriptors of the link."""
    is_copy: bool = False
    is_stopping: bool = False


_UNSHOWN = Failure(500, "ModelError", "The handler raised an error that can't be shown", NO_TEXT)
_own = _Process()


def stop(_number: int, _frame: object) -> NoReturn:
    """Handle SIGTERM by an exception, so that the user's exit functions run."""
    _own.is_stopping = True
    raise Stop(0)


def attempt(function: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> Failure | None:
    """Call user code and return what it raised; restore the process, however the code left it."""
    failure = stage(function, *args, **kwargs)
    restore()
    return failure


def stage(function: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> Failure | None:
    """Act as `attempt`, for one of several calls in a row.

    What only the log and the link need is restored if the call failed, else by the `check` that
    precedes the reply and the next wait.
    """
    failure = None
    try:
        function(*args, **kwargs)
    except BaseException as error:  # noqa: BLE001 - user code may raise anything
        failure = failure_of(error)
    if failure:
        restore()
    else:
        between()
    return failure


def between() -> None:
    """Restore, between two calls of user code, what the second one needs."""
    if _own.is_copy or _own.is_stopping or sys.getrecursionlimit() < RECURSION:
        restore()


async def outcome_of(function: Callable[[], Awaitable[T]]) -> tuple[T | None, BaseException | None]:
    """Return what user code returns, or what it raises, once the loop has run it; for another
    thread."""
    try:
        return await function(), None
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # noqa: BLE001 - user code may raise anything
        return None, error
    finally:
        check()


def value_of(function: Callable[[], T], default: T) -> T:
    """Return the function's result, or `default` if it raises."""
    found = [default]
    attempt(lambda: found.append(function()))
    return found[-1]


def failure_of(error: BaseException) -> Failure:
    """Describe any exception, in bounded text that UTF-8 can hold."""
    try:
        place = clean(log.place_of(error), 500)
        refusal = _refusal_of(error)
        if refusal is not None:
            return Failure(*refusal, place=place)
        told = _named_by(error)
        if told is not None:
            report = report_of(error) if told[0] >= 500 else ""
            return Failure(*told, report, place)
        return Failure(*status_of(error), text_of(error), report_of(error), place)
    except BaseException:  # noqa: BLE001 - no memory or no stack is left for a description
        return _UNSHOWN


def _refusal_of(error: BaseException) -> tuple[int, str, str] | None:
    """Return status, code and message of a Refusal; None if a handler has altered them."""
    if not isinstance_of(error, Refusal):
        return None
    status, code, message = error.status, error.code, error.message
    if type(status) is not int or not 400 <= status <= 599:
        return None
    if not isinstance_of(code, str) or not isinstance_of(message, str):
        return None
    return status, clean(code, 100), clean(message, MESSAGE_LENGTH)


def _named_by(error: BaseException) -> tuple[int, str, str] | None:
    """Return what an error of a toolkit or web framework specifies; None if it specifies
    nothing."""
    try:
        told = error_replies.named_by(error)
        return told and (told[0], told[1], clean(told[2], MESSAGE_LENGTH))
    except BaseException:  # noqa: BLE001 - they are the user's attributes
        return None


def isinstance_of(value: object, kind: type[T]) -> TypeGuard[T]:
    """Act as isinstance, ignoring the value's own `__class__`, which may be anything."""
    return issubclass(type(value), kind)


def status_of(error: BaseException) -> tuple[int, str]:
    """Return status and code of an exception that is not a Refusal."""
    lack = (MemoryError, getattr(sys.modules.get("torch"), "OutOfMemoryError", MemoryError))
    is_memory = issubclass(type(error), lack) or (
        type(error) is RuntimeError and "can't allocate memory" in text_of(error)  # torch on CPUs
    )
    return (507, "OutOfMemory") if is_memory else (500, "ModelError")


def close(value: object) -> None:
    """Close a user's iterator, if it can be closed."""
    found = getattr(value, "close", None)
    if found is not None:
        found()


# ── text ──


def clean(text: str, limit: int) -> str:
    """Return a plain str of at most `limit` characters that UTF-8 can encode."""
    short = str.__getitem__(text, slice(limit))  # whatever a subclass does
    return short.encode(errors="backslashreplace").decode()[:limit]


def text_of(error: BaseException) -> str:
    """Return `Type: text`."""
    try:
        text = clean(str(error), MESSAGE_LENGTH)
    except BaseException:  # noqa: BLE001 - __str__ is user code
        text = NO_TEXT
    return f"{clean(log.kind_of(error), 200)}: {text}"[:MESSAGE_LENGTH]


def report_of(error: BaseException) -> str:
    """Return the traceback from the user's function on, the cause first, bounded."""
    parts: list[str] = []
    for found, how in _chain(error):
        parts.append(how)
        parts.append("\n".join([*_frames(found), text_of(found), *_notes(found)]))
    whole = "\n".join(part for part in reversed(parts) if part)
    return whole if len(whole) <= REPORT_LENGTH else f"[…]\n{whole[-REPORT_LENGTH:]}"


def _chain(error: BaseException) -> Iterator[tuple[BaseException, str]]:
    """Return the error and its causes, each with the words that introduce the one before it."""
    current: BaseException | None = error
    how = ""
    for _ in range(CHAIN):
        if current is None:
            return
        yield current, how
        cause = _OF_ALL["__cause__"].__get__(current)
        how = "\nThe above exception was the direct cause of the following exception:\n"
        if cause is None and not _OF_ALL["__suppress_context__"].__get__(current):
            cause = _OF_ALL["__context__"].__get__(current)
            how = "\nDuring handling of the above exception, another exception occurred:\n"
        current = cause


def _traces(error: BaseException) -> Iterator[TracebackType]:
    """Return the frames from the user's function on; all of them if the error has none there."""
    first: TracebackType | None = _OF_ALL["__traceback__"].__get__(error)
    trace = first
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(OURS):
        trace = trace.tb_next
    trace = trace or first
    while trace is not None:
        yield trace
        trace = trace.tb_next


def _line(trace: TracebackType) -> str:
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"


def _frames(error: BaseException) -> list[str]:
    first = next(_traces(error), None)
    if first is None:
        return []
    try:
        lines = traceback.format_list(traceback.extract_tb(first, limit=-LINES))
        shown = clean("".join(lines), REPORT_LENGTH).rstrip("\n").split("\n")
    except BaseException:  # noqa: BLE001 - it reads sources by the user's own loaders
        shown = [f"  {_line(trace)}" for trace in islice(_traces(error), LINES)]
    return ["Traceback (most recent call last):", *shown]


def _notes(error: BaseException) -> list[str]:
    """Return further lines: that of a SyntaxError, notes, members of a group."""
    found: list[str] = []
    try:
        for text in _more(error):
            if isinstance_of(text, str):
                found.append(clean(text, MESSAGE_LENGTH))  # noqa: PERF401 - it may end early
    except BaseException:  # noqa: BLE001 - they are the user's attributes
        return found
    return found


def _more(error: BaseException) -> Iterator[object]:
    if isinstance_of(error, SyntaxError):
        yield f'  File "{error.filename}", line {error.lineno}\n    {str(error.text).strip()}'
    if isinstance_of(error, BaseExceptionGroup):
        for member in vars(BaseExceptionGroup)["exceptions"].__get__(error)[:CHAIN]:
            yield f"  + {log.place_of(member)}: {text_of(member)}"
    yield from islice(getattr(error, "__notes__", []), CHAIN)


# ── the process ──


def run(main: Callable[[list[str]], int], arguments: list[str]) -> NoReturn:
    """Run a program that contains user code; the process ends with it, whatever threads are
    left."""
    codes: list[int] = [ExitCode.OK]
    os.register_at_fork(after_in_child=_become_copy)
    log.keep()
    with suppress(Stop):
        failure = attempt(lambda: codes.append(main(arguments)))
        if failure is not None:
            log.say(failure.explained)
            codes.append(ExitCode.INTERNAL)
    end(codes[-1])


def restore() -> None:
    """Undo what would prevent the worker from answering."""
    check()
    if sys.getrecursionlimit() < RECURSION:
        sys.setrecursionlimit(RECURSION)
    log.restore()
    if _own.is_stopping:
        raise Stop(0)


def hold(*held: Held) -> None:
    """Watch descriptors: the process ends if one is closed. None while the worker closes them
    itself."""
    _own.held = held


def check() -> None:
    """End a process that a handler has forked and that returned, since two would answer on one
    link, or whose link a handler has closed, since another file may have its number."""
    if _own.is_copy:
        log.say("a process that a handler forked returned from it and is ended; use os._exit")
        os._exit(0)
    held = _own.held
    if all(entry.is_whole() for entry in held):
        return
    if _own.held is held:  # else the main thread has given them up meanwhile, and closed them
        end_cut_off()


def end_cut_off() -> NoReturn:
    """End a process whose descriptors a handler has closed; exit functions would need theirs."""
    log.restore()
    log.say("a handler closed descriptors that are not its own: this worker ends")
    os._exit(ExitCode.MODEL_FAILED)


def _become_copy() -> None:
    _own.is_copy = True


def become_worker() -> None:
    """Count this process, which was forked on purpose, as a worker."""
    _own.is_copy = False


def end(code: int) -> NoReturn:
    """End this process: exit functions get a little time, threads and pools none."""
    attempt(_prepare_end)
    attempt(atexit._run_exitfuncs)  # noqa: SLF001 - Python's own end would wait for threads
    for stream in (sys.stdout, sys.stderr):
        attempt(_flush, stream)
    os._exit(code)


def _prepare_end() -> None:
    _own.is_stopping = False
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    faulthandler.dump_traceback_later(END, exit=True, file=nowhere)  # needs no thread of Python's


def _flush(stream: Any) -> None:
    """Flush a stream. A handler may have replaced it by an object without `flush`, or by None."""
    stream.flush()
