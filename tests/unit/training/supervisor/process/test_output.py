"""What a program prints reaches the log, whatever the program or the log do."""

from __future__ import annotations

import subprocess

import pytest
from tests.unit.training.supervisor.conftest import wait_until

from sagemaker_byoc.contract.training.metric_definitions import parse_line

pytestmark = pytest.mark.slow  # real processes


def test_every_metric_line_arrives(container):
    """Two thousand lines printed in pieces, beside a second stream: each still parses."""
    container.program("prints_pieces.py")
    result = container.run()
    lines = result.out.splitlines()
    assert len(lines) == 2000
    assert all(parse_line(line).keys() == {"loss", "accuracy"} for line in lines)
    warnings = [line for line in result.err.splitlines() if not line.startswith("byoc: ")]
    assert warnings == [f"warning {step} of many words" for step in range(0, 2000, 10)]


def test_unfinished_line_arrives(container):
    """What was written without a newline is not lost."""
    container.program("never_ends_line.py")
    assert container.run().out == "loss=0.5;\n"


def test_huge_output_arrives_whole(container):
    """A flood is passed on line for line, and only an overlong line is cut."""
    container.program("huge_output.py")
    *lines, first, second, third, rest, last = container.run().out.splitlines()
    assert lines == [f"line {number} of many" for number in range(100_000)]
    assert {first, second, third} == {"x" * 65536 + " …[line cut]"}
    assert (rest, last) == ("x" * (200_000 - 3 * 65536), "end")


def test_progress_bar_is_thinned(container):
    """Ten thousand redraws become a few lines, and the last state is among them."""
    container.program("progress_bar.py")
    lines = container.run().err.splitlines()
    assert len(lines) < 20
    assert lines[-1] == "100%|####"


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


def test_closed_log_does_not_stop_the_program(container):
    """A log that was closed is no reason to fail."""
    container.text("for _ in range(10_000): print('x' * 100)")
    running = container.start(stdout=subprocess.PIPE)
    running.process.stdout.close()
    assert running.result().code == 0
