"""Documents as YAML: plain where that can't be misread, and quoted as JSON, which is YAML, else.

Only what a manifest needs: mappings, lists, text, numbers, booleans, null.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence

from sagemaker_byoc.contract.files import Json

# Words that some YAML reader takes for a boolean, a number or null are not among them.
_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9/._-]*(:[A-Za-z0-9/._-]+)*")
_ASTRAL = 0x10000
_WORDS = frozenset("y n yes no on off true false null nan inf".split())  # noqa: SIM905 - a row


def dump(documents: Sequence[Mapping[str, Json]]) -> str:
    return "---\n".join("\n".join(_lines(dict(each))) + "\n" for each in documents)


def _lines(value: Json) -> Iterator[str]:
    """Of a mapping or list that has members."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _entry(f"{_scalar(key)}:", item, "  ")
    elif isinstance(value, list):
        for item in value:
            inner = [*_lines(item)] if _has_members(item) else [_scalar(item)]
            yield f"- {inner[0]}"
            yield from (f"  {line}" for line in inner[1:])


def _entry(start: str, item: Json, indent: str) -> Iterator[str]:
    if _has_members(item):
        yield start
        yield from (indent + line for line in _lines(item))
    else:
        yield f"{start} {_scalar(item)}"


def _has_members(value: Json) -> bool:
    return isinstance(value, dict | list) and bool(value)


def _scalar(value: Json) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    # Escaped to ASCII: YAML does not take every character as it is.
    return re.sub("[^ -~]", _escaped, json.dumps(value, ensure_ascii=False))


def _escaped(found: re.Match[str]) -> str:
    """Return one escape for one character: readers of YAML refuse JSON's surrogate pairs."""
    number = ord(found[0])
    return f"\\u{number:04x}" if number < _ASTRAL else f"\\U{number:08x}"
