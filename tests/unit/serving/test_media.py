"""Media types by RFC 9110."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagemaker_byoc.serving import media
from sagemaker_byoc.serving.media import CSV, JSON, JSON_LINES, NPY

OFFERED = (JSON, JSON_LINES, CSV, NPY)


@pytest.mark.parametrize(
    ("text", "essence", "parameters"),
    [
        ("text/csv", "text/csv", {}),
        (" Text/CSV ; Charset=UTF-8", "text/csv", {"charset": "UTF-8"}),
        ('a/b; x="1;\\"2"; y=3;', "a/b", {"x": '1;"2', "y": "3"}),
        ("a/b;;", "a/b", {}),
    ],
)
def test_parse(text, essence, parameters):
    """Names without regard to case, values as they are, quotes taken off."""
    assert media.parse(text) == media.MediaType(essence, parameters)


@pytest.mark.parametrize("text", ["", "json", "a/b/c", "a/b; =1", 'a/b; x="1', "a b/c"])
def test_malformed(text):
    """What is not a media type is None."""
    assert media.parse(text) is None


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", JSON),
        ("*/*", JSON),
        ("text/csv", CSV),
        ("text/csv, application/json", JSON),
        ("text/csv;q=0.9, application/x-npy", NPY),
        ("application/jsonl", "application/jsonl"),
        ("*/*;q=0.1, application/json;q=0", JSON_LINES),
        ("text/*", CSV),
        ("image/png", None),
        ("application/json;q=0", None),
        ("text/csv;q=2, application/x-npy", NPY),
    ],
)
def test_choose(accept, chosen):
    """Quality first, then the default, then the caller's order; the more specific range rules."""
    assert media.choose(accept, OFFERED, JSON) == chosen


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [("", JSON), ("*/*", JSON), ("image/png;q=0.5, image/webp", "image/webp"), ("a/*", "a/*")],
)
def test_preferred(accept, chosen):
    """A user's function gets the preferred type."""
    assert media.preferred(accept, JSON) == chosen


@given(st.text(max_size=60))
def test_never_raises(text):
    """Headers are hostile until proven otherwise."""
    media.parse(text)
    media.choose(text, OFFERED, JSON)
    media.preferred(text, JSON)
