"""The quicker parser gives what gunicorn's own gives, in every way that a request can be cut."""

from __future__ import annotations

import itertools

import pytest
from gunicorn.asgi.parser import ParseError, PythonProtocol
from hypothesis import given
from hypothesis import strategies as st

from sagemaker_byoc.serving.front.gunicorn.parsers import LINES, FrontParser

LINE_PARTS = [
    b"Host: a",
    b"host:b",
    b"Content-Type: application/json",
    b"Content-Length: 3",
    b"Content-Length: 0",
    b"Content-Length: +3",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding : chunked",
    b"Connection: close",
    b"X-Amzn-SageMaker-Inference-Id: 7",
    b"Expect: 100-continue",
    b" folded: line",
    b"no colon",
    b": no name",
    b"Empty:",
    b"X-\xe4: name",
    b"X: \xe4 value",
    b"X: nul \x00",
    b"X: cr \r here",
    b"X: lf \n here",
    b"Long: " + b"x" * 300,
    b"Longer: " + b"x" * 9000,
    b"",
]
TAILS = [b"", b"abc", b"abcGET / HTTP/1.1\r\nHost: x\r\n\r\n", b"3\r\nabc\r\n0\r\n\r\n"]
FIELDS = ("method", "path", "http_version", "headers", "content_length", "is_chunked")


def outcome(kind, pieces):
    """All that a connection sees of one request; an error by its type and text."""
    bodies = []
    parser = kind(on_body=bodies.append, limit_request_fields=8, limit_request_field_size=8190)
    try:
        for piece in pieces:
            parser.feed(piece)
    except ParseError as error:
        return type(error).__name__, str(error)
    state = [getattr(parser, field) for field in FIELDS]
    end = (parser.should_keep_alive, parser.is_complete, bytes(parser._buffer))
    return *map(repr, state), b"".join(bodies), end


@given(
    lines=st.lists(st.sampled_from(LINE_PARTS) | st.binary(max_size=20), max_size=10),
    tail=st.sampled_from(TAILS),
    version=st.sampled_from([b"1.1", b"1.0"]),
    cuts=st.lists(st.integers(0, 400), max_size=3),
)
def test_same_as_gunicorn(lines, tail, version, cuts):
    """Valid or not, in one piece or several, seen before or not."""
    data = b"POST /a?b HTTP/" + version + b"\r\n" + b"".join(x + b"\r\n" for x in lines)
    data += b"\r\n" + tail
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[start:end] for start, end in itertools.pairwise(edges)]
    expected = outcome(PythonProtocol, pieces)
    assert outcome(FrontParser, pieces) == expected
    assert outcome(FrontParser, pieces) == expected  # now from memory


def test_remembers_within_bounds():
    """However many different lines come, and never one that was refused."""
    for number in range(3 * LINES):
        outcome(FrontParser, [b"GET / HTTP/1.1\r\nX: %d\r\n\r\n" % number])
        assert len(FrontParser._known) <= LINES
    outcome(FrontParser, [b"GET / HTTP/1.1\r\nBad name: x\r\n\r\n"])
    assert b"Bad name: x" not in FrontParser._known
    assert b"X: %d" % (3 * LINES - 1) in FrontParser._known


@pytest.mark.parametrize("count", [8, 9])
def test_number_of_lines(count):
    """The limit is gunicorn's also when all lines are known."""
    data = b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * count + b"\r\n"
    for _ in range(2):
        assert outcome(FrontParser, [data]) == outcome(PythonProtocol, [data])
    assert ("Too many" in str(outcome(FrontParser, [data]))) == (count > 8)
