"""The event loop's part of capture: lines, bounds, what is dropped and said; settings."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.serving.bodies import Body
from sagemaker_byoc.serving.capture import options as settings_module
from sagemaker_byoc.serving.capture.lines import Traffic
from sagemaker_byoc.serving.capture.options import CaptureSettings, prepare
from sagemaker_byoc.serving.front import captures as module
from sagemaker_byoc.serving.front.captures import Recorder
from sagemaker_byoc.serving.settings import Settings


class Loop:
    def __init__(self):
        self.later = []

    def call_later(self, _delay, function):
        self.later.append(function)

    def run(self):
        later, self.later = self.later, []
        for function in later:
            function()


class Notes:
    """A writer that only takes notes."""

    def __init__(self):
        self.lists, self.taken, self.written, self.lost, self.pause = [], 0, 0, 0, ""

    def start(self):
        pass

    def put(self, records):
        self.lists.append(records)

    def write(self):
        self.taken += sum(record.size for records in self.lists for record in records)

    def bodies(self):
        return [[record.request.data for record in records] for records in self.lists]


class Bench:
    def __init__(self, **settings):
        self.loop, self.writer = Loop(), Notes()
        self.recorder = Recorder(CaptureSettings(folder="/nowhere", **settings), self.writer)
        self.recorder.open(self.loop)

    def record(self, request=b"1,2", response=b"0.5", kind="text/csv", **headers):
        named = {f"x-amzn-sagemaker-{key}": value for key, value in headers.items()}
        found = Traffic(Body.of(request), "text/csv", Body.of(response), kind, named)
        self.recorder.record(found)


def test_records_go_together():
    bench = Bench()
    bench.record(b"a", **{"inference-id": "i-1", "custom-attributes": "t=1"})
    bench.record(b"b")
    assert bench.writer.lists == []
    bench.loop.run()
    assert bench.writer.bodies() == [[b"a", b"b"]]
    ((first, second),) = bench.writer.lists
    assert (first.inference_id, first.custom_attributes) == ("i-1", "t=1")
    assert (second.inference_id, second.custom_attributes) == ("", "")
    assert 0 < first.time <= second.time
    bench.loop.run()
    assert len(bench.writer.lists) == 1


def test_much_does_not_wait():
    bench = Bench()
    bench.record(b"x" * module.MANY)
    assert len(bench.writer.lists) == 1
    bench.loop.run()
    assert len(bench.writer.lists) == 1


def test_full_queue_drops_and_says_so_once(capfd, monkeypatch):
    """A disk that takes nothing costs a bounded memory and never a wait."""
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    bench = Bench(queue=5000)
    for _ in range(100):
        bench.record()
    kept = 100 - bench.recorder.counts()["queue"]
    assert 0 < kept < 20
    bench.recorder.tick()
    bench.record()
    bench.recorder.tick()
    said = capfd.readouterr().err
    assert said.count("records were not written") == 1
    assert f"{100 - kept} records were not written ({100 - kept} for queue in all)" in said
    now[0] += 61
    bench.recorder.tick()
    assert "1 records were not written" in capfd.readouterr().err
    bench.loop.run()
    bench.writer.write()
    before = bench.recorder.counts()["queue"]
    bench.record()
    assert bench.recorder.counts()["queue"] == before, "there is room again"


def test_too_large_a_body_is_no_record():
    """One of the captured directions counts, the other does not."""
    bench = Bench(body=10)
    bench.record(b"x" * 11)
    assert bench.recorder.counts()["size"] == 1
    inputs = Bench(body=10, mode="input")
    inputs.record(b"x", b"y" * 11)
    assert inputs.recorder.counts()["size"] == 0


def test_sampling(monkeypatch):
    assert not Bench(percentage=0).recorder.takes()
    assert Bench(percentage=100).recorder.takes()
    draws = iter([0.1, 0.3])
    monkeypatch.setattr(module.random, "random", lambda: next(draws))
    recorder = Bench(percentage=20).recorder
    assert [recorder.takes(), recorder.takes()] == [True, False]


def test_what_redact_fn_leaves():
    """Its bodies and nothing else; or only a count."""
    bench = Bench()
    meta = {"content_type": "text/csv", "reply_type": "text/csv", "request_size": 3}
    bench.recorder.redacted({**meta, "inference_id": "i"}, Body(b"*,20.5"))
    bench.loop.run()
    ((record,),) = bench.writer.lists
    assert (record.request.data, record.response.data) == (b"*,2", b"0.5")
    assert (record.inference_id, record.custom_attributes) == ("i", "")
    for outcome in ("redaction", "skipped", "size", "never heard of"):
        bench.recorder.redacted({"outcome": outcome}, Body())
    counts = bench.recorder.counts()
    assert (counts["redaction"], counts["skipped"], counts["size"]) == (2, 1, 1)
    assert not bench.loop.later


def test_defects_do_not_reach_requests(capfd):
    """Whatever is wrong with a record: counted, said once, without its data."""
    bench = Bench()
    for _ in range(2):
        bench.recorder.redacted({"request_size": "secret"}, Body(b"secret"))
    assert bench.recorder.counts()["error"] == 2
    said = capfd.readouterr().err
    assert said.count("capture: a record failed: ValueError at") == 1
    assert "secret" not in said


def test_gauges():
    bench = Bench(body=1)
    bench.record()
    found = bench.recorder.gauges()
    assert found["capture_records_total"][1]['{outcome="size"}'] == 1
    assert found["capture_queue_bytes"][1] == {"": 0.0}


# ── settings ──


def read(**environ):
    return Settings.from_environ({"BYOC_CAPTURE": "/captures", **environ}).capture


def test_off_by_default():
    assert Settings.from_environ({}).capture is None


def test_settings_travel():
    found = read(BYOC_CAPTURE_PERCENT="12.5", BYOC_CAPTURE_CSV_TYPES="Text/CSV, text/x-own")
    assert (found.percentage, found.csv_types) == (12.5, ("text/csv", "text/x-own"))
    settings = Settings.from_environ({"BYOC_CAPTURE": "/captures"})
    assert Settings.from_json(settings.to_json()) == settings
    assert CaptureSettings.from_dict(asdict(found)) == found


@pytest.mark.parametrize(
    ("name", "value", "part"),
    [
        ("BYOC_CAPTURE_PERCENT", "101", "is 101"),
        ("BYOC_CAPTURE_PERCENT", "-1", "is '-1'"),
        ("BYOC_CAPTURE_PERCENT", "many", "is 'many'"),
        ("BYOC_CAPTURE_MODE", "all", "both, input, output"),
        ("BYOC_CAPTURE_CSV_TYPES", "text/csv; charset=utf-8", "not a media type"),
        ("BYOC_CAPTURE_JSON_TYPES", ",".join(f"a/{n}" for n in range(11)), "has 11 types"),
        ("BYOC_CAPTURE_MB", "0", "is '0'"),
        ("SAGEMAKER_MULTI_MODEL", "true", "multi-model endpoint"),
    ],
)
def test_bad_settings(name, value, part):
    """Name, value, hint."""
    with pytest.raises(ContractError) as caught:
        read(**{name: value})
    assert part in str(caught.value)
    assert caught.value.hint


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ContractError, match=r"BYOC_CAPTURE: is .*, where no file can be written"):
        prepare(CaptureSettings(folder=str(tmp_path / "file" / "captures")))
    prepare(CaptureSettings(folder=str(tmp_path / "new")))
    assert [*(tmp_path / "new").iterdir()] == []


def test_warning_at_the_start():
    """Where replies would be base64 unless a caller asks for something else."""
    settings = CaptureSettings(folder="/c")
    assert settings_module.warnings(settings, "application/json") == []
    (line,) = settings_module.warnings(settings, "application/x-npy")
    assert "BYOC_CAPTURE_JSON_TYPES" in line
    inputs = CaptureSettings(folder="/c", mode="input")
    assert settings_module.warnings(inputs, "application/x-npy") == []
