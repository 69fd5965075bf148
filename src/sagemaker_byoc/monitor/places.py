"""Places of inputs and results: local paths, and `s3://` through a store that is handed in.

The monitor has no client of S3: the command line brings the region's or AWS's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import MAXYEAR, MINYEAR
from pathlib import Path
from typing import BinaryIO, Protocol

from sagemaker_byoc.contract import folders
from sagemaker_byoc.contract.capture import hour_of
from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.contract.files import Json, write_atomically
from sagemaker_byoc.monitor.inputs.layout import Outputs
from sagemaker_byoc.monitor.inputs.streams import (
    DataError,
    EmptyError,
    Unread,
    Window,
    is_parquet,
    text,
)
from sagemaker_byoc.monitor.inputs.tables import Format, detect

S3 = "s3://"
NOTHING = "Nothing was compared: neither a violation nor a pass; check the place and the time"
_LARGEST_MANIFEST = 16 << 20
_MOST_FILES = 1_000_000


class Store(Protocol):
    """What the monitor needs of S3. Its errors are ByocError."""

    def names(self, uri: str) -> Iterator[str]:
        """Yield URIs: the object `uri`, if there is one, or all below `uri/`; sorted by key."""

    def expect(self, names: Iterable[str]) -> None:
        """Note that these objects, which were listed, are about to be read."""

    def open(self, uri: str) -> BinaryIO:
        """Raise a ByocError if there is no such object."""

    def put(self, uri: str, data: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class Places:
    store: Store | None = None

    def files(self, place: str) -> list[str]:
        """Return the file, or every file below a folder. Raise EmptyError if there is none, and
        RequestError if the place itself does not exist; S3 has no places, only files."""
        if place.startswith(S3):
            found = list(self._store(place).names(place))
        else:
            path = Path(place)
            # A hidden file is one that something is still writing.
            below = (str(each) for each in folders.files(path) if not each.name.startswith("."))
            found = [place] if path.is_file() else [*below]
        if not found:
            if not place.startswith(S3) and not Path(place).is_dir():
                what = (
                    "is neither a file nor a folder" if Path(place).exists() else "does not exist"
                )
                raise RequestError(f"{place} {what}", hint="Name a file, or a folder")
            raise EmptyError(f"{place} holds no file", hint=NOTHING)
        return found

    def expanded(self, names: list[str]) -> list[str]:
        """Replace manifests by the files that they name: batch transform captures input and output
        that way (API reference, S3DataSource). Raise DataError for a broken manifest."""
        found: list[str] = []
        for name in names:
            listed = self._manifest(name) if name.endswith((".json", ".manifest")) else None
            found += [name] if listed is None else listed
            if len(found) > _MOST_FILES:
                raise DataError(
                    f"{name}: manifests name more than {_MOST_FILES:,} files",
                    hint="Name the folder of a shorter time",
                )
        return found

    def expect(self, names: list[str]) -> None:
        """Let the store show how far reading is."""
        if self.store is not None and names and names[0].startswith(S3):
            self.store.expect(names)

    def _manifest(self, name: str) -> list[str] | None:
        """Return what `[{"prefix": "s3://…"}, "key", …]` names; None for any other file."""
        with self.open(name) as stream:
            head = stream.read(64)
            if not _MANIFEST.match(head):
                return None
            data = head + stream.read(_LARGEST_MANIFEST)
        try:
            first, *keys = json.loads(data)
            prefix = first["prefix"]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise DataError(
                f"{name} is a manifest that is cut off", hint="Copy it again"
            ) from error
        if not isinstance(prefix, str) or not all(isinstance(key, str) for key in keys):
            raise DataError(f"{name} is a manifest of other things than keys", hint="Copy it again")
        if name.startswith(S3) and not prefix.startswith(S3):
            raise DataError(  # or everyone who writes there could read this machine's files
                f"{name} is a manifest of files outside of S3", hint="Give it a prefix in S3"
            )
        return [f"{prefix}{key}" for key in keys]

    def open(self, name: str) -> BinaryIO:
        if name.startswith(S3):
            return self._store(name).open(name)
        try:
            return open(name, "rb")
        except OSError as error:
            raise RequestError(
                f"{name} can't be read: {error.strerror}", hint="Name a file that can be read"
            ) from error

    def read(self, folder: str, file: str) -> bytes | None:
        """Return None if the folder has no such file."""
        name = join(folder, file)
        if name.startswith(S3):
            if name not in self._store(name).names(name):
                return None
        elif not Path(name).is_file():
            return None
        with self.open(name) as stream:
            return stream.read()

    def write(self, folder: str, files: dict[str, bytes]) -> None:
        """Write each file whole or not at all, in the order given."""
        for file, data in files.items():
            name = join(folder, file)
            if name.startswith(S3):
                self._store(name).put(name, data)
                continue
            try:
                write_atomically(Path(name), data)
            except OSError as error:
                raise RequestError(
                    f"{name} can't be written: {error.strerror}",
                    hint="Name another --output folder",
                ) from error

    def _store(self, name: str) -> Store:
        if self.store is None:
            raise RequestError(
                f"{name} is in S3, and nothing here reads S3",
                hint="Copy it to a folder first, or use `byoc monitor`, which has a client",
            )
        return self.store


_MANIFEST = re.compile(rb'\s*\[\s*\{\s*"prefix"\s*:')


def are_one(first: str, second: str) -> bool:
    """Whether two names are those of one folder."""
    if first.startswith(S3) or second.startswith(S3):
        return first.rstrip("/") == second.rstrip("/")
    return Path(first).resolve() == Path(second).resolve()


def join(folder: str, file: str) -> str:
    return f"{folder.rstrip('/')}/{file}" if folder.startswith(S3) else str(Path(folder) / file)


def json_bytes(document: Json) -> bytes:
    return json.dumps(document, indent=2, allow_nan=False).encode() + b"\n"


# ── what a job reads ──


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """What is read, and how. `form` None: detected from the first line."""

    place: str
    form: Format | None = None
    outputs: Outputs = Outputs.AUTO
    window: Window | None = None
    preprocess: Path | None = None
    about: Mapping[str, Json] = field(default_factory=dict)
    """What the caller knows for the report, as `explanation.subject` takes it, and returns it."""


def files_of(places: Places, data: Input) -> list[str]:
    """Return the files to read, with those that manifests name. Raise EmptyError if there are
    none, as in an hour without traffic."""
    found = places.files(data.place)
    if data.window is not None:
        found = [name for name in found if data.window.has_file(name)]
    if not found:
        raise nothing_found(data)
    found = places.expanded(found)
    places.expect(found)
    return found


def note_window(data: Input, form: Format, files: list[str], unread: Unread) -> None:
    """Say that `data.window` picked no rows of tables that are in no folder of an hour."""
    timeless = [name for name in files if hour_of(name) is None]
    if data.window is not None and form is not Format.CAPTURE and timeless:
        unread.notice(
            "files were read whole, whatever the time: their rows have none", len(timeless)
        )


def nothing_found(data: Input, unread: Unread | None = None) -> EmptyError:
    what = f"{data.place} holds no record"
    if data.window is not None and data.window.start.year > MINYEAR:
        what += f" since {data.window.start.isoformat()}"
    if data.window is not None and data.window.end.year < MAXYEAR:
        what += f" until {data.window.end.isoformat()}"
    if unread is not None and unread.outside:
        what += f", and {unread.outside:,} of another time"
    return EmptyError(what, hint=NOTHING)


def detect_all(places: Places, files: list[str], names: Sequence[str] = ()) -> Format:
    """Return the format of the first file that is not empty, else captures.

    `names` are the baseline's.
    """
    for name in files:
        if is_parquet(places.open, name):
            return Format.PARQUET
        with text(places.open, name, Unread()) as stream:
            form = detect(name, stream, names)
        if form is not None:
            return form
    return Format.CAPTURE
