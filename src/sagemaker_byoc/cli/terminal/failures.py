"""From an exception to what a user reads: an id, what and where, the hint, the exit code."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sagemaker_byoc.cli.terminal import console
from sagemaker_byoc.contract.errors import ByocError

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
    """`MachineError` is MACHINE, `TimeLimitError` is TIME_LIMIT: stable, whatever the words say."""
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
