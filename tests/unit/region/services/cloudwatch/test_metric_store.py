"""The metric store: periods, restarts, bounds, full disks, retention."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading

import pytest

from sagemaker_byoc.region.services.cloudwatch import metric_store
from sagemaker_byoc.region.services.cloudwatch.metric import Metric
from sagemaker_byoc.region.services.cloudwatch.metric_store import MetricStore
from sagemaker_byoc.region.services.cloudwatch.summaries import Summary

NOW = 1_800_000_000 - 1_800_000_000 % 3600
LOSS = Metric.of("/aws/sagemaker/TrainingJobs", "loss", {"TrainingJobName": "job"})
DAY = 86_400


class Clock:
    def __init__(self):
        self.now = float(NOW)

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(tmp_path, clock, monkeypatch):
    """Without its thread: a test flushes."""
    monkeypatch.setattr(metric_store, "FLUSH_SECONDS", 3600.0)
    store = MetricStore(tmp_path, clock=clock)
    yield store
    store.close()


def points(store, metric=LOSS, *, period=60, **more):
    span = {"start": NOW - DAY, "end": NOW + DAY, **more}
    return [
        (point.time - NOW, point.summary.count, point.summary.total)
        for point in store.read(metric, period=period, **span)
    ]


def test_values_of_a_minute_are_one_point_before_and_after_they_are_written(store):
    for second, value in ((0, 1.0), (59, 2.0), (60, 4.0)):
        store.put(LOSS, value, NOW + second)
    expected = [(0, 2, 3.0), (60, 1, 4.0)]
    assert points(store) == expected
    assert store.flush()
    assert points(store) == expected
    store.put(LOSS, 8.0, NOW + 30)
    assert points(store) == [(0, 3, 11.0), (60, 1, 4.0)]
    assert store.flush()
    assert points(store) == [(0, 3, 11.0), (60, 1, 4.0)]
    assert points(store, period=300) == [(0, 4, 15.0)]
    assert points(store, start=NOW + 60) == [(60, 1, 4.0)]
    assert points(store, end=NOW + 60) == [(0, 3, 11.0)]


def test_a_point_begins_at_the_start_that_was_asked_for(store):
    store.put(LOSS, 1.0, NOW + 120)
    assert points(store, start=NOW + 60, period=300) == [(60, 1, 1.0)]


def test_short_periods_need_values_of_high_resolution(store):
    store.put(LOSS, 1.0, NOW + 5)
    other = Metric.of("n", "fast", {})
    store.put(other, 1.0, NOW + 5, resolution=1)
    store.put(other, 2.0, NOW + 17, resolution=1)
    assert points(store, period=10) == []
    assert points(store, other, period=10) == [(0, 1, 1.0), (10, 1, 2.0)]
    assert points(store, other, period=60) == [(0, 2, 3.0)]


def test_units_are_apart(store):
    store.put(LOSS, 1.0, NOW)
    store.put(LOSS, 2.0, NOW, unit="Seconds")
    assert points(store, unit="Seconds") == [(0, 1, 2.0)]
    assert len(points(store)) == 2
    assert store.metrics(0) == [LOSS]


def test_dimensions_are_a_set(store):
    store.put(Metric.of("n", "m", {"b": "2", "a": "1"}), 1.0)
    assert len(points(store, Metric.of("n", "m", {"a": "1", "b": "2"}))) == 1
    assert points(store, Metric.of("n", "m", {"a": "1"})) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 2.0**361])
def test_what_aws_refuses_is_left_out(store, value):
    store.put(LOSS, value)
    assert points(store) == []


@pytest.mark.parametrize("time", [float("nan"), -1.0, 1e300])
def test_impossible_times_are_left_out(store, time):
    store.put(LOSS, 1.0, time)
    assert store.metrics(0) == []


HOSTILE = ["", "\0", "\ud800", "'; DROP TABLE periods; --", "../../etc", "a\nb", "日本", "x" * 5000]


def test_names_of_any_characters_survive_a_restart(store, tmp_path):
    metrics = [Metric.of(text, text, {text: text, "a": "b"}) for text in HOSTILE]
    for metric in metrics:
        store.put(metric, 1.0, NOW)
    store.close()
    again = MetricStore(tmp_path)
    assert set(again.metrics(0)) == set(metrics)
    assert all(points(again, metric) == [(0, 1, 1.0)] for metric in metrics)
    again.close()


KILLED = """
import sys, time
from pathlib import Path
from sagemaker_byoc.region.services.cloudwatch.metric_store import MetricStore
from sagemaker_byoc.region.services.cloudwatch.metric import Metric
store = MetricStore(Path(sys.argv[1]))
metrics = [Metric.of("n", str(number), {}) for number in range(50)]
for metric in metrics:
    store.put(metric, 1.0, 60.0)
assert store.flush()
print("written", flush=True)
second = 0
while True:
    for metric in metrics:
        store.put(metric, 1.0, 120.0 + second)
    store.flush()
    second += 1
"""


def test_kill_while_writing_loses_only_what_was_not_written(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "written\n"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    store = MetricStore(tmp_path)
    for number in range(50):
        found = store.read(Metric.of("n", str(number), {}), 0, 10**9, 60)
        assert (found[0].time, found[0].summary.total) == (60, 1.0)
    store.close()


def test_a_torn_tail_loses_only_itself(tmp_path, clock):
    store = MetricStore(tmp_path, clock=clock)
    store.put(LOSS, 1.0, NOW)
    assert store.flush()
    store.put(LOSS, 2.0, NOW + 60)
    assert store.flush()
    # What the disk has when the process is killed in the middle of a write.
    copy = tmp_path / "killed"
    copy.mkdir()
    for name in ("metrics.sqlite", "metrics.sqlite-wal"):
        (copy / name).write_bytes((tmp_path / name).read_bytes())
    store.close()
    with open(copy / "metrics.sqlite-wal", "r+b") as file:
        file.truncate(file.seek(0, os.SEEK_END) - 100)
    again = MetricStore(copy, clock=clock)
    assert points(again)[0] == (0, 1, 1.0)
    again.close()


def test_a_file_that_is_not_sqlite_is_kept_aside(tmp_path, caplog):
    (tmp_path / "metrics.sqlite").write_bytes(b"not a database, but long enough" * 100)
    store = MetricStore(tmp_path)
    store.put(LOSS, 1.0)
    store.close()
    (kept,) = tmp_path.glob("metrics.sqlite.unreadable-*")
    assert kept.read_bytes().startswith(b"not a database")
    assert "begun again" in caplog.text


def test_a_file_that_can_not_be_opened_is_named(tmp_path):
    (tmp_path / "metrics.sqlite").mkdir()
    with pytest.raises(PermissionError) as found:
        MetricStore(tmp_path)
    assert found.value.filename == str(tmp_path / "metrics.sqlite")


def test_a_full_disk_keeps_values_in_memory_until_there_is_room(store, monkeypatch, caplog):
    store.put(LOSS, 1.0, NOW)
    write = store._file.write

    def full(batch):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(store._file, "write", full)
    assert not store.flush()
    store.put(LOSS, 2.0, NOW)
    assert not store.flush()
    assert points(store) == [(0, 2, 3.0)]
    assert caplog.text.count("disk is full") == 1
    monkeypatch.setattr(store._file, "write", write)
    assert store.flush()
    assert points(store) == [(0, 2, 3.0)]


def test_a_database_that_can_not_grow_loses_nothing_that_it_has(store):
    store.put(LOSS, 1.0, NOW)
    assert store.flush()
    store._file._database.execute("PRAGMA max_page_count = 1")
    many = [Metric.of("n", "x" * 200 + str(number), {}) for number in range(2000)]
    for metric in many:
        store.put(metric, 1.0, NOW)
    assert not store.flush()
    assert points(store) == [(0, 1, 1.0)]
    assert points(store, many[-1]) == [(0, 1, 1.0)]
    store._file._database.execute("PRAGMA max_page_count = 1000000")
    assert store.flush()
    assert points(store, many[-1]) == [(0, 1, 1.0)]


def test_the_number_of_metrics_is_bounded(store, monkeypatch, caplog):
    monkeypatch.setattr(metric_store, "SERIES", 3)
    for number in range(5):
        store.put(Metric.of("n", str(number), {}), 1.0)
    assert len(store.metrics(0)) == 3
    assert store.dropped == 2
    assert caplog.text.count("dropped") == 1
    store.put(Metric.of("n", "0", {}), 1.0)
    assert store.dropped == 2


def test_what_waits_for_the_disk_is_bounded(store, monkeypatch):
    monkeypatch.setattr(metric_store, "WAITING", 3)
    for minute in range(5):
        store.put(LOSS, 1.0, NOW + 60 * minute)
    assert store.dropped == 2
    store.put(LOSS, 1.0, NOW)
    assert store.dropped == 2
    assert store.flush()
    store.put(LOSS, 1.0, NOW + 300)
    assert store.dropped == 2


def test_values_after_the_end_are_dropped(store):
    store.close()
    store.put(LOSS, 1.0)
    assert not store.put_summary(LOSS, Summary())
    store.close()


def test_periods_are_joined_as_they_age(store, clock):
    store.put(LOSS, 1.0, NOW, resolution=1)
    store.put(LOSS, 2.0, NOW + 59, resolution=1)
    store.put(LOSS, 4.0, NOW + 240)
    store.put(LOSS, 8.0, NOW + 3540)
    assert store.flush()

    def at_age(seconds):
        clock.now = NOW + 3600.0 + seconds
        store.apply_retention()
        found = [points(store, period=period) for period in (1, 60, 300, 3600)]
        assert found[-1] == [(0, 4, 15.0)]
        return [len(each) for each in found]

    assert at_age(0) == [2, 3, 2, 1]
    assert at_age(3 * 3600) == [0, 3, 2, 1]
    assert at_age(15 * DAY) == [0, 0, 2, 1]
    assert at_age(63 * DAY) == [0, 0, 0, 1]
    late = points(store, period=3600)
    assert late == [(0, 4, 15.0)]
    clock.now = NOW + 456.0 * DAY
    store.apply_retention()
    assert points(store, period=3600) == []
    assert store.metrics(0) == []
    store.put(LOSS, 1.0)
    assert len(store.metrics(0)) == 1


def test_a_clock_that_goes_back_loses_nothing(store, clock):
    store.put(LOSS, 1.0)
    clock.now -= 3600
    store.put(LOSS, 2.0)
    store.apply_retention()
    assert store.flush()
    assert points(store) == [(-3600, 1, 2.0), (0, 1, 1.0)]


def test_ten_writers_lose_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(metric_store, "FLUSH_SECONDS", 0.01)
    store = MetricStore(tmp_path, clock=lambda: NOW)
    metrics = [Metric.of("n", "m", {"job": str(number)}) for number in range(10)]

    def write(metric):
        for number in range(2000):
            store.put(metric, 1.0, NOW + number)

    threads = [threading.Thread(target=write, args=(metric,)) for metric in metrics]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sums = [sum(total for *_, total in points(store, metric)) for metric in metrics]
    assert sums == [2000.0] * 10
    store.close()
    assert store.dropped == 0
