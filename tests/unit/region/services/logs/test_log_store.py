"""Log files: what is written comes back, forward and backward, whole or not yet."""

from __future__ import annotations

import errno
import os
import threading

import pytest

from sagemaker_byoc.region.services.logs import log_store
from sagemaker_byoc.region.services.logs.log_store import Event, LastingStream, LogStore, fits


def test_an_event_comes_back_as_it_was():
    for text in ("", " ", "a b", "1 2", "two\nlines\n", "tab\tinside", "\ttab first", "é\r", '"q"'):
        event = Event(12, text)
        line = log_store.encode(event)
        assert line.count(b"\n") == 1
        assert log_store.decode(line[:-1]) == event


@pytest.mark.parametrize("line", [b"", b"x 1", b"12", b"12:a", b" 12 a"])
def test_what_is_no_event_is_refused(line):
    with pytest.raises(ValueError, match="is not an event"):
        log_store.decode(line)


@pytest.mark.parametrize("length", [0, 10, 65_520, 65_535, 65_536, 200_000])
def test_backward_is_forward_reversed(tmp_path, length):
    """With lines that end at, and reach over, the blocks that are read."""
    path = tmp_path / "log"
    events = [Event(n, f"{n} " + "x" * length) for n in range(8)]
    path.write_bytes(b"".join(map(log_store.encode, events)))
    forward = list(log_store.forward(path))
    assert [located.event for located in forward] == events
    assert list(log_store.backward(path)) == forward[::-1]
    assert list(log_store.backward(path, forward[3].start)) == forward[2::-1]
    assert list(log_store.forward(path, forward[3].end)) == forward[4:]


def test_a_line_that_is_being_written_is_left_out(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b"1 a\n2 b")
    assert [located.event.text for located in log_store.forward(path)] == ["a"]
    assert [located.event.text for located in log_store.backward(path)] == ["a"]
    path.write_bytes(b"1 a")
    assert list(log_store.backward(path)) == list(log_store.forward(path)) == []


def test_an_offset_within_an_event_is_refused(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b"11 a\n12 b\n")
    with pytest.raises(ValueError, match="byte 1"):
        list(log_store.forward(path, 1))
    with pytest.raises(ValueError, match="byte 6"):
        list(log_store.backward(path, 6))


def test_a_stream_that_is_not_there_has_no_events(tmp_path):
    store = LogStore(tmp_path)
    assert list(store.events("g", "s")) == []
    assert store.streams("g") == store.groups() == []
    assert store.facts("g", "s").last is None


def test_lines_of_many_threads_stay_whole(tmp_path):
    store = LogStore(tmp_path)
    stream = store.open("/g", "a/b")

    def write(name):
        for number in range(200):
            stream.write(f"{name} {number}\n{name} {number}")

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    stream.close()
    events = list(store.events("/g", "a/b"))
    assert len(events) == 1600
    assert {len(event.text.split()) for event in events} == {2}
    times = [event.milliseconds for event in events]
    assert times == sorted(times)
    assert store.streams("/g", "a/") == ["a/b"]


def test_names_are_files_of_this_folder_only(tmp_path):
    store = LogStore(tmp_path / "logs")
    for name in ("..", ".", "../x", "/a/../b", "%2E."):
        assert store.create_group(name)
        assert store.create_stream(name, name)
        assert not store.create_group(name)
    assert store.groups() == sorted(["..", ".", "../x", "/a/../b", "%2E."])
    assert [store.streams(group) for group in store.groups()] == [[n] for n in store.groups()]
    assert [found.name for found in tmp_path.iterdir()] == ["logs"]
    assert fits("a" * 240)
    assert not fits("/" * 100)


class Full:
    """A file on a disk that takes `room` bytes more, and then raises."""

    def __init__(self, file, room):
        self._file, self._room = file, room

    def __getattr__(self, name):
        return getattr(self._file, name)

    def write(self, data):
        taken = data[: self._room]
        self._room -= len(taken)
        if not taken:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self._file.write(taken)


def test_half_a_line_does_not_stay_on_a_full_disk(tmp_path):
    """It would run into the next, once there is room again."""
    store = LogStore(tmp_path)
    stream = store.open("g", "s")
    stream.write("whole")
    file, stream._file = stream._file, Full(stream._file, 20)
    with pytest.raises(OSError, match="No space"):
        stream.write("x" * 100)
    stream._file = Full(file, 20)
    with pytest.raises(OSError, match="No space"):
        stream.put([Event(1, "short"), Event(2, "y" * 100)])
    stream._file = file
    stream.write("after")
    stream.close()
    assert [event.text for event in store.events("g", "s")] == ["whole", "after"]


def test_lines_that_are_lost_are_counted(tmp_path, caplog):
    """One warning, then one line for all."""
    store = LogStore(tmp_path)
    stream = LastingStream(store, "g", "s")
    (tmp_path / "g").touch()
    stream.write("a")
    stream.write("b")
    (tmp_path / "g").unlink()
    stream.write("c")
    stream.close()
    stream.write("late")
    texts = [event.text for event in store.events("g", "s")]
    assert texts == ["byoc: 2 lines before this one could not be written", "c"]
    assert [record.message for record in caplog.records][1:] == [
        "the log g/s can't be written: it is closed"
    ]
    assert "the log g/s can't be written: [Errno" in caplog.records[0].message
