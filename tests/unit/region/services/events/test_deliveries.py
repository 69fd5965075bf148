"""Deliveries: in order, tried again, bounded, and never in another target's way."""

from __future__ import annotations

import asyncio
import json
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sagemaker_byoc.region.services.events import deliveries
from sagemaker_byoc.region.services.events.deliveries import (
    UNDELIVERED_FILE,
    Deliveries,
    Delivery,
    DeliveryError,
)

SECONDS = 20


def _delivery(send: Callable[[], None], target: str = "a", **members: Any) -> Delivery:
    bounds = {"most_retries": 3, "most_seconds": 60, **members}
    return Delivery(target=target, text='{"n": 1}', send=send, **bounds)


def _live(state: Path, work: Callable[[Deliveries], None]) -> Deliveries:
    """Call `work` in a thread while deliveries are made; then close them."""
    made = Deliveries(state)

    async def live() -> None:
        made.start()
        try:
            await asyncio.to_thread(work, made)
        finally:
            await asyncio.to_thread(made.close)

    asyncio.run(live())
    return made


def _undelivered(state: Path) -> list[dict[str, str]]:
    path = state / UNDELIVERED_FILE
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(deliveries, "_LONGEST_PAUSE", 0.0)


def test_those_of_a_target_are_made_in_order(tmp_path):
    got: list[int] = []
    numbers = range(100)
    _live(
        tmp_path,
        lambda made: [made.put(_delivery(lambda n=n: got.append(n))) for n in numbers] and None,
    )
    assert got == [*numbers]


def test_a_target_that_never_answers_does_not_delay_others(tmp_path):
    freed, got = threading.Event(), queue.Queue()

    def work(made: Deliveries) -> None:
        made.put(_delivery(lambda: freed.wait(SECONDS) and None, "stuck"))
        made.put(_delivery(lambda: got.put(1), "other"))
        assert got.get(timeout=SECONDS) == 1
        freed.set()

    assert _live(tmp_path, work).undelivered == 0


def test_a_failed_delivery_is_tried_again(tmp_path):
    tries, done = [], threading.Event()

    def send() -> None:
        tries.append(1)
        if len(tries) < 3:
            raise DeliveryError("busy")
        done.set()

    def work(made: Deliveries) -> None:
        made.put(_delivery(send))
        assert done.wait(SECONDS)

    assert _live(tmp_path, work).undelivered == 0
    assert _undelivered(tmp_path) == []


@pytest.mark.parametrize(
    ("error", "bounds", "times"),
    [
        (DeliveryError("no", is_final=True), {}, 1),
        (DeliveryError("no"), {"most_retries": 2}, 3),
        (DeliveryError("no"), {"most_retries": 0}, 1),
        (DeliveryError("no"), {"most_seconds": 0}, 1),
        (RuntimeError("no"), {}, 1),
    ],
)
def test_what_is_given_up_is_counted_logged_and_kept(tmp_path, caplog, error, bounds, times):
    tries, last = [], threading.Event()

    def send() -> None:
        tries.append(1)
        if len(tries) == times:
            last.set()
        raise error

    def work(made: Deliveries) -> None:
        made.put(_delivery(send, **bounds))
        assert last.wait(SECONDS)

    assert _live(tmp_path, work).undelivered == 1
    assert len(tries) == times
    (line,) = _undelivered(tmp_path)
    assert (line["target"], line["input"]) == ("a", '{"n": 1}')
    assert "no" in line["reason"]
    assert "a did not get an event" in caplog.text
    assert "1 events were not delivered" in caplog.text


def test_those_that_wait_for_a_target_are_bounded(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(deliveries, "MOST_WAITING", 2)
    freed, began, got = threading.Event(), threading.Event(), []

    def stick() -> None:
        began.set()
        freed.wait(SECONDS)

    def work(made: Deliveries) -> None:
        made.put(_delivery(stick))
        assert began.wait(SECONDS)
        for number in range(5):
            made.put(_delivery(lambda n=number: got.append(n)))
        made.put(_delivery(freed.set, "other"))

    assert _live(tmp_path, work).undelivered == 3
    assert got == [0, 1]
    assert caplog.text.count("new ones are dropped") == 1
    reasons = [line["reason"] for line in _undelivered(tmp_path)]
    assert reasons == ["2 events wait for it"] * 3


@pytest.mark.parametrize(
    ("name", "reason"),
    [("MOST_BYTES", "wait for it"), ("MOST_BYTES_OF_ALL", "wait for all targets")],
)
def test_the_bytes_of_those_that_wait_are_bounded(tmp_path, monkeypatch, name, reason):
    monkeypatch.setattr(deliveries, name, 20)
    freed, began, got = threading.Event(), threading.Event(), []

    def stick() -> None:
        began.set()
        freed.wait(SECONDS)

    def work(made: Deliveries) -> None:
        made.put(_delivery(stick))
        assert began.wait(SECONDS)
        for number in range(4):
            made.put(_delivery(lambda n=number: got.append(n)))
        made.put(_delivery(freed.set, "other"))  # for which nothing waits

    made = _live(tmp_path, work)
    assert made.undelivered == 3
    assert got == [0]
    texts = [line["reason"] for line in _undelivered(tmp_path)]
    assert texts == [f"events of 16 bytes {reason}"] * 3
    assert made._size == 0


def test_a_delivery_keeps_its_place_until_it_is_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr(deliveries, "MOST_WAITING", 1)
    freed, began, got = threading.Event(), threading.Event(), queue.Queue()

    def fail_once() -> None:
        got.put("first")
        if not began.is_set():
            began.set()
            freed.wait(SECONDS)
            raise DeliveryError("busy")

    def work(made: Deliveries) -> None:
        made.put(_delivery(fail_once))
        assert began.wait(SECONDS)
        made.put(_delivery(lambda: got.put("second")))
        made.put(_delivery(freed.set, "other"))
        found = [got.get(timeout=SECONDS) for _ in range(3)]
        assert sorted(found) == ["first", "first", "second"]

    assert _live(tmp_path, work).undelivered == 0


def test_the_calls_of_a_destination_are_spaced(tmp_path, monkeypatch):
    """Those that come one by one too, and those of several targets together."""
    waits: list[float] = []
    got: queue.Queue[str] = queue.Queue()

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)

    def work(made: Deliveries) -> None:
        for target in ("a", "a", "b", "a"):
            made.put(_delivery(lambda: got.put(""), target, destination="d", spacing=50.0))
            got.get(timeout=SECONDS)
        made.put(_delivery(lambda: got.put(""), "c", destination="e", spacing=50.0))
        got.get(timeout=SECONDS)

    assert _live(tmp_path, work).undelivered == 0
    assert waits == pytest.approx([50.0, 100.0, 150.0], abs=SECONDS)


def test_the_end_gives_up_what_waits_for_its_time(tmp_path, monkeypatch):
    monkeypatch.setattr(deliveries, "_CLOSING_SECONDS", 0.05)
    waits: queue.Queue[float] = queue.Queue()
    reserve = Deliveries._reserve

    def reserved(made: Deliveries, delivery: Delivery) -> float:
        seconds = reserve(made, delivery)
        waits.put(seconds)
        return seconds

    monkeypatch.setattr(Deliveries, "_reserve", reserved)

    def work(made: Deliveries) -> None:
        for _ in range(3):
            made.put(_delivery(lambda: None, destination="d", spacing=50.0))
        assert waits.get(timeout=SECONDS) == 0
        assert waits.get(timeout=SECONDS) > 0

    assert _live(tmp_path, work).undelivered == 2
    assert [line["reason"] for line in _undelivered(tmp_path)] == ["the region ended"] * 2


def test_the_end_does_not_wait_for_a_stuck_target(tmp_path, monkeypatch):
    monkeypatch.setattr(deliveries, "_CLOSING_SECONDS", 0.05)
    freed, began = threading.Event(), threading.Event()

    def stick() -> None:
        began.set()
        freed.wait(SECONDS)

    def work(made: Deliveries) -> None:
        made.put(_delivery(stick))
        made.put(_delivery(stick))
        assert began.wait(SECONDS)

    made = _live(tmp_path, work)
    freed.set()
    assert made.undelivered == 2
    reasons = [line["reason"] for line in _undelivered(tmp_path)]
    assert sorted(reasons) == ["the region ended", "the region ended while it was sent"]


def test_the_end_gives_up_what_waits_for_another_try(tmp_path, monkeypatch):
    monkeypatch.setattr(deliveries, "_LONGEST_PAUSE", 50.0)
    tried = threading.Event()

    def send() -> None:
        tried.set()
        raise DeliveryError("busy")

    def work(made: Deliveries) -> None:
        made.put(_delivery(send))
        assert tried.wait(SECONDS)

    assert _live(tmp_path, work).undelivered == 1
    assert len(_undelivered(tmp_path)) == 1
