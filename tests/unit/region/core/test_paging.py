"""Pages that entries may come to and leave between two requests."""

from __future__ import annotations

import base64

import pytest

from sagemaker_byoc.region.core.paging import TokenError, decode, encode, page


def pages(entries, *, descending=False, size=2):
    token, found = "", []
    while token is not None:
        part, token = page(
            entries, lambda name: (name,), size=size, token=token, descending=descending
        )
        found.append(part)
    return found


def test_pages_are_sorted_and_the_last_has_no_token():
    assert pages(["c", "a", "d", "b", "e"]) == [["a", "b"], ["c", "d"], ["e"]]
    assert pages(["c", "a", "b"], descending=True) == [["c", "b"], ["a"]]
    assert pages(["a", "b"]) == [["a", "b"]]
    assert pages([]) == [[]]


def test_an_entry_that_comes_or_goes_does_not_shift_the_next_page():
    entries = ["b", "c", "d", "e"]
    _, token = page(entries, lambda name: (name,), size=2, token=None)
    changed = ["a", "b", "d", "e"]
    assert page(changed, lambda name: (name,), size=2, token=token) == (["d", "e"], None)


DEEP = base64.urlsafe_b64encode(b"[" * 100_000).decode()


@pytest.mark.parametrize("token", ["!", "ä", "eA==", encode([1]), encode({}), DEEP])
def test_a_foreign_token_is_refused(token):
    with pytest.raises(TokenError):
        page(["a"], lambda name: (name,), size=1, token=token)


def test_a_token_has_any_json():
    assert decode(encode((1, None, ["é"]))) == [1, None, ["é"]]
