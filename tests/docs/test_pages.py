"""Links of the pages lead somewhere; their Python blocks are Python, and import what exists."""

from __future__ import annotations

import ast
import importlib
import re
from importlib.util import find_spec
from urllib.parse import unquote

import pytest
from tests.docs.sessions import ROOT, pages

FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
CODE = re.compile(r"``.*?``|`[^`\n]*`")
LINK = re.compile(r"\]\(([^()\s]+)\)")
HEADING = re.compile(r"^#+ +(.*?)\s*$", re.MULTILINE)
PYTHON = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
PAGES = [*pages(), ROOT / "CONTRIBUTING.md", *sorted((ROOT / "benchmarks").glob("*.md"))]

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def anchors(page):
    """The names that GitHub gives a page's headings."""
    text = FENCE.sub("", page.read_text())
    words = (re.sub(r"\[(.*?)\]\(.*?\)", r"\1", heading) for heading in HEADING.findall(text))
    return {re.sub(r"[^\w\- ]", "", word.lower()).replace(" ", "-") for word in words}


def broken_links(page):
    for link in LINK.findall(CODE.sub("", FENCE.sub("", page.read_text()))):
        if re.match(r"\w+:", link):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield link


@each_page
def test_links(page):
    assert [*broken_links(page)] == []


def test_broken_links_are_found(tmp_path):
    page = tmp_path / "a.md"
    page.write_text("# One `two`, three\n[a](#one-two-three) [b](b.md) [c](#no) [d](https://x/y)\n")
    assert [*broken_links(page)] == ["b.md", "#no"]


@each_page
def test_python_blocks(page):
    for block in PYTHON.findall(page.read_text()):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
                "sagemaker_byoc"
            ):
                module = importlib.import_module(node.module)
                for alias in node.names:
                    whole = f"{node.module}.{alias.name}"
                    assert hasattr(module, alias.name) or find_spec(whole), whole


NAMED = re.compile(r"`([\w/]+(?:\.py|/))`")
PACKAGE = ROOT / "src" / "sagemaker_byoc"
EXPLANATIONS = sorted((ROOT / "docs" / "explanation").glob("*.md"))
MODULES = [
    f"/{path.relative_to(ROOT)}" + ("/" if path.is_dir() else "")
    for path in [PACKAGE, *PACKAGE.rglob("*")]
]


@pytest.mark.parametrize("page", EXPLANATIONS, ids=lambda page: page.name)
def test_named_files_exist(page):
    """Each file and folder that an explanation names is in the package."""
    named = NAMED.findall(page.read_text())
    assert named
    assert [name for name in named if not any(m.endswith(f"/{name}") for m in MODULES)] == []
