"""XML of answers, built as text."""

from __future__ import annotations

import re
from typing import TypeAlias
from xml.sax.saxutils import escape

DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'
_CONTROL = re.compile(r"[\x00-\x1f]")

Content: TypeAlias = "str | int | bool | list[str] | None"


def element(name: str, content: Content) -> str:
    """Return an element with text or with elements in it; an empty text for None."""
    if content is None:
        return ""
    if isinstance(content, list):
        return f"<{name}>{''.join(content)}</{name}>"
    if isinstance(content, bool):
        return f"<{name}>{str(content).lower()}</{name}>"
    return f"<{name}>{escaped(str(content))}</{name}>"


def escaped(value: str) -> str:
    """Return `value` escaped.

    Characters that XML 1.0 does not allow are written as references, as S3 does: clients that want
    to read such keys ask for `encoding-type=url`.
    """
    return _CONTROL.sub(lambda match: f"&#x{ord(match[0]):x};", escape(value, {'"': "&quot;"}))
