"""The failure file: what SageMaker shows as FailureReason when a job fails.

Source: developer guide, your-algorithms-training-algo-output: its first 1024 characters are used,
and it counts only for a container that exits non-zero.
"""

from __future__ import annotations

from sagemaker_byoc.contract import limits
from sagemaker_byoc.contract.files import write_atomically
from sagemaker_byoc.contract.paths import Tree

CUT = " …"
GAP = " … "


def clip(text: str, limit: int = limits.FAILURE_REASON.value) -> str:
    """`text` cut to `limit` bytes of UTF-8, never inside a character, marked where it was cut."""
    data = text.encode("utf-8", "replace")
    if len(data) <= limit:
        return data.decode()
    return data[: limit - len(CUT.encode())].decode("utf-8", "ignore") + CUT


def squeeze(text: str, limit: int) -> str:
    """Return `text` in at most `limit` bytes of UTF-8, cut in the middle: both its ends matter."""
    data = text.encode("utf-8", "replace")
    if len(data) <= limit:
        return data.decode()
    room = max(0, limit - len(GAP.encode()))
    end = data[len(data) - room // 3 :] if room // 3 else b""
    return data[: room - len(end)].decode("utf-8", "ignore") + GAP + end.decode("utf-8", "ignore")


def write_failure(tree: Tree, reason: str) -> None:
    """Atomically; the last thing a failing container does."""
    write_atomically(tree.failure, clip(reason).encode())
