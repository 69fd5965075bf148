"""Where one record ends and the next begins in a stream of bytes."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from enum import StrEnum

from sagemaker_byoc.training.library.data.files import CHUNK, DataError, Source
from sagemaker_byoc.training.library.data.recordio import AWS_JOINT, RecordError, record_blocks


class Framing(StrEnum):
    LINES = "lines"
    """Lines as a file gives them: each with its line feed, which the last may lack."""
    RECORD_IO = "RecordIO"
    WHOLE = "whole"
    """The whole content is one record."""


def split(
    source: Source, framing: Framing, where: str, joint: bytes = AWS_JOINT
) -> Iterator[list[bytes]]:
    """The records of `source`, which `where` names in errors, as many at a time as one read brings.

    In lists, since a list costs nothing to go through and a generator a good part of a short line.
    """
    try:
        match framing:
            case Framing.LINES:
                yield from _lines(source)
            case Framing.RECORD_IO:
                yield from record_blocks(source, where, joint)
            case Framing.WHOLE:
                yield [b"".join(_chunks(source))]
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise RecordError(
            where=where, what=f"is no whole gzip file ({error})", hint="Upload it again"
        ) from error
    except OSError as error:
        raise DataError(
            where=where,
            what=f"can't be read on ({error.strerror or error})",
            hint="Check the channel's source",
        ) from error


def _lines(source: Source) -> Iterator[list[bytes]]:
    begun: list[bytes] = []
    for chunk in _chunks(source):
        # Not chunk.split: it looks at every byte in turn, and takes three times as long.
        lines = io.BytesIO(chunk).readlines()
        if begun:
            begun.append(lines[0])
            if not lines[0].endswith(b"\n"):
                continue
            lines[0] = b"".join(begun)
            begun = []
        if not lines[-1].endswith(b"\n"):
            begun = [lines.pop()]
        yield lines
    if begun:
        yield [b"".join(begun)]


def _chunks(source: Source) -> Iterator[bytes]:
    return iter(lambda: source.read(CHUNK), b"")
