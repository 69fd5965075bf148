"""What a program prints reaches the log in whole lines, whatever the program or the log do."""

from __future__ import annotations

import subprocess
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.training.supervisor.conftest import wait_until

from sagemaker_byoc.contract.training.runs import parse_line
from sagemaker_byoc.training.supervisor.process.log import (
    CUT,
    LINE_LIMIT,
    UPDATE_SECONDS,
    Lines,
    Tail,
)

PIECES = st.lists(st.binary(max_size=40).map(lambda data: data.replace(b"\r", b"\n")))


class Clock:
    """Time that only a test moves."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def relayed(*pieces):
    lines = Lines(Clock())
    return b"".join([*map(lines.feed, pieces), lines.end()])


@given(PIECES)
def test_output_equals_input(pieces):
    """Without carriage returns and overlong lines, nothing changes but a missing last newline."""
    data = b"".join(pieces)
    assert relayed(*pieces) == data + b"\n" * (data[-1:] not in (b"", b"\n"))


@given(PIECES)
def test_passes_only_whole_lines(pieces):
    """Whatever is passed on at once ends with the end of a line."""
    lines = Lines(Clock())
    assert all(lines.feed(piece)[-1:] in (b"", b"\n") for piece in pieces)


@given(st.binary(max_size=60), st.lists(st.integers(0, 60)))
def test_pieces_make_no_difference(data, places):
    """The place of a cut in the input does not change the output, carriage returns included."""
    cuts = sorted({0, len(data), *(place for place in places if place < len(data))})
    pieces = [data[start:end] for start, end in pairwise(cuts)]
    assert relayed(*pieces) == relayed(data)


def test_overlong_line_is_cut_with_a_mark():
    """A line of three limits leaves in three marked pieces, and the next line is untouched."""
    text = b"x" * (3 * LINE_LIMIT + 5)
    piece = b"x" * LINE_LIMIT + CUT
    assert relayed(text + b"\nnext\n") == piece * 3 + b"xxxxx\nnext\n"


def test_overlong_line_leaves_before_it_ends():
    """A line without end does not pile up in memory."""
    lines = Lines()
    passed = b"".join(lines.feed(b"y" * LINE_LIMIT) for _ in range(4))
    assert passed == (b"y" * LINE_LIMIT + CUT) * 3


def test_cut_is_not_inside_a_character():
    """Both pieces of a cut line are valid UTF-8."""
    text = ("ü" * LINE_LIMIT).encode()
    for offset in (b"", b"x"):
        assert "�" not in relayed(offset + text + b"\n").decode("utf-8", "replace")


def test_progress_bar_is_one_line_a_second():
    """If updates come faster, the first of each second is passed on, and the last of all."""
    clock = Clock()
    lines = Lines(clock)
    passed = b""
    for step in range(100):
        passed += lines.feed(b"\r%d%%" % step)
        clock.now += UPDATE_SECONDS / 8
    passed += lines.feed(b"\r100%\n")
    assert passed.splitlines() == [b"%d%%" % step for step in range(0, 100, 8)] + [b"100%"]


def test_held_update_comes_at_the_end():
    """The last state of a bar is not lost when the program ends there."""
    assert relayed(b"1%\r2%\r", b"3%\r") == b"1%\n3%\n"


def test_windows_line_ends_are_line_ends():
    """CR LF is one line end, also where a piece ends between the two."""
    assert relayed(b"a\r", b"\nb\r\n") == b"a\nb\n"


@given(st.lists(st.binary(max_size=30)), st.integers(1, 50))
def test_tail_is_the_end(pieces, limit):
    """The tail holds the last bytes and never more than its limit."""
    tail = Tail(limit)
    for piece in pieces:
        tail.add(piece)
    assert tail.text() == b"".join(pieces)[-limit:].decode("utf-8", "replace")


def test_tail_keeps_where_a_traceback_began():
    """The type and the first words of an exception survive a message of any length."""
    head = b'Traceback (most recent call last):\n  File "a.py", line 1, in f\nValueError: begin\n'
    for label in (b"", b"[rank0]: "):
        tail = Tail(1000)
        for line in [b"early\n" * 500, label + head, *[b"more\n" * 99] * 99, b"the end\n"]:
            tail.add(line)
        text = tail.text()
        assert text.startswith((label + head).decode())
        assert text.endswith("more\nthe end\n")
        assert len(text) <= 1001
    tail.add(b"x" * 5000 + b"\n" + head)
    assert tail.text().endswith("x\n" + head.decode())
    assert tail.text().count("Traceback") == 1


@pytest.mark.slow
def test_every_metric_line_arrives(container):
    """Two thousand lines printed in pieces, beside a second stream: each still parses."""
    container.program("prints_pieces.py")
    result = container.run()
    lines = result.out.splitlines()
    assert len(lines) == 2000
    assert all(parse_line(line).keys() == {"loss", "accuracy"} for line in lines)
    warnings = [line for line in result.err.splitlines() if not line.startswith("byoc: ")]
    assert warnings == [f"warning {step} of many words" for step in range(0, 2000, 10)]


@pytest.mark.slow
def test_unfinished_line_arrives(container):
    """What was written without a newline is not lost."""
    container.program("never_ends_line.py")
    assert container.run().out == "loss=0.5;\n"


@pytest.mark.slow
def test_huge_output_arrives_whole(container):
    """A flood is passed on line for line, and only an overlong line is cut."""
    container.program("huge_output.py")
    *lines, first, second, third, rest, last = container.run().out.splitlines()
    assert lines == [f"line {number} of many" for number in range(100_000)]
    assert {first, second, third} == {"x" * 65536 + " …[line cut]"}
    assert (rest, last) == ("x" * (200_000 - 3 * 65536), "end")


@pytest.mark.slow
def test_progress_bar_is_thinned(container):
    """Ten thousand redraws become a few lines, and the last state is among them."""
    container.program("progress_bar.py")
    lines = container.run().err.splitlines()
    assert len(lines) < 20
    assert lines[-1] == "100%|####"


@pytest.mark.slow
def test_stalled_log_does_not_stop_the_program(container):
    """While nobody reads the log the program still ends, and signals are still obeyed."""
    flood = "import os\nfor _ in range(400): print('x' * 50_000)\n"
    container.text(flood + f"open({str(container.folder / 'through')!r}, 'w')")
    running = container.start(stdout=subprocess.PIPE)
    wait_until((container.folder / "through").exists, "the program to get through its output")
    rest = running.process.stdout.read().decode()
    result = running.result()
    assert result.code == 0
    assert set(rest.splitlines()) == {"x" * 50_000}
    assert "lines of output were dropped" in result.err


@pytest.mark.slow
def test_closed_log_does_not_stop_the_program(container):
    """A log that was closed does not fail the job."""
    container.text("for _ in range(10_000): print('x' * 100)")
    running = container.start(stdout=subprocess.PIPE)
    running.process.stdout.close()
    assert running.result().code == 0
