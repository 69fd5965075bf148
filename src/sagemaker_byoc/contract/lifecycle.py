"""How a container is started, stopped and judged: arguments, signals, exit codes, the failure file.

The failure file is what SageMaker shows as FailureReason when a job fails (developer guide,
your-algorithms-training-algo-output): its first 1024 characters are used, and it counts only for a
container that exits non-zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

from sagemaker_byoc.contract import facts
from sagemaker_byoc.contract.facts import GUIDE, Fact
from sagemaker_byoc.contract.files import write_atomically
from sagemaker_byoc.contract.paths import Tree

TRAIN_ARGUMENT = Fact(
    "train", "argument", f"{GUIDE}: your-algorithms-training-algo-dockerfile", "2026-11"
)
SERVE_ARGUMENT = Fact("serve", "argument", f"{GUIDE}: your-algorithms-inference-code", "2026-11")

TRAIN_STOP_GRACE = Fact(
    120,
    "seconds from SIGTERM to SIGKILL",
    f"{GUIDE}: your-algorithms-training-algo-running-container; API StopTrainingJob",
    "2026-11",
    "the same for a stop, MaxRuntimeInSeconds and a spot reclaim",
)
SERVE_STOP_GRACE = Fact(
    30,
    "seconds from SIGTERM to SIGKILL",
    f"{GUIDE}: your-algorithms-inference-code",
    "2026-11",
)
TRAIN_STOP_RESERVE = Fact(
    10,
    "seconds",
    "our choice: docs/decisions/0001",
    "2026-11-23",
    "the program is killed this long before SageMaker would kill everything, so that the failure "
    "file is still written",
)
SERVE_DRAIN = Fact(
    25,
    "seconds",
    "our choice: docs/decisions/0002",
    "2026-11-23",
    "requests in flight may take this long after SIGTERM",
)


class ExitCode(IntEnum):
    """Exit codes of the commands inside the images, beside the user program's own.

    SageMaker only knows zero (Completed) and not zero (Failed)
    (developer guide: your-algorithms-training-signal-success-failure).
    """

    OK = 0
    MODEL_FAILED = 1
    """The model could not be loaded, or its worker kept dying."""
    BAD_INPUT = 2
    """No program, an unreadable configuration file, a model folder that can't be written."""
    INTERNAL = 70
    """A defect of ours; the log has the traceback."""


SIGNAL_BASE = 128


def exit_code_of(returncode: int) -> int:
    """Return the exit code for a child's `Popen.returncode`: its own, or 128+n after signal n."""
    return returncode if returncode >= 0 else SIGNAL_BASE - returncode


CUT = " …"
GAP = " … "


def first_names(names: Sequence[str], most: int) -> str:
    """Return the first `most` names in one text, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def clip(text: str, limit: int = facts.FAILURE_REASON.value) -> str:
    """Return `text` in at most `limit` bytes of UTF-8, with a mark if it was cut."""
    data = text.encode("utf-8", "replace")
    if len(data) <= limit:
        return data.decode()
    return data[: limit - len(CUT.encode())].decode("utf-8", "ignore") + CUT


def clip_lines(text: str, limit: int = facts.FAILURE_REASON.value) -> str:
    """Return `text` in at most `limit` bytes of UTF-8: its first line, and as many of its last."""
    first, *rest = text.split("\n")
    while rest and len("\n".join([first, *rest]).encode()) > limit:
        del rest[0]
    return clip("\n".join([first, *rest]), limit)


def squeeze(text: str, limit: int) -> str:
    """Return `text` in at most `limit` bytes of UTF-8, cut in the middle: both its ends matter."""
    data = text.encode("utf-8", "replace")
    if len(data) <= limit:
        return data.decode()
    room = max(0, limit - len(GAP.encode()))
    end = data[len(data) - room // 3 :] if room // 3 else b""
    return data[: room - len(end)].decode("utf-8", "ignore") + GAP + end.decode("utf-8", "ignore")


def write_failure(tree: Tree, reason: str) -> None:
    """Write the failure file atomically; the last thing that a failing container does."""
    write_atomically(tree.failure, clip(reason).encode())
