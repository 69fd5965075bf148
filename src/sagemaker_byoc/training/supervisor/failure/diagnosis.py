"""The failure text: the cause first, then who, then what helps, then where.

SageMaker shows its first 1024 characters and nothing else, so what matters most comes first and
no part may crowd out the next.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from signal import Signals

from sagemaker_byoc.contract import facts
from sagemaker_byoc.contract.lifecycle import SIGNAL_BASE, clip, exit_code_of, squeeze
from sagemaker_byoc.contract.training.job import Job, legal_name
from sagemaker_byoc.training.supervisor.failure.first_cause import Report, is_echo
from sagemaker_byoc.training.supervisor.failure.hints import (
    MEMORY,
    MISSING_DATA,
    hint_for_end,
    hint_for_text,
)
from sagemaker_byoc.training.supervisor.failure.tracebacks import (
    Frame,
    Log,
    Traceback,
    fatal_error,
    last_traceback,
    lines_of,
    read_log,
    recorded_error,
)
from sagemaker_byoc.training.supervisor.process.child import Outcome

PART_LIMIT = 240
FIXED_LIMIT = 500
"""Bytes for who failed and what helps."""
PLACE_LIMIT = 160
SOURCE_LIMIT = 1 << 20
"""Bytes of a source file that are searched."""
LEAST = 24
"""Bytes below which a cut line has no meaning."""
CHANNEL = "SM_CHANNEL_"
VARIABLE = rf"\b{CHANNEL}([A-Za-z0-9_.-]+)"
FRAMES = 5
CERTAIN_PLACES = 2
"""Number of innermost lines that stay, however long the cause is."""
LAST_WORDS = 4096
"""Characters of a crashed program's output that are searched, as it has no Python traceback."""
PYTHON_RAISED = 1
"""Exit code of Python after an uncaught exception."""
SIGNAL_NUMBERS = frozenset(map(int, Signals))
"""Signals that have names, unlike the realtime signals."""
BEFORE = 3
"""Lines above the last words, or below an error: a message may have several."""
RECENT = 20
"""Lines that are searched for an error message."""
ERROR_LINE = re.compile(
    r"(?:[\w ./-]{1,80}: )?\[?(?:\w+ )?(?i:error|fatal|critical)\]?\b\s?[:\]]"
    r"|.{0,60}\b(?:ERROR|CRITICAL|FATAL)\b"
)
HELP = re.compile(r"(?i)usage:|for detailed information|try .*--help|tip:|see .*--help|\w+ --help$")
ABORT = re.compile(
    r"terminate called|.*\bAssertion .* failed|.*\bCheck failed: |.*double free or corruption"
    r"|(?:free|malloc|munmap_chunk|realloc)\(\): |corrupted (?:size|double)|\*\*\* stack smashing"
    r"|Fatal glibc error|panic: |thread '.*' panicked|.*Watchdog caught collective"
)
ABORT_LINES = 6
STACK = re.compile(r"\s*(?:frame #|Exception raised from|\*\*\*|#\d+ )")


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What is known beside the program's output."""

    job: Job
    folder: Path
    absent: tuple[str, ...] = ()
    """Lines about declared channels that had no data at the start."""
    oom_kills: int = 0
    """Out-of-memory kills since the start."""
    host: str = ""
    """Name of the host, if it is not the one that the cluster gives."""
    mask: Callable[[str], str] = str
    """Hides secrets."""


def failure_text(outcome: Outcome, circumstances: Circumstances) -> str:
    """Return the text for the failure file, within its limit.

    Who failed and what helps always fit; the cause gets the rest, except for the innermost lines.
    """
    outcome = _masked(outcome, circumstances.mask)
    finding = _finding(outcome)
    causes = [circumstances.mask(cause) for cause in _causes(outcome, finding, circumstances)]
    frames = finding.traceback.frames if finding.traceback else ()
    words = " ".join([*causes, _last_words(outcome)])
    advice = _advice(outcome, words, circumstances, frames)
    fixed = [clip(line, PART_LIMIT) for line in (_who(outcome, circumstances), *advice)]
    places = [
        clip(circumstances.mask(_place(frame, circumstances.folder)), PLACE_LIMIT)
        for frame in _innermost(frames)
    ]
    while _size(fixed) > FIXED_LIMIT:
        fixed.pop()
    room = facts.FAILURE_REASON.value - _size([*fixed, *places[:CERTAIN_PLACES]])
    lines = [*_fitted(causes, room), *fixed]
    for place in places:
        if _size([*lines, place]) <= facts.FAILURE_REASON.value:
            lines.append(place)
    return "\n".join(lines)


def _size(lines: Sequence[str]) -> int:
    """Return the bytes of the lines, each with its line end."""
    return sum(len(line.encode("utf-8", "replace")) + 1 for line in lines)


def _fitted(causes: Sequence[str], room: int) -> list[str]:
    """Cut the causes to `room` bytes: the first gets at least two thirds, the others share."""
    rest = min(_size(causes[1:]), room // 3)
    first = squeeze(causes[0], room - rest - 1)
    left = room - _size([first])
    lines = [first]
    for number, cause in enumerate(causes[1:], start=1):
        share = left // (len(causes) - number) - 1
        if share < LEAST:
            break
        lines.append(squeeze(cause, share))
        left -= _size(lines[-1:])
    return lines


def _masked(outcome: Outcome, mask: Callable[[str], str]) -> Outcome:
    """Mask secrets before anything is cut: half a secret is not recognized."""
    return replace(outcome, out=mask(outcome.out), err=mask(outcome.err))


def report_on(
    outcome: Outcome, circumstances: Circumstances, *, now: float, was_stopped: bool
) -> Report | None:
    """Return the report on a failed rank; None if it only ended because it was stopped."""
    if was_stopped and not _raised_by_itself(outcome):
        return None
    if was_stopped:
        outcome = replace(outcome, returncode=PYTHON_RAISED)
    return Report(
        host=circumstances.host,
        rank=outcome.rank,
        code=exit_code_of(outcome.returncode),
        text=clip(failure_text(outcome, circumstances)),
        is_secondary=is_echo(_words_of_cause(outcome)),
        time=now,
    )


def _words_of_cause(outcome: Outcome) -> str:
    """Return what tells a cause from an echo: how the chain began, or what came last."""
    finding = _finding(outcome)
    if finding.traceback and finding.is_first:
        return finding.traceback.root or finding.traceback.exception
    return _last_words(outcome) or finding.said or _last_line(outcome.out) or ""


def _raised_by_itself(outcome: Outcome) -> bool:
    """Return whether a program that was stopped had raised an exception before."""
    found = _finding(outcome).traceback
    names = ("KeyboardInterrupt", "SystemExit")
    return found is not None and found.is_at_end and not found.exception.startswith(names)


def _who(outcome: Outcome, circumstances: Circumstances) -> str:
    rank = "" if outcome.rank is None else f" rank {outcome.rank}"
    host = circumstances.host or circumstances.job.cluster.current_host
    return f"[{host}{rank} exit {exit_code_of(outcome.returncode)}]"


def _last_words(outcome: Outcome) -> str:
    """Return the end of the output of a program that aborted; nothing for one that was killed."""
    return outcome.err[-LAST_WORDS:] if _signal_of(outcome) == signal.SIGABRT else ""


@dataclass(frozen=True, slots=True)
class _Finding:
    """What the program's output says about its end."""

    traceback: Traceback | None = None
    is_first: bool = False
    """The traceback ended the program; if not, it was logged earlier, and `said` comes first."""
    said: str = ""
    """The last words on stderr outside of tracebacks."""
    before: str = ""
    """The lines above them."""
    launched: str = ""
    """The rank that failed first, according to torchrun."""


def _finding(outcome: Outcome) -> _Finding:
    told = recorded_error(outcome.error_file)
    if told is None and _signal_of(outcome):
        told = fatal_error(outcome.err)
    if told:
        return _Finding(told, is_first=True)
    log = read_log(outcome.err)
    said, before = _said(outcome, log)
    own = [found for found in log.tracebacks if not found.is_wrapper]
    if own:
        found = _first_cause(own) if log.launched else own[-1]
        is_first = _is_the_end(found, outcome, log, said)
        return _Finding(found, is_first, said, before, log.launched)
    printed = last_traceback(outcome.out)
    if printed and not said and _is_the_end(printed, outcome, log, said):
        return _Finding(printed, is_first=True)
    wrapper = log.tracebacks[-1] if log.tracebacks else None
    return _Finding(wrapper, not said, said, before, log.launched)


def _first_cause(found: Sequence[Traceback]) -> Traceback:
    """Return the traceback that is not an echo of another rank's end."""
    causes = (one for one in found if not is_echo(one.root or one.exception))
    return next(causes, found[-1])


def _is_the_end(found: Traceback, outcome: Outcome, log: Log, said: str) -> bool:
    """Return whether the traceback, and nothing else that was said, ended the program."""
    if log.launched and said and is_echo(found.exception):
        return False  # the rank that failed first said something, and raised nothing
    raised = outcome.returncode == PYTHON_RAISED and not found.is_survived
    return found.is_at_end or raised


def _said(outcome: Outcome, log: Log) -> tuple[str, str]:
    """Return the last words on stderr outside of tracebacks, and those before them."""
    if _signal_of(outcome) == signal.SIGABRT:
        starts = [number for number, line in enumerate(log.words) if ABORT.match(line)]
        if starts:
            lines = list(log.words[starts[-1] : starts[-1] + ABORT_LINES])
            stack = [number for number, line in enumerate(lines) if number and STACK.match(line)]
            return _joined(lines[: stack[0] if stack else None]), ""
    return _said_last(log.words)


def _causes(outcome: Outcome, finding: _Finding, circumstances: Circumstances) -> Iterator[str]:
    """Yield the cause in one or more lines, none of them empty."""
    ended = _how_it_ended(outcome, circumstances)
    if ended:
        yield ended
    traceback = finding.traceback
    if traceback and finding.is_first:
        yield from traceback.exception.splitlines()
        if traceback.root:
            yield f"caused by: {' '.join(traceback.root.splitlines())}"
    elif finding.said and not (ended and outcome.stop):
        yield f"last line: {finding.said}" if ended else finding.said
    elif not outcome.stop:
        yield from _without_words(outcome, is_explained=bool(ended))
    if finding.launched:
        yield f"torchrun: {finding.launched}"
    if traceback and not finding.is_first and not outcome.stop:
        when = "then" if traceback.is_wrapper else "earlier"
        yield f"{when}: {' '.join(traceback.exception.splitlines())}"
    elif finding.before and not traceback and not ended:
        yield f"before it: {finding.before}"


def _without_words(outcome: Outcome, *, is_explained: bool) -> Iterator[str]:
    """Yield the cause if stderr says nothing about it."""
    printed, _ = _said_last(read_log(outcome.out).words)
    if ERROR_LINE.match(printed) and not is_explained:
        yield printed
        return
    if not is_explained:
        yield f"exited with code {outcome.returncode}"
    last = _last_line(outcome.err) or _last_line(outcome.out)
    if last:
        yield f"last line: {last}"


def _signal_of(outcome: Outcome) -> Signals | None:
    """Return the signal that ended the program, or a command of a shell program."""
    code = outcome.returncode
    number = -code if code < 0 else code - SIGNAL_BASE
    return Signals(number) if number in SIGNAL_NUMBERS else None


def _how_it_ended(outcome: Outcome, circumstances: Circumstances) -> str | None:
    """Return what the system knows about the end, which the program's output can't say."""
    code, number = outcome.returncode, _signal_of(outcome)
    if outcome.is_overrun and outcome.stop:
        return f"did not end in time after {outcome.stop.name}, and was killed"
    ended = f"ended by {number.name if number else f'signal {-code}'}"
    how = f"exited with code {code}" if code >= 0 else ended
    if outcome.stop:
        return f"stopped by {outcome.stop.name}: the program {how}"
    if number is None:
        return how if code < 0 else None
    if circumstances.oom_kills and number == signal.SIGKILL:
        return f"killed by {number.name}: out of memory"
    return f"{how}: one of its commands ended by {number.name}" if code >= 0 else how


def _advice(
    outcome: Outcome, words: str, circumstances: Circumstances, frames: tuple[Frame, ...]
) -> Iterator[str]:
    hint = hint_for_text(words)
    if circumstances.oom_kills:
        hint = MEMORY
    elif hint is None and not outcome.stop:
        hint = hint_for_end(outcome.returncode)
    if hint:
        yield hint
    # `default=os.environ.get("SM_CHANNEL_TRAIN")` is None without the channel; then only the
    # source of the program has its name.
    asked = words if "NoneType" not in words else f"{words} {_variables_of_source(frames)}"
    for line in (*_undeclared_channels(circumstances.job, asked), *circumstances.absent):
        yield f"{MISSING_DATA}: {line}"


def _undeclared_channels(job: Job, text: str) -> list[str]:
    """Return a line for each channel that `text` asks for and that the job never declared."""
    declared = {legal_name(name) for name in job.channels}
    folder = re.compile(re.escape(str(job.tree.data)) + r"/([A-Za-z0-9_.-]+)")
    wanted = [name.lower() for name in re.findall(VARIABLE, text)] + folder.findall(text)
    return [
        f"channel {name!r} was not given: add it to the job's inputs (InputDataConfig), and its "
        f"data will be in {job.tree.channel(name)}"
        for name in dict.fromkeys(wanted)
        if legal_name(name) not in declared
    ]


def _variables_of_source(frames: tuple[Frame, ...]) -> str:
    """Return the names of channels' variables in the user's files of a traceback.

    If the lines of the traceback name some of the channels, return only those.
    """
    found: list[str] = []
    for path in dict.fromkeys(frame.file for frame in _innermost(frames)):
        with suppress(OSError), open(path, "rb") as file:
            text = file.read(SOURCE_LIMIT).decode("utf-8", "replace")
            found += [match[0] for match in re.finditer(VARIABLE, text)]
    code = " ".join(frame.code for frame in frames).lower()
    named = [name for name in found if name.removeprefix(CHANNEL).lower() in code]
    return " ".join(named or found)


def _innermost(frames: tuple[Frame, ...]) -> list[Frame]:
    """Return the frames of the user's code, innermost first; all if none is the user's."""
    users = [frame for frame in frames if frame.is_users] or list(frames)
    return users[: -FRAMES - 1 : -1]


def _place(frame: Frame, folder: Path) -> str:
    path = Path(frame.file)
    shown = path.relative_to(folder) if path.is_relative_to(folder) else path
    function = f" in {frame.function}" if frame.function else ""
    return f"  {shown}:{frame.line}{function}" + (f": {frame.code}" if frame.code else "")


def _said_last(words: Sequence[str]) -> tuple[str, str]:
    """Return the last message on stderr, and what came right before it.

    It is an error in the form of argparse, click, fire or a log, with the lines below it, or else
    the last line.
    """
    recent = list(words[-RECENT:])
    errors = [number for number, line in enumerate(recent) if ERROR_LINE.match(line)]
    below = recent[errors[-1] + 1 :] if errors else []
    if errors and (len(below) <= BEFORE or all(map(_belongs_to_an_error, below))):
        start = errors[-1]
    else:
        start = max(0, len(recent) - 1)
        while start > 0 and recent[start].startswith((" ", "\t")):
            start -= 1  # an indented line belongs to the one above
    before = recent[max(0, start - BEFORE) : start]
    return _joined(recent[start:]), _joined(before)


def _joined(lines: list[str]) -> str:
    return " ".join(" ".join(line for line in lines if not HELP.match(line.strip())).split())


def _belongs_to_an_error(line: str) -> bool:
    return line.startswith((" ", "\t")) or bool(HELP.match(line))


def _last_line(text: str) -> str | None:
    found = [line.strip() for lines in lines_of(text[-LAST_WORDS:]).values() for line in lines]
    return next((line for line in reversed(found) if line), None)
