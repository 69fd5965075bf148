"""What a job's end means: completed, failed for a reason, or stopped."""

from __future__ import annotations

from sagemaker_byoc.contract import folders, limits
from sagemaker_byoc.contract.folders import OnLeft
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.contract.training.failure import clip


def failure_reason(tree: Tree, code: int, on_left: OnLeft = lambda _: None) -> str:
    """`AlgorithmError: TEXT, exit code: N` of at most 1024 characters, whose end is never cut off.

    Without a failure file there is no TEXT, as in the service's own reasons.
    """
    return failure_text(read_failure(tree, on_left) or "", code)


def failure_text(text: str, code: int) -> str:
    start, end = "AlgorithmError: ", f", exit code: {code}"
    room = limits.FAILURE_REASON.value - len(start) - len(end)
    return f"{start}{clip(text, room)}{end}"


def read_failure(tree: Tree, on_left: OnLeft = lambda _: None) -> str | None:
    """Return the reason, as SageMaker would show it; None if the container wrote none.

    The file may be anything that a program put there: `on_left` gets a sentence if it is not read.
    """
    name = tree.failure.relative_to(tree.root)
    try:
        data = folders.read(tree.root, str(name), 4 * limits.FAILURE_REASON.value)
    except (OSError, folders.LeftOutError) as error:
        on_left(folders.left_out(str(name), error))
        return None
    text = (data or b"").decode("utf-8", "replace")
    return text[: limits.FAILURE_REASON.value].strip() or None
