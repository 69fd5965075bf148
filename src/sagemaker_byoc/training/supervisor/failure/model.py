"""What a training leaves in the model folder that hosting can't use."""

from __future__ import annotations

from itertools import islice

from sagemaker_byoc.contract.folders import LEFT_OUT, Entry, readable, walk
from sagemaker_byoc.contract.paths import Tree

MOST = 100_000
"""Files and folders that are looked at: the end of a job must not wait for more."""
SHOWN = 3
"""Names in the line."""


def odd_things(tree: Tree) -> str:
    """Return one line about links and other non-files in the model folder; "" if there are none."""
    left: list[str] = []
    try:
        links = _links(tree, left)
    except OSError as error:
        return f"{tree.model} can't be read ({error.strerror})"
    parts = []
    if links:
        parts.append(
            f"{tree.model} holds {len(links)} links ({_shown(links)}): they become links in "
            "model.tar.gz, and hosting may refuse such an archive; copy the files instead"
        )
    if left:
        what = _shown([sentence.removeprefix(LEFT_OUT) for sentence in left])
        parts.append(f"not usable in model.tar.gz: {what}")
    return "; ".join(parts)


def _links(tree: Tree, left: list[str]) -> list[str]:
    """Symbolic links, and further names of a file that the folder already holds."""
    seen: set[tuple[int, int]] = set()
    entries = walk(tree.root, tree.model.name, left.append, keep_links=True)
    return [
        readable(entry.relative)
        for entry in islice(entries, MOST)
        if entry.link is not None or _is_known(entry, seen)
    ]


def _is_known(entry: Entry, seen: set[tuple[int, int]]) -> bool:
    if entry.file is None or entry.status.st_nlink == 1:  # folders have other links
        return False
    key = (entry.status.st_dev, entry.status.st_ino)
    is_known = key in seen
    seen.add(key)
    return is_known


def _shown(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
