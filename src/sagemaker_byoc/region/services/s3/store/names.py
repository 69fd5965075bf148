"""Keys as paths: `train/a.csv` is the file `a.csv` in the folder `train`.

What a file system can't hold is written with a percent sign, and what a percent sign starts can't
come from a key, because a key's own are written `%25`:

    %2E       `.` where the segment is `.` or `..`
    %_        the empty segment, of `a//b` and `a/`
    X%-       a folder with the rest of a segment that starts with X and is too long
    X%        the object X where a folder X (of keys X/…) was first
    X%2F      the folder X where an object X was first
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

LONGEST = 200
"""Bytes of an encoded segment in one name: 255, less what is put behind it."""
EMPTY = "%_"
CONTINUED = "%-"
OBJECT_ASIDE = "%"
FOLDER_ASIDE = "%2F"

_ESCAPED = re.compile(r"[%\x00-\x1f\x7f\\]")
_ESCAPED_CASE = re.compile(r"[%\x00-\x1f\x7f\\A-Z\u0080-\U0010ffff]")
"""Where the file system takes `A` for `a`, or one way to write `é` for the other."""
_TOKEN = re.compile(r"%[0-9A-F]{2}|[^%]")
_PLAIN = re.compile(r"[ !-$&-\[\]-~]*")

_DOTS = {".": "%2E", "..": "%2E%2E"}


def encode(key: str, *, fold: bool = False) -> list[str]:
    """Folder names, and the file's name last. `fold` is for file systems that ignore case."""
    if not fold and len(key) <= LONGEST and key.isascii() and _PLAIN.fullmatch(key):
        parts = key.split("/")
        if "." not in parts and ".." not in parts and "" not in parts:
            return parts
    return [part for segment in key.split("/") for part in _segment(segment, fold=fold)]


def decode(name: str) -> bytes:
    """The segment, or the start of one for a continued name; marks must be off already."""
    if name == EMPTY:
        return b""
    if "%" not in name:
        return name.encode("utf-8", "surrogateescape")
    return unquote_to_bytes(name.encode("utf-8", "surrogateescape"))


def join(parts: list[str]) -> str:
    """What `encode` made of a key, back."""
    key = b""
    for part in parts[:-1]:
        continued = part.endswith(CONTINUED)
        key += decode(part.removesuffix(CONTINUED)) + (b"" if continued else b"/")
    return (key + decode(parts[-1])).decode("utf-8", "surrogateescape")


def _segment(segment: str, *, fold: bool) -> list[str]:
    if segment == "":
        return [EMPTY]
    if segment in _DOTS:
        return [_DOTS[segment]]
    pattern = _ESCAPED_CASE if fold else _ESCAPED
    name = pattern.sub(lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode()), segment)
    if len(name.encode()) <= LONGEST:
        return [name]
    parts, part, size = [], "", 0
    for token in _TOKEN.findall(name):
        length = len(token.encode())
        if size + length > LONGEST:
            parts.append(part + CONTINUED)
            part, size = "", 0
        part += token
        size += length
    return [*parts, _DOTS.get(part, part)]
