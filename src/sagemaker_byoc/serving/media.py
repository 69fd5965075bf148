"""Media types by RFC 9110 (sections 8.3 and 12.5.1). Standard library only."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

JSON = "application/json"
JSON_LINES = "application/jsonlines"
CSV = "text/csv"
NPY = "application/x-npy"
NPZ = "application/x-npz"
SAFETENSORS = "application/x-safetensors"
ARROW_STREAM = "application/vnd.apache.arrow.stream"
ARROW_FILE = "application/vnd.apache.arrow.file"
PARQUET = "application/x-parquet"
EVENT_STREAM = "text/event-stream"
ANY = "*/*"
OCTETS = "application/octet-stream"

CACHED = 256
"""Parsed headers that are cached: an endpoint's clients send the same few repeatedly."""

ALIASES = {
    "application/x-jsonlines": JSON_LINES,
    "application/jsonl": JSON_LINES,
    "application/vnd.apache.parquet": PARQUET,
}
"""Other spellings in use; AWS's own documentation has two for JSON Lines."""

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"  # noqa: S105 - RFC 9110's token, not a secret
_TYPE = re.compile(rf"\s*({_TOKEN})/({_TOKEN})\s*")
_PARAMETER = re.compile(rf'\s*;\s*(?:({_TOKEN})=({_TOKEN}|"(?:[^"\\]|\\.)*")\s*)?')
_ELEMENT = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*+(?:"|\\?\Z))++')
_QUALITY = re.compile(r"0(?:\.\d{0,3})?|1(?:\.0{0,3})?")


@dataclass(frozen=True, slots=True)
class MediaType:
    """`essence` is type/subtype in lower case; parameter names are in lower case too."""

    essence: str
    parameters: dict[str, str] = field(default_factory=dict)

    @property
    def canonical(self) -> str:
        return ALIASES.get(self.essence, self.essence)  # without a call: several per request

    @property
    def charset(self) -> str:
        return self.parameters.get("charset", "utf-8")


@dataclass(frozen=True, slots=True)
class Range:
    """One element of an Accept header."""

    essence: str
    quality: float
    specificity: int

    def matches(self, essence: str) -> bool:
        """Return whether `essence` is in this range; aliases count as one type."""
        if self.specificity == 0:
            return True
        if self.specificity == 1:
            return essence.startswith(self.essence[:-1])
        return canonical(self.essence) == canonical(essence)


def canonical(essence: str) -> str:
    """Return an essence in the spelling that codecs use."""
    return ALIASES.get(essence, essence)


@lru_cache(CACHED)
def parse(text: str) -> MediaType | None:
    """Return the media type in a Content-Type header, or None if it is malformed."""
    head = _TYPE.match(text)
    if head is None:
        return None
    parameters: dict[str, str] = {}
    position = head.end()
    while position < len(text):
        found = _PARAMETER.match(text, position)
        if found is None:
            return None
        if found[1]:
            parameters.setdefault(found[1].lower(), _unquoted(found[2]))
        position = found.end()
    return MediaType(f"{head[1]}/{head[2]}".lower(), parameters)


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value


@lru_cache(CACHED)
def parse_accept(text: str) -> tuple[Range, ...]:
    """Return the elements of an Accept header in order, without malformed ones.

    Parameters other than q are ignored: no supported type has a variant.
    """
    ranges = []
    for element in _elements(text):
        media = parse(element)
        if media is None:
            continue
        main, _, sub = media.essence.partition("/")
        specificity = 0 if main == "*" else 1 if sub == "*" else 2
        quality = media.parameters.get("q", "1")
        if _QUALITY.fullmatch(quality):
            ranges.append(Range(media.essence, float(quality), specificity))
    return tuple(ranges)


def _elements(text: str) -> list[str]:
    """Split at commas that are not inside quotes. A quote that is never closed extends to the end,
    so that no character is read twice."""
    return [found[0] for found in _ELEMENT.finditer(text)]


def quality_of(essence: str, ranges: Sequence[Range]) -> float:
    """Return the quality of the most specific matching range; 0 if none matches."""
    matching = [entry for entry in ranges if entry.matches(essence)]
    if not matching:
        return 0.0
    return max(matching, key=lambda entry: (entry.specificity, entry.quality)).quality


@lru_cache(CACHED)
def choose(accept: str, offered: tuple[str, ...], default: str) -> str | None:
    """Return the type among `offered` to answer with; None if the caller accepts none of them.

    If several have the best quality, `default` wins, then the type that the caller named first. An
    exact name is answered in the caller's own spelling.
    """
    ranges = parse_accept(accept) or parse_accept(ANY)
    named = [entry.essence for entry in ranges if entry.specificity == 2]
    candidates = [entry for entry in (default, *named, *offered) if canonical(entry) in offered]
    best = max(candidates, key=lambda essence: quality_of(essence, ranges), default=None)
    if best is None or quality_of(best, ranges) == 0:
        return None
    return next((name for name in named if canonical(name) == best), best)


def preferred(accept: str, default: str) -> str:
    """Return the type passed to a user's output function: the one that the caller prefers, or
    `default` if any will do."""
    ranges = [entry for entry in parse_accept(accept) if entry.quality > 0]
    if not ranges:
        return default
    best = max(ranges, key=lambda entry: entry.quality)
    if best.specificity == 2:
        return best.essence
    return default if best.matches(default) else best.essence
