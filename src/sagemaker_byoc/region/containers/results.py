"""What the containers of a job leave: a failure reason, and folders that are merged into one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from sagemaker_byoc.contract import facts, folders
from sagemaker_byoc.contract.folders import LEFT_OUT, Entry, OnLeft, readable, walk
from sagemaker_byoc.contract.lifecycle import clip
from sagemaker_byoc.contract.paths import DEFAULT_ROOT, Tree

Source = tuple[str, Path, str]
"""A host, its tree, and the folder below the tree's root."""


def sources(trees: Mapping[str, Tree], folder: str) -> list[Source]:
    return [(host, tree.root, folder) for host, tree in trees.items()]


def merged(
    found: Iterable[Source], on_line: OnLeft, *, keep_links: bool = False
) -> Iterator[Entry]:
    """Yield the files of all hosts; if several hosts wrote one name, the first host's file."""
    owners: dict[str, tuple[str, bool]] = {}
    for host, root, folder in found:
        for entry in walk(root, folder, on_line, keep_links=keep_links):
            is_folder = entry.file is None and entry.link is None
            known = owners.setdefault(entry.relative, (host, is_folder))
            shown = readable(str(DEFAULT_ROOT / folder / entry.relative))
            if known == (host, is_folder):
                above = (str(path) for path in PurePosixPath(entry.relative).parents)
                if all(owners.get(path, known)[1] or path == "." for path in above):
                    yield entry
            elif is_folder != known[1]:
                on_line(
                    f"{LEFT_OUT}{shown} of {host} because one host wrote a file where another "
                    "wrote a folder"
                )
            elif not is_folder:
                on_line(f"{shown} was written by {known[0]} and by {host}; {known[0]}'s is kept")


def noting_links(entries: Iterable[Entry], archive: str, on_line: OnLeft) -> Iterator[Entry]:
    """Yield `entries`; at the end, report the links among them."""
    links = 0
    example = ""
    for entry in entries:
        if entry.link is not None:
            links += 1
            example = readable(entry.relative)
        yield entry
    if links:
        on_line(
            f"{archive} holds {links} links, as {example}: hosting may refuse an archive with "
            "links; copy the files instead"
        )


def failure_reason(tree: Tree, code: int, on_left: OnLeft = lambda _: None) -> str:
    """Return `AlgorithmError: TEXT, exit code: N`, at most 1024 characters, its end never cut off.

    TEXT is empty if there is no failure file, as in SageMaker's own reasons.
    """
    return failure_text(read_failure(tree, on_left) or "", code)


def failure_text(text: str, code: int) -> str:
    start, end = "AlgorithmError: ", f", exit code: {code}"
    room = facts.FAILURE_REASON.value - len(start) - len(end)
    return f"{start}{clip(text, room)}{end}"


def read_failure(tree: Tree, on_left: OnLeft = lambda _: None) -> str | None:
    """Return the failure file's text as SageMaker would show it; None if there is no such file.

    A program may have put anything in its place: `on_left` receives a sentence if it is not read.
    """
    name = tree.failure.relative_to(tree.root)
    try:
        data = folders.read(tree.root, str(name), 4 * facts.FAILURE_REASON.value)
    except (OSError, folders.LeftOutError) as error:
        on_left(folders.left_out(str(name), error))
        return None
    text = (data or b"").decode("utf-8", "replace")
    return text[: facts.FAILURE_REASON.value].strip() or None
