"""Executable files: the bytes that decide how the kernel runs them."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace

from sagemaker_byoc.images.model import Elf, Program
from sagemaker_byoc.images.tar import CHUNK, Source

BUFFER = 256
"""BINPRM_BUF_SIZE, include/uapi/linux/binfmts.h: all that the kernel reads of a `#!` line."""
SCRIPT = 4096
BYTES_LIMIT = 32 * 2**20
"""Bytes kept for the executable files of one layer."""
_ELF = b"\x7fELF"
_HEADERS_LIMIT = 65536
"""Bytes of program headers, load_elf_phdrs in fs/binfmt_elf.c."""
_LOADER_LIMIT = 4096
"""PATH_MAX, which bounds PT_INTERP in fs/binfmt_elf.c."""
_PT_LOAD, _PT_INTERP = 1, 3
_RUNNABLE = frozenset({2, 3})
"""ET_EXEC and ET_DYN; the kernel refuses object files and core dumps."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """Structures of <elf.h>, for 32 or 64 bits."""

    header: struct.Struct
    """From e_type to e_phnum."""
    segment: struct.Struct
    order: tuple[int, int, int]
    """Places of p_type, p_offset and p_filesz in a program header."""


_LAYOUTS = {
    1: _Layout(struct.Struct("<HHIIIIIHHH"), struct.Struct("<IIIIIIII"), (0, 1, 4)),
    2: _Layout(struct.Struct("<HHIQQQIHHH"), struct.Struct("<IIQQQQQQ"), (0, 2, 5)),
}


@dataclass(slots=True)
class _Reader:
    """A file that is read once, front to back; what was read is kept up to a limit."""

    source: Source
    size: int
    data: bytes = b""
    later: dict[int, bytes] = field(default_factory=dict)
    position: int = 0

    def at(self, offset: int, size: int) -> bytes | None:
        """Return bytes of the file, none if it ends before them; None if they passed by."""
        if offset + size > self.size:
            return b""
        for start, data in {0: self.data, **self.later}.items():
            if start <= offset and offset + size <= start + len(data):
                return data[offset - start : offset - start + size]
        if offset < self.position:
            return None
        while self.position < offset:
            skipped = len(self.source.read(min(CHUNK, offset - self.position)))
            if not skipped:
                return b""
            self.position += skipped
        self.later[offset] = _read(self.source, size)
        self.position += len(self.later[offset])
        return self.later[offset]


def read_program(source: Source, size: int, head: bytes = b"") -> Program:
    """Read an executable file of `size` bytes, of which `head` has been read already."""
    data = head
    if len(data) < SCRIPT:
        data += _read(source, SCRIPT - len(data))
    if data.startswith(b"#!"):
        return Program(data[:SCRIPT])
    if not data.startswith(_ELF):
        return Program(data[:BUFFER])
    return Program(data[:BUFFER], _elf(_Reader(source, size, data, position=len(data))))


def _read(source: Source, size: int) -> bytes:
    parts = []
    while size > 0 and (part := source.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _elf(reader: _Reader) -> Elf:
    """Follow load_elf_binary and load_elf_phdrs in fs/binfmt_elf.c."""
    layout = _LAYOUTS.get(reader.data[4]) if len(reader.data) > 4 else None
    if layout is None or len(reader.data) < 16 + layout.header.size:
        return Elf(0, 0, damage="the file ends in its ELF header")
    kind, machine, _, entry, offset, *_, entry_size, count = layout.header.unpack_from(
        reader.data, 16
    )
    if reader.data[5] == 2:  # big-endian: no host of SageMaker is
        machine = int.from_bytes(reader.data[18:20], "big")
        return Elf(machine, 32 * reader.data[4])
    elf = Elf(machine, 32 * reader.data[4])
    if kind not in _RUNNABLE or not entry:
        return replace(elf, damage="it is an object file or library, not a program")
    if entry_size != layout.segment.size or not 0 < entry_size * count <= _HEADERS_LIMIT:
        return replace(elf, damage="its program headers are damaged")
    headers = reader.at(offset, entry_size * count)
    if headers == b"":
        return replace(elf, damage="the file ends before its program headers")
    return replace(elf, loader=None) if headers is None else _segments(reader, elf, headers)


def _segments(reader: _Reader, elf: Elf, headers: bytes) -> Elf:
    layout = _LAYOUTS[elf.bits // 32]
    loader: str | None = ""
    for segment in layout.segment.iter_unpack(headers):
        kind, offset, length = (segment[place] for place in layout.order)
        if kind == _PT_LOAD and offset + length > reader.size:
            return replace(elf, damage=f"the file has {reader.size} bytes of {offset + length}")
        if kind == _PT_INTERP and loader == "":
            if not 2 <= length <= _LOADER_LIMIT:
                return replace(elf, damage="the path of its loader is damaged")
            name = reader.at(offset, length)
            if name is not None and not name.endswith(b"\0"):
                return replace(elf, damage="the path of its loader is damaged")
            loader = None if name is None else name.split(b"\0")[0].decode(errors="replace")
    return replace(elf, loader=loader)
