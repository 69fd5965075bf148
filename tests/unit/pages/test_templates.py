"""A page: what is not ours is escaped, nothing is loaded, and Jinja2 may be missing."""

from __future__ import annotations

import builtins
import subprocess
import sys

import pytest

from sagemaker_byoc.contract.errors import MachineError
from sagemaker_byoc.pages import charts, templates

BASE = "pages/base.html.j2"
HOSTILE = "</title><script>alert('1')</script>"


def test_values_are_escaped():
    page = templates.render(BASE, {"title": HOSTILE}).decode()
    assert "<script" not in page
    assert "<title>&lt;/title&gt;&lt;script&gt;alert(&#39;1&#39;)" in page


def test_a_page_refuses_what_is_outside():
    page = templates.render(BASE, {"title": "t"}).decode()
    assert "default-src 'none'; style-src 'unsafe-inline'" in page
    assert "url(" not in page
    assert "@import" not in page


def test_a_lone_surrogate_is_a_question_mark():
    assert b"<title>a?b</title>" in templates.render(BASE, {"title": "a\ud800b"})


@pytest.mark.parametrize(
    "svg",
    [
        lambda: charts.lines({HOSTILE: [(0, 1.0), (1, 2.0)]}, HOSTILE),
        lambda: charts.heat([(0, {HOSTILE: 1.0})], HOSTILE),
        lambda: charts.distributions([0.5, 0.5], [1.0, 0.0], HOSTILE, (HOSTILE, HOSTILE)),
        lambda: charts.pairs({HOSTILE: (0.5, 1.0)}, HOSTILE, "{:%}".format),
    ],
)
def test_names_in_a_chart_are_escaped_once(svg):
    """A template takes the chart as markup, and everything in it is text."""
    assert "<script" not in svg()
    assert "&amp;" not in svg()
    drawn = templates.environment().from_string("{{ svg }}").render(svg=svg())
    assert drawn.startswith('<svg class="')


@pytest.mark.parametrize("error", [ModuleNotFoundError("No module named 'jinja2'"), ImportError()])
def test_without_jinja2(monkeypatch, error):
    """Missing, or too old for the MarkupSafe that a program brought."""
    original = builtins.__import__

    def without(name, *rest, **more):
        if name == "jinja2":
            raise error
        return original(name, *rest, **more)

    templates.environment.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MachineError, match="jinja2") as found:
        templates.render(BASE, {"title": "t"})
    assert "pip install" in found.value.hint


def test_jinja2_is_imported_for_the_first_page():
    code = (
        "import sys; from sagemaker_byoc.pages import charts, templates; "
        "assert 'jinja2' not in sys.modules; templates.environment(); "
        "assert 'jinja2' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
