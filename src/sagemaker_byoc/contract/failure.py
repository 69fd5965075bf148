"""The failure file: what SageMaker shows as FailureReason when a job fails.

Source: developer guide, your-algorithms-training-algo-output: its first 1024 characters are used,
and it counts only for a container that exits non-zero.
"""

from __future__ import annotations

from sagemaker_byoc.contract import limits
from sagemaker_byoc.contract.files import write_atomically
from sagemaker_byoc.contract.paths import Tree

CUT = " …"


def clip(text: str, limit: int = limits.FAILURE_REASON.value) -> str:
    """`text` cut to `limit` bytes of UTF-8, never inside a character, marked where it was cut."""
    data = text.encode("utf-8", "replace")
    if len(data) <= limit:
        return data.decode()
    return data[: limit - len(CUT.encode())].decode("utf-8", "ignore") + CUT


def write_failure(tree: Tree, reason: str) -> None:
    """Atomically; the last thing a failing container does."""
    write_atomically(tree.failure, clip(reason).encode())
