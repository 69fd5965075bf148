"""Channels without data, and what hosting can't use in the model folder."""

from __future__ import annotations

import re
from itertools import islice

from sagemaker_byoc.contract.folders import LEFT_OUT, Entry, readable, walk
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.contract.training.channels import InputMode
from sagemaker_byoc.contract.training.job import Job, legal_name

CHANNEL = "SM_CHANNEL_"
VARIABLE = rf"\b{CHANNEL}([A-Za-z0-9_.-]+)"


def absent_channels(job: Job) -> list[str]:
    """One line for each declared channel without data on this host.

    FastFile folders count as well; a Pipe channel has no folder.
    """
    return [
        f"channel {name!r} has no data: {job.tree.channel(name)} is {state}; check that its "
        "S3 address holds objects (and, for a group of instances, that it is meant for this one)"
        for name, channel in job.channels.items()
        if channel.mode is not InputMode.PIPE and (state := _state(job, name))
    ]


def missing_channels(job: Job, text: str) -> list[str]:
    """One line for each channel that a failure's `text` asks for and the job never declared."""
    declared = {legal_name(name) for name in job.channels}
    folder = re.compile(re.escape(str(job.tree.data)) + r"/([A-Za-z0-9_.-]+)")
    wanted = [name.lower() for name in re.findall(VARIABLE, text)] + folder.findall(text)
    return [
        f"channel {name!r} was not given: add it to the job's inputs (InputDataConfig), and its "
        f"data will be in {job.tree.channel(name)}"
        for name in dict.fromkeys(wanted)
        if legal_name(name) not in declared
    ]


def _state(job: Job, name: str) -> str | None:
    try:
        next(job.tree.channel(name).iterdir())
    except StopIteration:
        return "empty"
    except OSError:
        return "missing"
    return None


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
