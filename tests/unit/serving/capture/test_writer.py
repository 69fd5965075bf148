"""The writer's thread (rotation, a full disk, a failing one, a slow one, the end) and its files."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from tests.unit.serving.harness import wait_until

from sagemaker_byoc.contract.capture import Encoding, Record, hour_of
from sagemaker_byoc.serving.bodies import Body
from sagemaker_byoc.serving.capture import writer as module
from sagemaker_byoc.serving.capture.lines import PIECE, Traffic
from sagemaker_byoc.serving.capture.options import CaptureSettings
from sagemaker_byoc.serving.capture.writer import OpenFile, Writer, recover

NOW = time.time()


def record(body, response=b"0.5", kinds=("text/csv", "text/csv"), when=NOW):
    return Traffic(Body.of(body), kinds[0], Body.of(response), kinds[1], {}, when)


def contents(folder):
    """The requests' bodies in each complete file, the oldest first."""
    files = sorted(complete(folder), key=lambda path: path.stat().st_mtime_ns)
    lines = [path.read_bytes().splitlines() for path in files]
    return [[Record.from_line(line).input.body for line in each] for each in lines]


@dataclass
class Disk:
    """A file system whose free share the test sets."""

    free: int = 50

    def __call__(self, _folder):
        return os.statvfs_result((4096, 4096, 100, self.free, self.free, 0, 0, 0, 0, 255))


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def begin(tmp_path, monkeypatch):
    """Starts a writer; all end with the test."""
    monkeypatch.setattr(module, "LOOK", 0.02)
    writers = []

    def start(**settings):
        disk, clock = Disk(), Clock()
        settings = CaptureSettings(folder=str(tmp_path), **settings)
        found = Writer(settings, disk=disk, clock=clock)
        writers.append(found)
        found.start()
        return found, disk, clock

    yield start
    for found in writers:
        assert found.close(10)


def settle(writer, written=0, lost=0):
    wait_until(lambda: (writer.written, writer.lost) == (written, lost))


def test_complete_at_size_at_age_and_at_the_end(begin, tmp_path):
    writer, _, clock = begin(size=2000, seconds=60)
    large = b"0" * 2000
    writer.put([record(large)])
    wait_until(lambda: len(complete(tmp_path)) == 1)
    writer.put([record(b"one")])
    writer.put([record(b"two")])
    settle(writer, written=3)
    assert len(complete(tmp_path)) == 1
    clock.now += 61
    wait_until(lambda: len(complete(tmp_path)) == 2)
    writer.put([record(b"three")])
    assert writer.close(10)
    assert contents(tmp_path) == [[large], [b"one", b"two"], [b"three"]]


def test_hour_begins_a_file(begin, tmp_path):
    """A record lies in the folder of its hour, also where one list has records of two."""
    writer, _, _ = begin()
    writer.put([record(b"one", when=NOW - 3600), record(b"two"), record(b"three")])
    assert writer.close(10)
    found = {}
    for path in complete(tmp_path):
        for line in path.read_bytes().splitlines():
            found[Record.from_line(line).input.body] = hour_of(str(path))
    hour = datetime.fromtimestamp(NOW, UTC).replace(minute=0, second=0, microsecond=0)
    assert found == {b"one": hour - timedelta(hours=1), b"two": hour, b"three": hour}


def test_many_in_order(begin, tmp_path):
    """Portions don't show in the file; large records keep their place among small ones."""
    writer, _, _ = begin()
    bodies = [b"%d" % number * (40_000 if number % 7 == 0 else 1) for number in range(50)]
    writer.put([record(body) for body in bodies])
    assert writer.close(10)
    assert contents(tmp_path) == [bodies]
    ids = {
        Record.from_line(line).event_id
        for path in complete(tmp_path)
        for line in path.read_bytes().splitlines()
    }
    assert {uuid.UUID(each).version for each in ids} == {4}
    assert len(ids) == 50


def test_types_that_monitors_cannot_read_are_named_once(begin, capfd):
    writer, _, _ = begin()
    kinds = ("text/csv; charset=utf-8", "application/x-npy")
    writer.put([record(b"1", kinds=kinds)] * 3)
    assert writer.close(10)
    said = capfd.readouterr().err
    assert said.count("replies of type application/x-npy are kept as BASE64") == 1
    assert "text/csv;" not in said


def test_defects_do_not_end_the_thread(begin, tmp_path, capfd):
    """Counted, said without the data, and the next records are written."""
    writer, _, _ = begin()
    broken = record(b"secret")
    broken.headers = None
    writer.put([broken])
    settle(writer, lost=1)
    assert writer.taken == broken.size
    writer.put([record(b"one")])
    assert writer.close(10)
    assert contents(tmp_path) == [[b"one"]]
    said = capfd.readouterr().err
    assert "capture: a record failed: AttributeError at" in said
    assert "secret" not in said


def test_full_disk_pauses_and_goes_on(begin, tmp_path, capfd):
    """What is there is completed; said once; nothing is written until there is room again."""
    writer, disk, _ = begin(free_percent=10)
    writer.put([record(b"one")] * 2)
    settle(writer, written=2)
    disk.free = 9
    wait_until(lambda: writer.pause)
    assert len(complete(tmp_path)) == 1
    writer.put([record(b"three")] * 3)
    settle(writer, written=2, lost=3)
    disk.free = 10  # not yet: it would begin again at once
    writer.put([record(b"four")])
    settle(writer, written=2, lost=4)
    disk.free = 12
    wait_until(lambda: not writer.pause)
    writer.put([record(b"five")])
    settle(writer, written=3, lost=4)
    said = capfd.readouterr().err
    assert said.count("capture: paused: 9.0 % of the disk") == 1
    assert said.count("capture: resumed") == 1


def test_disk_that_fails(begin, tmp_path, monkeypatch, capfd):
    """ENOSPC in the middle of a record: no half line, a pause, then a new try."""
    real, left = os.write, [400]

    def write(descriptor, data):
        if threading.current_thread().name != "capture" or descriptor < 3:
            return real(descriptor, data)
        if not left[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = min(left[0], len(data))
        left[0] -= taken
        return real(descriptor, data[:taken])

    monkeypatch.setattr(module.os, "write", write)
    writer, _, clock = begin()
    writer.put([record(b"one")])
    settle(writer, written=1)
    writer.put([record(b"four")])
    settle(writer, written=1, lost=1)
    assert contents(tmp_path) == [[b"one"]]
    assert "No space left on device" in writer.pause
    left[0] = 10_000
    clock.now += 5
    wait_until(lambda: not writer.pause)
    writer.put([record(b"five")])
    settle(writer, written=2, lost=1)
    assert "No space left on device" in capfd.readouterr().err


def test_folder_that_vanishes(begin, tmp_path):
    """It is made again."""
    writer, _, _ = begin()
    writer.put([record(b"one")])
    settle(writer, written=1)
    (open_file,) = open_files(tmp_path)
    open_file.unlink()
    open_file.parent.rmdir()
    writer.rotate()
    writer.put([record(b"two")])
    wait_until(lambda: writer.written + writer.lost == 2)
    assert writer.close(10)


@pytest.mark.parametrize(
    ("request_body", "encoding"),
    [
        ("ü,1\n".encode() * PIECE, Encoding.CSV),
        (b"1,2\n" * PIECE + b"\xff", Encoding.BASE64),
        (b"1,2\n" * PIECE + "ü".encode()[:1], Encoding.BASE64),
        (b"", Encoding.CSV),
    ],
)
def test_large_record(begin, tmp_path, request_body, encoding):
    """In pieces it is the line that it would be at once; a body that is not text becomes BASE64."""
    writer, _, _ = begin()
    response = os.urandom(2 * PIECE + 1)
    writer.put([record(request_body, response, ("text/csv", "application/x-npy"))])
    assert writer.close(10)
    (path,) = complete(tmp_path)
    found = Record.from_line(path.read_bytes())
    assert found.input.encoding is encoding
    assert found.input.body == request_body
    assert found.output.body == response
    assert found.to_line() == path.read_bytes()


def test_one_direction_of_a_large_record(begin, tmp_path):
    writer, _, _ = begin(mode="output")
    writer.put([record(b"1" * PIECE, b"2" * PIECE)])
    assert writer.close(10)
    found = Record.from_line(complete(tmp_path)[0].read_bytes())
    assert found.input is None
    assert found.output.body == b"2" * PIECE


def test_close_does_not_wait_for_ever(begin, tmp_path, monkeypatch):
    """A disk that hangs keeps nobody from ending; the file is completed by the next writer."""
    release = threading.Event()
    real = os.write

    def write(descriptor, data):
        if threading.current_thread().name == "capture":
            assert release.wait(20)
        return real(descriptor, data)

    monkeypatch.setattr(module.os, "write", write)
    writer, _, _ = begin()
    writer.put([record(b"one")])
    assert not writer.close(0.05)
    assert complete(tmp_path) == []
    release.set()


TIME = datetime(2022, 2, 14, 17, 25, 6, 123456, tzinfo=UTC)
KILLED = """
import sys, pathlib
from datetime import datetime, UTC
from sagemaker_byoc.serving.capture.writer import OpenFile
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
