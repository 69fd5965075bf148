"""What a job's end means: completed, failed for a reason, or stopped."""

from __future__ import annotations

from sagemaker_byoc.contract import limits
from sagemaker_byoc.contract.failure import clip, read_failure
from sagemaker_byoc.contract.folders import OnLeft
from sagemaker_byoc.contract.paths import Tree


def failure_reason(tree: Tree, code: int, on_left: OnLeft = lambda _: None) -> str:
    """`AlgorithmError: TEXT, exit code: N` of at most 1024 characters, whose end is never cut off.

    Without a failure file there is no TEXT, as in the service's own reasons.
    """
    start, end = "AlgorithmError: ", f", exit code: {code}"
    room = limits.FAILURE_REASON.value - len(start) - len(end)
    return f"{start}{clip(read_failure(tree, on_left) or '', room)}{end}"
