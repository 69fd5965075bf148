"""The quick ways through CSV give what the slow ones give, or leave the body to them."""

from __future__ import annotations

import math
import random
from itertools import product

import numpy as np
import pytest

from sagemaker_byoc.serving.error_replies import BadInput
from sagemaker_byoc.serving.media import MediaType
from sagemaker_byoc.serving.worker.formats import codecs, csv_format, values

PLAIN = MediaType("text/csv")
ODD = ("", "", "NA", "nan", "-nan", "null", "inf", "-inf", "x", "1_0", "\u0661", "-", "+", "--1")
ODD += (
    "1-2",
    "1 2",
    "- 1",
    "[1]",
    "1],[2",
    "{}",
    "e",
    "1e",
    "true",
    " ",
    '"',
    "'",
    "1;2",
    "0x10",
    "\t1",
    "2\v",
)
EDGES = ("0", "-0", "00", "007", "+5", "1.", ".5", "-.5", "1E5", "1e39", "1e400", "-1e-400")
EDGES += tuple(
    str(sign * 2**bits + more) for sign, bits, more in product((1, -1), (63, 64), (-1, 0, 1))
)
POLICIES = ("absent", "present", "auto")


def number(rng, *, whole):
    if whole:
        return str(rng.randrange(-100, 1000))
    return rng.choice(
        (
            f"{rng.gauss(0, 1):.4f}",
            repr(rng.gauss(0, 1) * 10.0 ** rng.randrange(-30, 30)),
            f"{rng.gauss(0, 1):.3e}",
            str(rng.randrange(10 ** rng.randrange(1, 25))),
            rng.choice(EDGES),
        )
    )


def body(rng):
    """A table as clients send it, now and then with something wrong in it."""
    rows, columns = rng.choice((1, 1, 2, 3, 5)), rng.choice((1, 1, 2, 3, 30))
    odd, quoted, spaced = (
        rng.choice((0, 0, 0.1)),
        rng.choice((0, 0, 0.3, 1)),
        rng.choice((0, 0, 0.5)),
    )
    whole = rng.random() < 0.4
    end = rng.choice(("\n", "\n", "\r\n", "\r"))

    def cell():
        text = rng.choice(ODD) if rng.random() < odd else number(rng, whole=whole)
        if text != " " and rng.random() < quoted:  # alone, quoted spaces are a blank line to csv
            text = '"' + text.replace('"', '""') + '"'
        return rng.choice((f" {text} ", f"\t{text}")) if rng.random() < spaced else text

    lines = [",".join(cell() for _ in range(columns + (rng.random() < 0.02))) for _ in range(rows)]
    if rng.random() < 0.4:
        quote = rng.choice(("", '"'))
        names = ("a", "x_1", "é", "b c", "", "1", "nan", "a,b" if quote else "d")
        lines.insert(0, ",".join(f"{quote}{rng.choice(names)}{quote}" for _ in range(columns)))
    if rng.random() < 0.1:
        lines.insert(rng.randrange(len(lines)), "")
    text = end.join(lines) + rng.choice(("", end, end + end, end + " "))
    if rng.random() < 0.1:
        place = rng.randrange(len(text) + 1)
        text = text[:place] + rng.choice(',\n"- \r.ex[]_') + text[place + rng.randrange(2) :]
    return text


def agree(text, policy):
    """Return whether the quick way took the body; fail if it disagrees with the slow one."""
    quick = csv_format.quick(text.encode(), policy)
    if quick is None:
        return False
    slow = csv_format.decode(text, policy)
    assert quick.dtype == slow.dtype
    np.testing.assert_array_equal(quick, slow)
    assert quick.flags.writeable
    return True


def test_quick_is_as_slow():
    """On thousands of bodies, whatever their quotes, spaces, line ends, headers and errors."""
    rng = random.Random(14)
    taken = sum(agree(body(rng), rng.choice(POLICIES)) for _ in range(2500))
    assert taken > 1000


@pytest.mark.parametrize(
    "text",
    [
        *("1,-\n3,4", "1,+\n3,4", "1,2\n3,-", "1,--5", "1,2-3", "1,2-", "- 1,2", "1,2\n3,4 5"),
        *('1"2",3', '"1"2,3', '"1,2",3', '"1"",2', '""1"",2', "1,2,3\n4", "1,2\n\n3"),
    ],
)
@pytest.mark.parametrize("count", [1, 99])
def test_none_of_them_is_a_number(text, count):
    """What numpy, JSON or the removal of quotes would make numbers of stays an error."""
    with pytest.raises(BadInput):
        codecs.decode_csv("\n".join([text] * count).encode(), PLAIN, header="absent")


@pytest.mark.parametrize("extreme", [2**63 - 1, -(2**63), 2**63, 2**64 - 1, 2**64, -(2**63) - 1])
@pytest.mark.parametrize("count", [1, 99])
def test_integers_at_the_edge_of_64_bits(extreme, count):
    """numpy cuts what is too large; none of it reaches the model."""
    text = "\n".join([str(extreme)] * count).encode()
    if -(2**63) <= extreme < 2**64:
        array = codecs.decode_csv(text, PLAIN, header="absent")
        assert array.tolist() == [[extreme]] * count
    else:
        with pytest.raises(BadInput, match="more than 64 bits"):
            codecs.decode_csv(text, PLAIN, header="absent")


def test_blocks(monkeypatch):
    """Large bodies are parsed block by block, of which one may be of one cell, or of none."""
    rng = random.Random(14)
    for size in (1, 2, 7, 30):
        monkeypatch.setattr(csv_format, "_BLOCK", size)
        for _ in range(300):
            agree(body(rng), "absent")
    assert agree("1.5,2,\n3,,4\n,,\n", "absent")


@pytest.mark.parametrize(
    ("text", "policy", "rows"),
    [
        ("a,b\r1,2\r\n3,4\n", "present", [[1, 2], [3, 4]]),  # nor is the row between left out
        ('"a","b"\n"1","2"\n', "present", [[1, 2]]),
        ('"a,b",é\n1,2\n', "auto", [[1, 2]]),
        ("x_1,x_2\n1,2\n\n3,4\n", "auto", [[1, 2], [3, 4]]),
        ("é,b\n1,2\n\n3,4\n", "auto", [[1, 2], [3, 4]]),
        ("1.5\n7\n\n8\n", "present", [[7], [8]]),
    ],
)
def test_headers_change_no_type(text, policy, rows):
    """Integers stay integers, whatever letters and signs are in the names above them."""
    array = codecs.decode_csv(text.encode(), PLAIN, header=policy)
    assert array.dtype == np.int64
    assert array.tolist() == rows


def test_header_beside_missing_values():
    """A name above a missing value decides nothing; one above a number makes a header."""
    assert codecs.decode_csv(b"a,b\n,5\n", PLAIN, header="auto").shape == (1, 2)
    with pytest.raises(BadInput, match="row 1, column 1"):
        codecs.decode_csv(b"a,\n,5\n", PLAIN, header="auto")


def test_header_that_does_not_end():
    """A quote that is open at the end of the header's line makes it no line of its own."""
    with pytest.raises(BadInput, match="not CSV"):
        codecs.decode_csv(b'"a,b\n1,2\n3,4\n', PLAIN, header="present")


@pytest.mark.parametrize("text", ["5\u00a0,6", "\u00a05,6"])
@pytest.mark.parametrize("policy", POLICIES)
def test_spaces_of_other_kinds(text, policy):
    """A no-break space beside a number is not a part of it."""
    rows = text if policy == "absent" else f"a,b\n{text}"
    array = codecs.decode_csv(rows.encode(), PLAIN, header=policy)
    assert array.tolist() == [[5, 6]]


def test_float32():
    """A type that the caller asks for is made at once, infinite if a number is beyond it."""
    array = codecs.decode_csv(b"1e39,0.1\n2,3\n", PLAIN, header="absent", floats=np.dtype("f4"))
    assert array.dtype == np.float32
    assert array.tolist() == [[math.inf, float(np.float32(0.1))], [2, 3]]


# ── replies ──


def cells(written):
    return [
        [str(float(cell)) for cell in line.split(",")] for line in written.decode().splitlines()
    ]


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "g", "i1", "i8", "u8", ">f4", ">i2", "?"])
@pytest.mark.parametrize("shape", [(), (1,), (3,), (1, 1), (3, 2), (2, 30), (0, 2), (2, 0)])
def test_arrays_are_written_as_numpy_writes_numbers(dtype, shape):
    """The value of each cell is that of numpy's own text for it."""
    with np.errstate(all="ignore"):
        table = np.random.default_rng(14).normal(size=shape) * 10.0 ** np.arange(
            math.prod(shape)
        ).reshape(shape)
        table = np.asarray(table.astype(dtype))
    rows = table.reshape(-1, 1) if table.ndim < 2 else table
    expected = "".join(",".join(row) + "\n" for row in rows.astype(np.str_))
    written = csv_format.encode(table)
    if dtype == "?":
        assert written.decode() == expected
    elif rows.size:
        assert cells(written) == cells(expected.encode())
    assert len(written.splitlines()) == len(rows)


def test_numbers_that_json_has_not():
    table = np.array([[np.nan, 1.5], [-np.inf, np.inf]], np.float32)
    assert csv_format.encode(table) == b"nan,1.5\n-inf,inf\n"
    assert csv_format.encode(table[:, ::-1]) == b"1.5,nan\ninf,-inf\n"


LEAVES = (None, True, math.nan, -math.inf, "a", "1", '"', "[", 2**70, 1e-7, 5e-5, 1e22, [1], (2, 3))


def test_lists_are_written_as_cells():
    """Rows of numbers are written at once, and all others cell by cell, with the same values."""
    rng = random.Random(14)
    for _ in range(2000):
        share, columns = rng.choice((0, 0.1)), rng.randrange(4)

        def leaf(share=share):
            return rng.choice(LEAVES) if rng.random() < share else rng.choice((rng.gauss(0, 1), 7))

        rows = [[leaf() for _ in range(columns)] for _ in range(rng.randrange(1, 4))]
        table = rows if rng.random() < 0.7 else rows[0]
        try:
            expected = "".join(map(csv_format._line, values.rows_of(table))).encode()
        except Exception as error:  # noqa: BLE001 - of whatever kind
            with pytest.raises(type(error)):
                csv_format.encode(table)
            continue
        written = csv_format.encode(table)
        try:
            assert cells(written) == cells(expected)
        except ValueError:
            assert written == expected
