"""Captured files: whole lines, whole files, and what a killed writer leaves."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from sagemaker_byoc.serving.capture import record_files as module
from sagemaker_byoc.serving.capture.record_files import OpenFile, recover

TIME = datetime(2022, 2, 14, 17, 25, 6, 123456, tzinfo=UTC)
KILLED = """
import sys, pathlib
from datetime import datetime, UTC
from sagemaker_byoc.serving.capture.record_files import OpenFile
file = OpenFile(pathlib.Path(sys.argv[1]), datetime.now(UTC))
file.append([b"one\\n", b"two\\n"])
file._write(b"half a li")
print("written", flush=True)
sys.stdin.read()
"""


def complete(folder):
    """What a reader takes for complete."""
    return sorted(folder.rglob("*.jsonl"))


def open_files(folder):
    return [*folder.glob(".writing/*")]


def test_only_finished_files_have_a_final_name(tmp_path):
    file = OpenFile(tmp_path, TIME)
    file.append([b"one\n"])
    assert complete(tmp_path) == []
    file.finish()
    (path,) = complete(tmp_path)
    assert path.parent == tmp_path / "2022/02/14/17"
    assert path.name.startswith("25-06-123-")
    assert path.read_bytes() == b"one\n"
    assert open_files(tmp_path) == []


def test_failed_record_leaves_nothing(tmp_path):
    """An error in the middle of one takes back what was written of it."""

    def pieces():
        yield b"half"
        raise OSError(28, "No space left on device")

    file = OpenFile(tmp_path, TIME)
    file.append([b"one\n"])
    with pytest.raises(OSError, match="No space"):
        file.append(pieces())
    file.append([b"two\n"])
    file.finish()
    assert complete(tmp_path)[0].read_bytes() == b"one\ntwo\n"


def test_file_without_a_line_vanishes(tmp_path):
    OpenFile(tmp_path, TIME).finish()
    assert complete(tmp_path) == open_files(tmp_path) == []


def test_file_system_without_locks(tmp_path, monkeypatch):
    """Nothing could tell a killed writer's file from a live one's: an error, and no empty files."""

    def flock(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(module.fcntl, "flock", flock)
    with pytest.raises(OSError, match="locks"):
        OpenFile(tmp_path, TIME)
    assert open_files(tmp_path) == []


def test_killed_writer(tmp_path):
    """Half a line is cut off and the file completed, once nobody holds it any more."""
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"written\n"
        assert recover(tmp_path).files == 0, "its writer lives"
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    assert complete(tmp_path) == []
    found = recover(tmp_path)
    assert (found.files, found.cut) == (1, len(b"half a li"))
    (path,) = complete(tmp_path)
    assert path.read_bytes() == b"one\ntwo\n"
    assert recover(tmp_path).files == 0


def test_recovery_of_a_long_half_line(tmp_path):
    """Longer than what is looked at at once; and one that was nothing else."""
    for start in (b"one\n", b""):
        file = OpenFile(tmp_path, TIME)
        os.write(file._descriptor, start + b"x" * (3 << 20))
        file.abandon()
    found = recover(tmp_path)
    assert (found.files, found.cut) == (1, 2 * (3 << 20))
    assert [path.read_bytes() for path in complete(tmp_path)] == [b"one\n"]
    assert open_files(tmp_path) == []
