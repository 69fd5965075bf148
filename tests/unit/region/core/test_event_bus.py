"""The bus: order, envelope, file, and what goes wrong beside it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sagemaker_byoc.region.core import event_bus
from sagemaker_byoc.region.core.account import Account
from sagemaker_byoc.region.core.event_bus import EVENTS_FILE, Event, EventBus

ACCOUNT = Account()
SECONDS = 20


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[EventBus]:
    bus = EventBus(tmp_path, ACCOUNT)
    yield bus
    bus.close()


def _event(number: int = 0, **members: object) -> Event:
    return Event(detail_type="Test", detail={"number": number}, **members)


def _numbers(path: Path) -> list[int]:
    return [json.loads(line)["detail"]["number"] for line in path.read_text().splitlines()]


def test_envelope_is_that_of_aws() -> None:
    time = datetime(2026, 11, 30, 12, 0, 5, 999_000, UTC)
    event = _event(7, resources=("arn:a",), time=time, id="i")
    assert event.document(ACCOUNT) == {
        "version": "0",
        "id": "i",
        "detail-type": "Test",
        "source": "aws.sagemaker",
        "account": "000000000000",
        "time": "2026-11-30T12:00:05Z",
        "region": "us-east-1",
        "resources": ["arn:a"],
        "detail": {"number": 7},
    }


def test_events_reach_file_and_listeners_in_order(bus: EventBus, tmp_path: Path) -> None:
    seen: list[Event] = []
    bus.listen(seen.append)
    events = [_event(number) for number in range(1000)]
    bus.publish(events[0])
    bus.start()
    for event in events[1:]:
        bus.publish(event)
    bus.close()
    assert seen == events
    assert _numbers(tmp_path / EVENTS_FILE) == list(range(1000))
    assert (tmp_path / EVENTS_FILE).stat().st_mode & 0o777 == 0o600


def test_a_listener_that_fails_affects_no_other(bus: EventBus) -> None:
    seen: list[int] = []

    def fail(event: Event) -> None:
        raise RuntimeError("bad")

    bus.listen(fail)
    bus.listen(lambda event: seen.append(event.detail["number"]))
    bus.start()
    bus.publish(_event(1))
    bus.publish(_event(2))
    bus.close()
    assert seen == [1, 2]


def test_a_removed_listener_is_not_called(bus: EventBus) -> None:
    seen: list[Event] = []
    remove = bus.listen(seen.append)
    remove()
    remove()
    bus.start()
    bus.publish(_event())
    bus.close()
    assert not seen


def test_a_full_queue_drops_and_counts(
    bus: EventBus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(event_bus, "MOST_QUEUED", 2)
    assert [bus.publish(_event(number)) for number in range(5)] == [True] * 2 + [False] * 3
    assert bus.dropped == 3
    assert sum("are dropped" in record.message for record in caplog.records) == 1


def test_the_bytes_of_what_waits_are_bounded(
    bus: EventBus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_bus, "MOST_BYTES", 100)
    for number in range(3):
        bus.publish(_event(number, size=50))
    bus.publish(_event(3))
    assert bus.dropped == 1
    bus.start()
    bus.close()
    assert _numbers(tmp_path / EVENTS_FILE) == [0, 1, 3]
    assert bus._bytes == 0


def test_close_does_not_wait_for_a_stuck_listener(
    bus: EventBus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(event_bus, "_CLOSING_SECONDS", 0.05)
    freed, reached = threading.Event(), threading.Event()

    def stick(event: Event) -> None:
        reached.set()
        freed.wait(SECONDS)

    bus.listen(stick)
    bus.start()
    bus.publish(_event(1))
    assert reached.wait(SECONDS)
    bus.publish(_event(2))
    bus.close()
    freed.set()
    assert "were not delivered" in caplog.text


def test_a_file_that_cannot_be_written_is_logged_once(
    bus: EventBus, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "events").write_text("not a folder")
    seen: list[Event] = []
    bus.listen(seen.append)
    bus.start()
    for number in range(3 * event_bus._BATCH):
        bus.publish(_event(number))
    bus.close()
    assert len(seen) == 3 * event_bus._BATCH
    assert sum("can't be written" in record.message for record in caplog.records) == 1


def test_a_half_written_batch_is_taken_back(
    bus: EventBus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = event_bus.os.write
    writes = 0

    def full(descriptor: int, data: bytes) -> int:
        nonlocal writes
        writes += 1
        if writes == 2:
            return write(descriptor, bytes(data)[:10])
        if writes == 3:
            raise OSError(28, "No space left on device")
        return write(descriptor, data)

    file = event_bus.LineFile(tmp_path / "lines")
    monkeypatch.setattr(event_bus.os, "write", full)
    for line in (b"first line\n", b"second line\n", b"third line\n"):
        file.append(line)
    file.close()
    assert (tmp_path / "lines").read_bytes() == b"first line\nthird line\n"


def test_half_a_line_of_a_former_life_is_ended(bus: EventBus, tmp_path: Path) -> None:
    path = tmp_path / EVENTS_FILE
    path.parent.mkdir()
    path.write_text('{"id": "cut')
    bus.start()
    bus.publish(_event(1))
    bus.close()
    assert path.read_text().splitlines()[0] == '{"id": "cut'
    assert json.loads(path.read_text().splitlines()[1])["detail"] == {"number": 1}


def test_a_large_file_is_replaced_and_one_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_bus, "FILE_BYTES", 30)
    file = event_bus.LineFile(tmp_path / "lines")
    for number in range(8):
        file.append(b"line number %d\n" % number)
    file.close()
    assert (tmp_path / "lines").read_bytes() == b"line number 6\nline number 7\n"
    assert (tmp_path / "lines.1").read_bytes() == b"line number 4\nline number 5\n"


def test_a_detail_that_is_not_json_is_left_out_of_the_file(bus: EventBus, tmp_path: Path) -> None:
    loop: dict[str, object] = {}
    loop["loop"] = loop
    bus.start()
    bus.publish(Event(detail_type="Test", detail=loop))
    bus.publish(_event(1))
    bus.close()
    assert _numbers(tmp_path / EVENTS_FILE) == [1]
