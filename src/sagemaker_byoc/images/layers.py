"""The layers of an image: one as a list of files, and several laid over each other."""

from __future__ import annotations

import posixpath
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto

from sagemaker_byoc.images.model import Elf, File, Files, HostileError, Program
from sagemaker_byoc.images.tar import CHUNK, Body, Entry, Inflated, Source, entries

LAYER_LIMIT = 200 * 2**30
"""Bytes of one unpacked layer; ECR takes layers of up to 52 GB packed."""
FILES_LIMIT = 5_000_000
"""Files of a whole image."""
_REMOVED = ".wh."
_EMPTIED = ".wh..wh..opq"


class Layer(list[File]):
    """The files of one layer, in its order."""

    unread = 0
    """Files that some rule wants to look into, and that are beyond the limits."""


def read_layer(source: Source) -> Layer:
    """Read a layer, packed with gzip or not. Raise HostileError if it is not one."""
    files = Layer()
    by_path: dict[str, File] = {}
    kept = _Kept()
    for entry, body in entries(Inflated(source, LAYER_LIMIT)):
        file = _file(entry, body, kept)
        if file.kind == "hardlink":
            file = _linked(file, by_path)
        by_path[file.path] = file
        files.append(file)
    files.unread = kept.unread
    return files


@dataclass(slots=True)
class _Kept:
    """What has been kept of one layer's files, to stop at the limits."""

    files: int = 0
    head_bytes: int = 0
    program_bytes: int = 0
    unread: int = 0

    def allows(self, look: Look) -> bool:
        """Tell whether one more file may be looked into; half of the limit is for known names."""
        if look is Look.NO:
            return False
        is_named = look is Look.YES
        within = self.head_bytes < (BYTES_LIMIT if is_named else BYTES_LIMIT // 2)
        allowed = within and (is_named or self.files < LOOKED_INTO_LIMIT)
        self.unread += not allowed
        return allowed


def _file(entry: Entry, body: Body, kept: _Kept) -> File:
    file = File(
        path="/" + entry.name,
        kind=entry.kind,
        mode=entry.mode,
        uid=entry.uid,
        size=entry.size,
        link=entry.link,
    )
    if entry.kind != "file":
        return file
    data = b""
    head = None
    how = look(entry.name, entry.size)
    if kept.allows(how):
        data, head = _head(how, body)
        kept.files += head is not None
        kept.head_bytes += len(head or b"")
    program = None
    if entry.mode & 0o111 and kept.program_bytes < PROGRAM_BYTES_LIMIT:
        program = read_program(body, entry.size, data)
        kept.program_bytes += len(program.start)
    return replace(file, head=head, program=program)


def _head(look: Look, body: Body) -> tuple[bytes, bytes | None]:
    """Return what was read of a file, and what of it the rules get."""
    data = body.read(SNIFFED if look is Look.IF_TEXT else HEAD)
    if look is Look.IF_TEXT:
        if b"\0" in data:
            return data, None
        data += body.read(HEAD - len(data))
    return data, data


def _linked(link: File, files: Mapping[str, File]) -> File:
    """Return the file that a hard link stands for; it comes earlier in the same archive."""
    target = files.get(posixpath.join("/", posixpath.normpath(link.link)))
    return link if target is None else replace(target, path=link.path, size=0, head=None)


def merge(layers: Sequence[Layer]) -> Files:
    """Return the files of all layers, which come oldest first."""
    if sum(len(layer) for layer in layers) > FILES_LIMIT:
        raise HostileError(
            f"the image's layers hold over {FILES_LIMIT} files",
            hint="Clean up in the step that makes the files: RUN … && rm -r …",
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
    limits = tuple(
        f"secrets in {layer.unread} files of layer {number}: a layer's first "
        f"{LOOKED_INTO_LIMIT} texts, and {BYTES_LIMIT >> 20} MiB of them, are looked into"
        for number, layer in enumerate(layers)
        if layer.unread
    )
    return Files(visible=visible, looked_into=looked_into, limits=limits)


def _remove(visible: dict[str, File], layer: Layer) -> None:
    """Remove what the layer's whiteouts name, with all that is below it."""
    gone: set[str] = set()
    emptied: set[str] = set()
    for file in layer:
        folder, name = posixpath.split(file.path)
        if name == _EMPTIED:
            emptied.add(folder)
        elif name.startswith(_REMOVED):
            gone.add(posixpath.join(folder, name.removeprefix(_REMOVED)))
        elif file.kind != "dir" and file.path in visible and visible[file.path].kind == "dir":
            gone.add(file.path)
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


HEAD = 64 * 2**10
"""Bytes. Keys, tokens and version files are small, or start with what tells them."""
LOOKED_INTO_LIMIT = 20_000
"""Files of one layer that are looked into."""
BYTES_LIMIT = 128 * 2**20
"""Bytes kept of one layer's files."""
SNIFFED = 512
_TEXT_LIMIT = 2**20
_UNNAMED_LIMIT = HEAD


class Look(Enum):
    """Whether a file is looked into."""

    NO = auto()
    YES = auto()
    IF_TEXT = auto()
    """If its first bytes hold no zero: private keys and tokens have any name."""


_TELLING = re.compile(
    r"""(^|/)(
        \.env(\.[\w-]+)? | [\w-]+\.env | [._]netrc | \.pypirc | \.npmrc | \.yarnrc(\.yml)? |
        \.git-credentials | \.gitconfig | \.git/(config|credentials) | \.config/git/credentials |
        pip\.conf | \.condarc | \.pgpass | \.my\.cnf | \.s3cfg | \.boto | \.databrickscfg |
        rclone\.conf | \.vault-token | \.kube/config | \.config/gh/hosts\.yml | \.dockercfg |
        \.docker/config\.json | containers/auth\.json | \.aws/[^/]+ | \.azure/[^/]+\.json |
        gcloud/[^/]+\.json | kaggle\.json | \.?huggingface/(token|stored_tokens) |
        \.cargo/credentials(\.toml)? | \.gem/credentials | \.m2/settings\.xml |
        credentials(\.\w+)? | \.ssh/[^/]+ | id_(rsa|dsa|ecdsa|ed25519)[^/]* |
        [^/]+\.(pem|key|p8|pk8|ppk|tfvars|tfstate)
    )$""",
    re.VERBOSE,
)
_SYSTEM = re.compile(
    r"""^(
        usr/(lib|lib32|lib64|libx32|share|include|libexec|s?bin|games) |
        lib | lib32 | lib64 | libx32 | bin | sbin | proc | sys | dev |
        etc/(ssl/certs|ssh|ca-certificates|pki/(?!tls/private)[^/]+) |
        etc/(java|fonts|X11|chromium[^/]*|alternatives) |
        var/(cache|lib/(dpkg|apt|gems|python|rpm|dnf|yum|systemd|pam)) |
        usr/local/(go|lib|lib64|libexec|share|include|cuda[^/]*|rustup|nvidia) |
        opt/(nvidia|java|amazon) | usr/src/linux[^/]*
    )/
    | (^|/)(
        (site|dist)-packages | node_modules | lib(64)?/(python|pypy|R|ruby|node)[^/]* |
        (ana|mini|micro|mamba)?(conda|forge|mamba)\d*/(envs/[^/]+/)?
            (pkgs|lib|share|include|ssl|conda-meta) |
        pkg/mod | registry/src | gems | \.rustup | \.nuget | \.cache/(pip|uv) |
        [^/]+\.(dist|egg)-info
    )/""",
    re.VERBOSE,
)
"""Folders that package managers fill; their test keys and sample configurations open nothing."""
_TEXT = re.compile(
    r"\.(py|sh|txt|json|ya?ml|toml|ini|cfg|conf|config|env|ipynb|tfvars|properties|md|xml|js|ts|"
    r"rst|bash|zsh|r|R|sql|log|csv|jsonl|Dockerfile)$"
)
_FACTS = re.compile(
    r"(^|/)(torch/version\.py|usr/local/cuda[^/]*/version\.(json|txt))$|^etc/(passwd|group)$"
)


def look(path: str, size: int) -> Look:
    """Tell whether to look into the file at `path` (no leading /): no, for nearly all of them."""
    if _FACTS.search(path):
        return Look.YES
    if not size or _SYSTEM.search(path):
        return Look.NO
    if _TELLING.search(path):
        return Look.YES
    if size <= (_TEXT_LIMIT if _TEXT.search(path) else _UNNAMED_LIMIT):
        return Look.IF_TEXT
    return Look.NO


# ── executable files: the bytes that decide how the kernel runs them ──


BUFFER = 256
"""BINPRM_BUF_SIZE, include/uapi/linux/binfmts.h: all that the kernel reads of a `#!` line."""
SCRIPT = 4096
PROGRAM_BYTES_LIMIT = 32 * 2**20
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
