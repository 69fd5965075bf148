"""Jinja2 templates of every room, rendered with everything escaped that is not our own markup.

A template is named by its path below the package, such as `monitor/report/data.html.j2`, so that
each room keeps its own beside the code that fills it. Pages extend `pages/base.html.j2`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from sagemaker_byoc.contract.errors import MachineError

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

_PACKAGE = __name__.partition(".")[0]


def render(template: str, values: Mapping[str, Any]) -> bytes:
    """Return the page as UTF-8. Raise MachineError if Jinja2 can't be imported.

    A lone surrogate, which JSON can hold and UTF-8 can't, becomes a question mark.
    """
    written = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    text = environment().get_template(template).render({"written": written, **values})
    return text.encode("utf-8", "replace")


def macro(template: str, name: str, **values: Any) -> Markup:
    """Return what a macro of a template writes, which other templates take as markup."""
    found: Markup = getattr(environment().get_template(template).module, name)(**values)
    return found


@cache
def environment() -> Environment:
    """Import Jinja2 and return the one environment. Raise MachineError if the import fails."""
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 - lazily
    except ImportError as error:  # missing, or too old for the MarkupSafe beside it
        raise MachineError(
            f"the page needs the Python package jinja2, which can't be imported: {error}",
            hint="Install it: pip install 'jinja2>=3.1,<4'",
        ) from error
    made = Environment(
        loader=PackageLoader(_PACKAGE, "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters["thousands"] = "{:,}".format
    return made
