"""Lists packed at once give what numpy makes of them, or are left to it."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest

from sagemaker_byoc.serving.error_replies import BadInput
from sagemaker_byoc.serving.media import MediaType
from sagemaker_byoc.serving.worker.formats import codecs, number_rows

PLAIN = MediaType("x/y")
LEAVES = ("0", "-0", "0.0", "1e39", "1E5", "-1e-400", str(2**63), str(-(2**63)), str(2**64 - 1))
LEAVES += (str(2**64), str(10**30), "1.5", "-0.25", "0.1", "16777217", str(2**53 + 1))
ODD = ("null", "true", "false", '"a"', '"1.5"', "NaN", "-Infinity", "[1]", "[]", "{}", "[[2]]")
FLOATS = (None, np.dtype("f4"), np.dtype("f8"))


def table(rng):
    rows, columns, odd = rng.randrange(4), rng.choice((0, 1, 1, 2, 40)), rng.choice((0, 0, 0.05))
    whole = rng.random() < 0.5

    def leaf():
        if rng.random() < odd:
            return rng.choice(ODD)
        return str(rng.randrange(-99, 99)) if whole else rng.choice(LEAVES)

    def row():
        return f"[{', '.join(leaf() for _ in range(columns + (rng.random() < 0.02)))}]"

    return row() if rng.random() < 0.2 else f"[{', '.join(row() for _ in range(rows))}]"


def outcome(decode, *arguments, **named):
    try:
        array = decode(*arguments, **named)
    except BadInput as error:
        return error.message
    return (str(array.dtype), array.shape, array.tobytes())


def test_as_numpy_reads_them():
    """The array, or the refusal, is that of np.asarray, with text and without it."""
    rng = random.Random(14)
    taken = 0
    for _ in range(3000):
        raw, floats = table(rng).encode(), rng.choice(FLOATS)
        document = codecs._loads(raw)
        found = outcome(codecs.numbers, document, raw, "It", quotes=0, floats=floats)
        has_text = b'"' in raw
        kind = floats
        if floats is None and not has_text and codecs._has_fractions(raw):
            kind = number_rows.FLOAT64
        slow = outcome(codecs._checked, document, "It", kind, has_text=has_text)
        assert found == slow, raw
        taken += number_rows.packed(document, kind or number_rows.INT64) is not None
    assert taken > 1000


@pytest.mark.parametrize(
    "document",
    [
        *([], [[]], [[], []], [[1], 2], [1, [2]], [[1, 2], [3]], [[1], "2"], ["ab"], [["a"]]),
        *([None], [[1, None]], [[[1]]], {"a": 1}, "1", 1, [{}], [[1], {"a": 1}], [[1], None]),
    ],
)
@pytest.mark.parametrize("dtype", [number_rows.FLOAT64, number_rows.INT64])
def test_left_to_numpy(document, dtype):
    assert number_rows.packed(document, dtype) is None


@pytest.mark.parametrize("document", [[True, False], [[True]], [1.0], [2**63], [[1], [2.5]]])
def test_not_integers(document):
    assert number_rows.packed(document, number_rows.INT64) is None


def test_long_list(monkeypatch):
    monkeypatch.setattr(number_rows, "_BLOCK", 7)
    assert number_rows.packed(list(range(50)), number_rows.INT64).tolist() == list(range(50))
    assert number_rows.packed([*range(50), None], number_rows.INT64) is None


def test_arrays_own_their_memory():
    """Handlers may write to them and change their size."""
    for document in ([1.5, 2], [[1, 2]], [[1, 2], [3, 4]]):
        flags = number_rows.packed(document, number_rows.FLOAT64).flags
        assert flags.owndata
        assert flags.writeable


# ── JSON Lines ──

LINES = ("[1, 2]", "[3, 4.5]", '{"features": [1, 2]}', '{"features": [3, null]}', "[NaN, 1]")
LINES += ("", "7", "1,2", "[1],[2]", "[1, 2", '{"features": [1, 2], "id": "x"}', '{"a": [1, 2]}')
LINES += (
    "[[1, 2]]",
    '["1", 2]',
    '{"features": ["1", 2]}',
    '[{"features": [1, 2]}]',
    "[]",
    "\ufeff[1]",
)


def test_lines_at_once(monkeypatch):
    """Read together or line by line, lines give the same array or the same refusal."""
    rng = random.Random(14)
    bodies = []
    for _ in range(1500):
        some = rng.sample(LINES, rng.randrange(1, 4))
        end = rng.choice(("\n", "\n", "\r\n", "\r", "\n\n"))
        bodies.append(
            end.join(rng.choice(some) for _ in range(rng.randrange(1, 5)))
            + rng.choice(("", end, " "))
        )
    quick = [outcome(codecs.decode_json_lines, body.encode(), PLAIN) for body in bodies]
    monkeypatch.setattr(codecs, "_lists", lambda _: None)
    monkeypatch.setattr(codecs, "_features", lambda _: None)
    slow = [outcome(codecs.decode_json_lines, body.encode(), PLAIN) for body in bodies]
    assert quick == slow


@pytest.mark.parametrize(
    "rows",
    [
        *(
            np.arange(6.0).reshape(3, 2),
            np.arange(3),
            np.ones((1, 3), np.float32),
            np.ones((2, 99)),
        ),
        *(np.ones((2, 2, 2)), np.empty((0, 2)), np.empty((2, 0)), np.array([True, False])),
        *(np.array([[np.nan, 1]]), np.ones((2, 2), ">f4"), np.arange(6).reshape(3, 2)[:, ::-1]),
        *([[1, 2], [3]], [[1, [2]], [3]], [["],["], ["a"]], [[], []], [[None, True], [1.5]]),
        *([1, 2], [[1], 2], [{"a": [1]}, {"a": [2]}], [[2**70], [1]], [(1, 2), (3, 4)]),
    ],
)
def test_lines_are_written_as_rows(rows):
    """A table cut into lines is what its rows are, written one by one."""
    written = codecs.encode_json_lines(rows)
    assert written == b"".join(codecs.encode_json(row) + b"\n" for row in rows)
    assert [json.loads(line) for line in written.splitlines()] == [
        json.loads(codecs.encode_json(row)) for row in rows
    ]
