"""Ranks of a job: an end with 0, a stop at the same step, and a file that shows progress."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import pytest
from torch import nn

from sagemaker_byoc.contract.variables import PROGRESS_FILE
from sagemaker_byoc.training import Checkpointer, Metrics
from sagemaker_byoc.training.library.ranks import Progress, StopFlag, steps_apart

ENDS = """
import atexit, pathlib, sys, time
from torch import distributed
from sagemaker_byoc.training.library.ranks import Ranks

def names():
    threads = pathlib.Path("/proc/self/task").glob("*/comm")
    return [file.read_text().strip() for file in threads]

def show():  # runs last of the handlers, before the interpreter is taken down
    print(*names())

atexit.register(show)
distributed.init_process_group("gloo")
ranks = Ranks()
ranks.wait()
deadline = time.monotonic() + 30
while names().count("pt_gloo_runloop") < 4 and time.monotonic() < deadline:
    time.sleep(0.01)  # a thread takes its name once it runs
show()
if sys.argv[1] == "destroyed":
    distributed.destroy_process_group()
"""


@pytest.mark.slow
@pytest.mark.parametrize(("how", "left"), [("destroyed", 0), ("left alone", 2)])
def test_no_thread_of_the_groups_outlives_the_program(how, left):
    """What is left belongs to the group of the program's own, which is not ours to end."""
    environ = dict(os.environ, RANK="0", WORLD_SIZE="1")
    environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    command = [sys.executable, "-c", textwrap.dedent(ENDS), how]
    done = subprocess.run(
        command, env=environ, check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    running, ending = done.stdout.splitlines()
    assert running.count("pt_gloo_runloop") == 4  # two for each group
    assert ending.count("pt_gloo_runloop") == left


@pytest.fixture
def flag():
    flag = StopFlag(every=4)
    yield flag
    flag.close()


def test_sigterm_sets_the_flag(flag):
    """The signal itself changes nothing but the flag."""
    os.kill(os.getpid(), signal.SIGTERM)
    assert flag.is_set


def test_the_answer_changes_only_where_the_ranks_meet(flag):
    """Between two meetings the flag waits, and after one the answer stays."""
    answers = []
    for step in range(1, 9):
        if step == 3:
            flag.set()
        answers.append(flag.agreed(step))
    assert answers == [False] * 4 + [True] * 4


def test_closing_gives_the_signal_back():
    """A handler of the script's own is back in its place."""
    before = signal.getsignal(signal.SIGTERM)
    flag = StopFlag()
    assert signal.getsignal(signal.SIGTERM) != before
    flag.close()
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_handler_that_was_there_is_called_too():
    """Two libraries may both want to know."""
    seen = []
    before = signal.signal(signal.SIGTERM, lambda *_: seen.append(1))
    flag = StopFlag()
    os.kill(os.getpid(), signal.SIGTERM)
    flag.close()
    signal.signal(signal.SIGTERM, before)
    assert seen == [1]
    assert flag.is_set


def test_a_wish_is_agreed_on_in_the_same_message(flag):
    """It holds for the one step at which the ranks met."""
    flag.agreed(1, wish=lambda: True)
    assert flag.wished
    flag.agreed(2, wish=lambda: True)
    assert not flag.wished


@pytest.mark.parametrize(
    ("microseconds", "steps"), [(0, 1), (10_000, 32), (100_000, 10), (5_000_000, 1)]
)
def test_meetings_are_about_a_second_apart(microseconds, steps):
    """Short steps meet rarely, long ones each time."""
    assert steps_apart(microseconds) == steps


def test_a_flag_without_meetings_is_refused():
    """every=0 would never be agreed on."""
    with pytest.raises(ValueError, match="at least 1"):
        StopFlag(every=0)


@pytest.fixture
def file(tmp_path, monkeypatch):
    path = tmp_path / "progress"
    monkeypatch.setenv(PROGRESS_FILE, str(path))
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path))
    return path


def test_nothing_without_a_watchdog(monkeypatch):
    """The variable is the supervisor's; without it there is nothing to renew."""
    monkeypatch.delenv(PROGRESS_FILE, raising=False)
    Progress().report()


def test_metrics_report(file):
    """A script that only logs is seen to progress."""
    with Checkpointer(model=nn.Linear(1, 1), folder=file.parent / "c"):
        assert not file.exists()
    Metrics(every=100).log(1, {"loss": 1.0})
    assert file.exists()


def test_checkpointer_reports(file):
    """So is one that only checkpoints."""
    with Checkpointer(model=nn.Linear(1, 1), folder=file.parent / "c") as checkpointer:
        checkpointer.step(1)
    assert file.exists()
