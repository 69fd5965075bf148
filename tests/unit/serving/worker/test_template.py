"""Which processes can be forked into workers, in processes that have loaded each kind of thing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAD = """
import os, socket, sqlite3, subprocess, sys, tempfile, threading
from sagemaker_byoc.serving.worker.template import Descriptors, obstacle
before = Descriptors()
"""
TAIL = """
print(obstacle(before.opened()))
os._exit(0)
"""


def found(load, tmp_path, **environ):
    """What stands against a fork after the load."""
    script = HEAD + load + TAIL
    done = subprocess.run(
        [sys.executable, "-u", "-c", script],
        cwd=tmp_path,
        env={"PATH": "", **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.stderr, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("load", "problem"),
    [
        ("", ""),
        ("kept = open(sys.executable, 'rb'); none = open('/dev/null', 'w')", ""),
        ("folder = os.open('.', os.O_RDONLY)", ""),
        ("open('once', 'w').close()", ""),
        ("log = open('app.log', 'a')", "the load opened {}/app.log for writing"),
        (
            "db = sqlite3.connect('a.db'); db.execute('create table t(i)')",
            "the load opened {}/a.db",
        ),
        ("ends = socket.socketpair()", "the load opened socket:["),
        ("ends = os.pipe()", "the load opened pipe:["),
        ("kept = os.memfd_create('weights')", "the load opened /memfd:weights"),
        (
            "threading.Thread(target=threading.Event().wait, name='poller', daemon=True).start()",
            "the load started threads (poller)",
        ),
        (
            "child = subprocess.Popen(sys.executable, stdin=subprocess.PIPE)",
            "the load started processes",
        ),
        ("os.dup2(os.open('out', os.O_WRONLY | os.O_CREAT), 2)", "the load opened {}/out for"),
    ],
)
def test_obstacle(load, problem, tmp_path):
    """What two processes can't share is named; what they can is not in the way."""
    said = found(load, tmp_path)
    assert said.startswith(problem.format(tmp_path))
    assert bool(said) == bool(problem)


def test_database_to_read(tmp_path):
    """A connection that only reads is not carried over a fork either."""
    load = """
connection = sqlite3.connect("a.db")
connection.execute("create table t(i)")
connection.close()
connection = sqlite3.connect("file:a.db?mode=ro", uri=True)
print(connection.execute("select count(*) from t").fetchone()[0], end=" ")
"""
    assert found(load, tmp_path) == f"0 the load opened the database {tmp_path}/a.db"


def test_threads_of_mathematics(tmp_path):
    """Those of OpenMP and OpenBLAS end for a fork and start again when they are needed."""
    pytest.importorskip("torch")
    load = """
import numpy, torch
with torch.inference_mode():
    torch.rand(999, 999) @ torch.rand(999, 999)
numpy.ones((999, 999)) @ numpy.ones((999, 999))
print(len(os.listdir("/proc/self/task")) > 1, end=" ")
"""
    threads = {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"}
    assert found(load, tmp_path, **threads) == "True"


def test_progress_bars(tmp_path):
    """The thread of tqdm, which every load by transformers leaves behind, is not in the way."""
    tqdm = pytest.importorskip("tqdm")
    folder = str(Path(tqdm.__file__).parents[1])
    load = "from tqdm.auto import tqdm; [*tqdm([1], file=open('/dev/null', 'w'))]; print(end='-')"
    assert found(load, tmp_path, PYTHONPATH=folder) == "-"


def test_thread_like_that_of_progress_bars(tmp_path):
    """It ends as tqdm's own does, which not every environment has."""
    load = """
class TMonitor(threading.Thread):
    def __init__(self):
        super().__init__(daemon=True)
        self.was_killed = threading.Event()
        self.start()

    def run(self):
        self.was_killed.wait()

    def exit(self):
        self.was_killed.set()
        self.join()

TMonitor.__module__ = "tqdm._monitor"
TMonitor()
"""
    assert not found(load, tmp_path)
