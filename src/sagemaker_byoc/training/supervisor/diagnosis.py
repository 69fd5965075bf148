"""The failure text: the cause first, then who, then what helps, then where.

SageMaker shows its first 1024 characters and nothing else, so what matters most comes first and
no part may crowd out the next.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from sagemaker_byoc.contract.failure import clip
from sagemaker_byoc.contract.job import Job
from sagemaker_byoc.contract.lifecycle import exit_code_of
from sagemaker_byoc.training.supervisor.child import Outcome
from sagemaker_byoc.training.supervisor.hints import (
    MEMORY,
    MISSING_DATA,
    hint_for_end,
    hint_for_text,
)
from sagemaker_byoc.training.supervisor.inputs import missing_channels
from sagemaker_byoc.training.supervisor.inquest import is_echo
from sagemaker_byoc.training.supervisor.link import Report
from sagemaker_byoc.training.supervisor.recorded import recorded_error
from sagemaker_byoc.training.supervisor.tracebacks import Frame, Traceback, last_traceback

CAUSE_LIMIT = 400
PART_LIMIT = 240
FRAMES = 5
LAST_WORDS = 4096
"""Characters of a crashed program's output that are searched; it has no traceback of Python's."""
PYTHON_RAISED = 1
"""Python's exit code after an exception that nothing caught."""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What is known beside the program's own words."""

    job: Job
    folder: Path
    absent: tuple[str, ...] = ()
    """Lines about declared channels without data, as they were found at the start."""
    oom_kills: int = 0
    """Kills for want of memory since the start."""
    host: str = ""
    """Its name, where it is not the cluster's for it."""


def failure_text(outcome: Outcome, circumstances: Circumstances) -> str:
    """Several lines; the writer of the file cuts what is over the limit."""
    traceback = _relevant_traceback(outcome)
    causes = list(_causes(outcome, traceback, circumstances))
    words = " ".join([*causes, traceback.root or "" if traceback else "", _last_words(outcome)])
    frames = traceback.frames if traceback else ()
    return "\n".join(
        [
            clip(causes[0], CAUSE_LIMIT),
            *(clip(cause, PART_LIMIT) for cause in causes[1:]),
            _who(outcome, circumstances),
            *(clip(line, PART_LIMIT) for line in _advice(outcome, words, circumstances)),
            *(
                clip(_place(frame, circumstances.folder), PART_LIMIT)
                for frame in _innermost(frames)
            ),
        ]
    )


def report_on(
    outcome: Outcome, circumstances: Circumstances, *, now: float, was_told: bool
) -> Report | None:
    """For the inquest; None where a program that was told to end has nothing of its own to say."""
    if was_told and not raised_by_itself(outcome):
        return None
    if was_told:
        outcome = replace(outcome, returncode=PYTHON_RAISED)
    return Report(
        host=circumstances.host,
        rank=outcome.rank,
        code=exit_code_of(outcome.returncode),
        text=clip(failure_text(outcome, circumstances)),
        is_secondary=is_echo(words_of_cause(outcome)),
        time=now,
    )


def words_of_cause(outcome: Outcome) -> str:
    """What tells a cause from an echo: how the chain began, or what came last."""
    traceback = _relevant_traceback(outcome)
    if traceback:
        return traceback.root or traceback.exception
    return _last_words(outcome) or _last_line(outcome.err) or _last_line(outcome.out) or ""


def raised_by_itself(outcome: Outcome) -> bool:
    """Whether a program that was told to end had raised an exception of its own before."""
    found = _relevant_traceback(outcome)
    names = ("KeyboardInterrupt", "SystemExit")
    return found is not None and found.is_at_end and not found.exception.startswith(names)


def _who(outcome: Outcome, circumstances: Circumstances) -> str:
    rank = "" if outcome.rank is None else f" rank {outcome.rank}"
    host = circumstances.host or circumstances.job.cluster.current_host
    return f"[{host}{rank} exit {exit_code_of(outcome.returncode)}]"


def _last_words(outcome: Outcome) -> str:
    """Of a program that aborted, as compiled code does. Not of one that was killed."""
    return outcome.err[-LAST_WORDS:] if outcome.returncode == -signal.SIGABRT else ""


def _relevant_traceback(outcome: Outcome) -> Traceback | None:
    """One that ended the program; not one that it logged and went on from."""
    recorded = recorded_error(outcome.error_file)
    if recorded:
        return recorded
    found = last_traceback(outcome.err) or last_traceback(outcome.out)
    if found and (outcome.returncode == PYTHON_RAISED or found.is_at_end):
        return found
    return None


def _causes(
    outcome: Outcome, traceback: Traceback | None, circumstances: Circumstances
) -> Iterator[str]:
    """The cause, in one line or more, none of them empty."""
    ended = _how_it_ended(outcome, circumstances)
    if ended:
        yield ended
    if traceback:
        yield traceback.exception
        if traceback.root:
            yield f"caused by: {traceback.root}"
        return
    if not ended:
        yield f"exited with code {outcome.returncode}"
    last = _last_line(outcome.err) or _last_line(outcome.out)
    if last:
        yield f"last line: {last}"


def _how_it_ended(outcome: Outcome, circumstances: Circumstances) -> str | None:
    """What the system knows better than the program's output does."""
    if outcome.is_overrun and outcome.stop:
        return f"did not end in time after {outcome.stop.name}, and was killed"
    if outcome.returncode >= 0:
        return None
    name = signal.Signals(-outcome.returncode).name
    if outcome.stop:
        return f"stopped by {outcome.stop.name}: the program ended by {name}"
    if circumstances.oom_kills and outcome.returncode == -signal.SIGKILL:
        return f"killed by {name}: out of memory"
    return f"ended by {name}"


def _advice(outcome: Outcome, words: str, circumstances: Circumstances) -> Iterator[str]:
    hint = hint_for_text(words)
    if circumstances.oom_kills:
        hint = MEMORY
    elif hint is None and not outcome.stop:
        hint = hint_for_end(outcome.returncode)
    if hint:
        yield hint
    for line in (*missing_channels(circumstances.job, words), *circumstances.absent):
        yield f"{MISSING_DATA}: {line}"


def _innermost(frames: tuple[Frame, ...]) -> list[Frame]:
    """The user's own, innermost first; all of them where none is the user's."""
    users = [frame for frame in frames if frame.is_users] or list(frames)
    return users[: -FRAMES - 1 : -1]


def _place(frame: Frame, folder: Path) -> str:
    path = Path(frame.file)
    shown = path.relative_to(folder) if path.is_relative_to(folder) else path
    function = f" in {frame.function}" if frame.function else ""
    return f"  {shown}:{frame.line}{function}: {frame.code}"


def _last_line(text: str) -> str | None:
    lines = [line.strip() for line in text.splitlines()[-50:] if line.strip()]
    return lines[-1] if lines else None
