"""One layer as a list of files, and several laid over each other."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence

from sagemaker_byoc.images.errors import HostileError
from sagemaker_byoc.images.model import File, Files
from sagemaker_byoc.images.sources import wanted
from sagemaker_byoc.images.tar import Body, Entry, Inflated, Source, entries

LAYER_LIMIT = 200 * 2**30
"""Bytes of one unpacked layer; ECR takes layers of up to 52 GB packed."""
FILES_LIMIT = 5_000_000
"""Files of a whole image."""
_REMOVED = ".wh."
_EMPTIED = ".wh..wh..opq"

Layer = list[File]


def read_layer(source: Source) -> Layer:
    """Packed with gzip or not. Raises HostileError where it is no layer."""
    files: Layer = []
    looked_into = 0
    for entry, body in entries(Inflated(source, LAYER_LIMIT)):
        size = wanted.head_size(entry.name, entry.size) if entry.kind == "file" else 0
        looked_into += bool(size)
        keep = size if looked_into <= wanted.FILES_LIMIT else 0
        files.append(_file(entry, body, keep))
    return files


def _file(entry: Entry, body: Body, keep: int) -> File:
    return File(
        path="/" + entry.name,
        kind=entry.kind,
        mode=entry.mode,
        uid=entry.uid,
        size=entry.size,
        link=entry.link,
        head=body.read(keep) if keep else None,
    )


def merge(layers: Sequence[Layer]) -> Files:
    """Oldest first."""
    if sum(len(layer) for layer in layers) > FILES_LIMIT:
        raise HostileError(
            f"the image's layers hold over {FILES_LIMIT} files",
            cure="Clean up in the step that makes the files: RUN … && rm -r …",
        )
    visible: dict[str, File] = {}
    for layer in layers:
        _remove(visible, layer)
        for file in layer:
            if not posixpath.basename(file.path).startswith(_REMOVED):
                visible[file.path] = file
    looked_into = tuple(
        (number, file)
        for number, layer in enumerate(layers)
        for file in layer
        if file.head is not None
    )
    return Files(visible=visible, looked_into=looked_into)


def _remove(visible: dict[str, File], layer: Layer) -> None:
    """What the layer's whiteouts name goes, with all that lies below it."""
    gone: set[str] = set()
    emptied: set[str] = set()
    for file in layer:
        folder, name = posixpath.split(file.path)
        if name == _EMPTIED:
            emptied.add(folder)
        elif name.startswith(_REMOVED):
            gone.add(posixpath.join(folder, name.removeprefix(_REMOVED)))
    if not gone and not emptied:
        return
    for path in [path for path in visible if _is_covered(path, gone, emptied)]:
        del visible[path]


def _is_covered(path: str, gone: set[str], emptied: set[str]) -> bool:
    if path in gone:
        return True
    while path != "/":
        path = posixpath.dirname(path)
        if path in gone or path in emptied:
            return True
    return False
