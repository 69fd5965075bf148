"""What a user reads of a failure: an id, what and where, the hint, the exit code.

An exception brings its own words; the cause of a container's failure is found in its log.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sagemaker_byoc.cli.terminal import console
from sagemaker_byoc.contract.errors import ByocError
from sagemaker_byoc.contract.http import DEFAULT_PROGRAM

DONE = 0
FAILED = 1
USAGE = 2
MACHINE = 3
UNJUDGED = 4
TIME_LIMIT = 124
INTERRUPTED = 130
PIPE_CLOSED = 141

EXIT_CODES = {
    DONE: "done; with `byoc check`, warnings alone",
    FAILED: "the thing itself failed: the job, the endpoint, the image, the registry's answer",
    USAGE: "the request is wrong: a flag, a file, a configuration",
    MACHINE: "something is missing on this machine: an engine, a program, credentials, disk space",
    UNJUDGED: "nothing failed, and not everything was judged: a trial of `byoc check`, "
    "or `byoc monitor run` without data to compare",
    TIME_LIMIT: "a time limit was reached",
    INTERRUPTED: "interrupted with Ctrl-C",
}


@dataclass(frozen=True, slots=True)
class Failure:
    id: str
    what: str
    hint: str
    exit_code: int


def id_of(kind: type[BaseException]) -> str:
    """Return the stable id of a kind of error: TIME_LIMIT for `TimeLimitError`."""
    stem = kind.__name__.removesuffix("Error")
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", stem).upper()


def explain(error: Exception) -> Failure:
    """Return what to tell the user; an error that is not a ByocError is a defect of ours."""
    if isinstance(error, ByocError):
        return Failure(id_of(type(error)), error.sentence, error.hint, error.exit_code)
    if isinstance(error, OSError) and error.filename is not None:
        text = f"{error.filename}: {error.strerror or error}"
        return Failure("FILE", text, "Check that the path exists and may be read or written", USAGE)
    return _internal(error)


def _internal(error: Exception) -> Failure:
    """Write the traceback to a file that only this user can read: it may hold values."""
    import tempfile  # noqa: PLC0415 - for the one command that fails so
    import traceback  # noqa: PLC0415

    what = f"byoc itself failed: {type(error).__name__}: {error}"
    text = "".join(traceback.format_exception(error))
    if console.is_verbose():
        return Failure("INTERNAL", f"{what}\n{text}".rstrip(), "Report this traceback", FAILED)
    try:
        with tempfile.NamedTemporaryFile(
            "w",
            prefix="byoc-error-",
            suffix=".txt",
            delete=False,
            encoding="utf-8",
            errors="replace",
        ) as file:
            file.write(text)
    except OSError:
        return Failure("INTERNAL", what, "Run it again with -v for the traceback", FAILED)
    return Failure("INTERNAL", what, f"Report the traceback in {file.name}", FAILED)


# ── why a container failed ──

# Images say what helps inside a container (`set NAME=VALUE`); a command says how to get it there.
_OURS = re.compile(r"byoc: (?:error: )(?:slot \d+: )?(?:loading failed: )?(.*)")
"""The cause in the log of an image of this toolkit; it comes last, if at all."""
_EXCEPTION = re.compile(r"(?:byoc: )?([A-Za-z_][\w.]*(?:Error|Exception|Exit|Interrupt)\b.*)")
_NOISE = re.compile(r"byoc: ping: ")
_CHOICE = re.compile(r"to choose from \(([^,)]+)")
_HINTS = (
    (
        re.compile(r"\bset ((?:BYOC|SAGEMAKER)_[A-Z_]+=[^\s,.;]+)"),
        "If that is what you want, add --env {found}",
    ),
    (re.compile(r"(?:is not installed|Install what it needs): ([^;\n]+)"), "Run: {found}"),
    (
        re.compile(r"channel '([^']+)' was not given"),
        "Add --channel {found}=DIR, with the folder that holds its data",
    ),
    (
        re.compile(r"((?:without|no) model_fn)\b"),
        "Define model_fn in {handlers}, or name another --model",
    ),
    (
        re.compile(r"(no \.py file that could be the program)"),
        "Name the program's file: byoc {command} FOLDER/FILE",
    ),
)


def cause_of(lines: Sequence[str]) -> str:
    """Return the line of a log that names the cause, else its last line; "" if it is empty."""
    for pattern in (_OURS, _EXCEPTION):
        for line in reversed(lines):
            if found := pattern.fullmatch(line.strip()):
                return found[1]
    said = [line for line in lines if line.strip() and not _NOISE.match(line)]
    return f"its log ends with: {said[-1].strip().removeprefix('byoc: ')}" if said else ""


def hint_for(command: str, program: Path | None, cause: str) -> str:
    """Return what to do about `cause`; "" if there is nothing more to say than the cause does."""
    if program is not None and (choice := _CHOICE.search(cause)):
        return f"Name the file: {shlex.join(['byoc', command, str(program / choice[1])])}"
    handlers = (
        "an inference.py, and name its folder"
        if program is None
        else program / DEFAULT_PROGRAM.value
    )
    for pattern, text in _HINTS:
        if found := pattern.search(cause):
            return text.format(found=found[1], handlers=handlers, command=command)
    return ""
