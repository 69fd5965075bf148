"""`byoc monitor`, as a person types it; S3 is a dictionary."""

from __future__ import annotations

import io
import json
import os
import threading

import pytest
from tests.unit.monitor.cases import captured, csv_text

from sagemaker_byoc.cli.commands.monitor import S3
from sagemaker_byoc.cli.main import main
from sagemaker_byoc.cli.terminal import console, failures, progress
from sagemaker_byoc.contract.capture import GroundTruth

ROWS = [[number, number / 7] for number in range(400)]
MOVED = [[number, number / 7 + 40] for number in range(400)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.csv").write_text(csv_text([["a", "b"], *ROWS]))
    (tmp_path / "same.jsonl").write_bytes(captured(ROWS))
    (tmp_path / "moved.jsonl").write_bytes(captured(MOVED))
    return tmp_path


def byoc(*words):
    return main(["monitor", *words])


def test_baseline_run_explain(folder, capsys):
    assert byoc("baseline", "data.csv", "--output", "base") == 0
    assert capsys.readouterr().out == "400 rows, 2 columns: base/constraints.json\n"
    assert byoc("run", "same.jsonl", "--baseline", "base", "--output", "out") == 0
    assert "no violation" in capsys.readouterr().out
    assert byoc("run", "moved.jsonl", "--baseline", "base", "--output", "out") == 0
    told = capsys.readouterr().out
    assert "baseline_drift_check" in told
    assert byoc("explain", "out") == 0
    assert capsys.readouterr().out == told


def test_what_is_not_compared_is_said(folder, capsys):
    """At the baseline, at the run, and in a program's document; never a bare "no violation"."""
    rows = [[f"id-{n}", "", n / 7] for n in range(1500)]
    (folder / "data.csv").write_text(csv_text([["id", "empty", "b"], *rows]))
    (folder / "same.jsonl").write_bytes(captured(rows))
    assert byoc("baseline", "data.csv", "--output", "base") == 0
    said = capsys.readouterr().err
    assert "id: more than 1,000 different values: only lengths can be compared" in said
    assert "empty: every cell is empty" in said
    words = ("run", "same.jsonl", "--baseline", "base", "--output", "out")
    assert byoc(*words) == 0
    told = capsys.readouterr().out
    assert "no violation in 1 of 3 columns; 2 not compared" in told
    assert "  empty: the baseline has no value of it" in told
    assert byoc(*words, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["columns"], found["compared"], sorted(found["not_compared"])) == (
        3,
        1,
        ["empty", "id"],
    )
    assert byoc("baseline", "data.csv", "--output", "base", "--json") == 0
    assert sorted(json.loads(capsys.readouterr().out)["warnings"]) == ["empty", "id"]


def test_fail_on_violation(folder):
    byoc("baseline", "data.csv", "--output", "base")
    words = ("--baseline", "base", "--output", "out", "--fail-on-violation")
    assert byoc("run", "same.jsonl", *words) == 0
    assert byoc("run", "moved.jsonl", *words) == 1


def test_nothing_checked_is_not_a_pass(folder, capsys):
    """For a cron job: neither 0 nor the code of a violation. Checks of types count too."""
    byoc("baseline", "data.csv", "--output", "base")
    (folder / "base" / "statistics.json").unlink()
    words = ("run", "same.jsonl", "--baseline", "base", "--output", "out")
    assert byoc(*words, "--fail-on-violation") == 0
    assert "no violation; not compared: 2 of 2 columns" in capsys.readouterr().out
    path = folder / "base" / "constraints.json"
    document = json.loads(path.read_text())
    document["monitoring_config"]["evaluate_constraints"] = "Disabled"
    path.write_text(json.dumps(document))
    assert byoc(*words) == 0
    assert byoc(*words, "--fail-on-violation") == 4
    assert "nothing was checked" in capsys.readouterr().err


def test_json(folder, capsys):
    byoc("baseline", "data.csv", "--output", "base", "--json")
    made = json.loads(capsys.readouterr().out)
    assert made["columns"] == {"a": "Integral", "b": "Fractional"}
    byoc("run", "moved.jsonl", "--baseline", "base", "--output", "out", "--json")
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == 1
    assert [each["feature_name"] for each in found["violations"]] == ["b"]
    (power,) = found["power"]
    assert power["rows"] == 400
    assert power["least_shift_found"] == 0.75


def test_since(folder, capsys):
    byoc("baseline", "data.csv", "--output", "base")
    words = ("--baseline", "base", "--output", "out")
    assert byoc("run", "same.jsonl", *words, "--since", "2026-11-23T14:00:00Z") == 0
    capsys.readouterr()
    late = ("--since", "2026-11-23T15:00:00Z")
    assert byoc("run", "same.jsonl", *words, *late, "--fail-on-violation") == failures.UNJUDGED
    told = capsys.readouterr().err
    assert "same.jsonl holds no record since 2026-11-23T15:00:00+00:00, and 400 of another" in told
    assert "neither a violation nor a pass" in told


def test_model_quality(folder, capsys):
    rows = [[n % 2, n % 2 if n % 10 else 1 - n % 2] for n in range(400)]
    (folder / "judged.csv").write_text(csv_text([["label", "guess"], *rows]))
    binary = ("--problem", "BinaryClassification", "--label", "label", "--prediction", "guess")
    assert byoc("baseline", "judged.csv", "--output", "base", *binary) == 0
    live = b"".join(captured([[1]], str(n % 2)).replace(b"event-0", b"event-%d" % n)
                    for n in range(300))  # fmt: skip
    (folder / "live.jsonl").write_bytes(live)
    truth = b"".join(GroundTruth(f"event-{n}", "1").to_line() for n in range(300))
    (folder / "truth.jsonl").write_bytes(truth)
    words = ("--baseline", "base", "--output", "out", "--ground-truth", "truth.jsonl")
    capsys.readouterr()
    assert byoc("run", "live.jsonl", *words, "--prediction", "0", "--fail-on-violation") == 1
    told = capsys.readouterr().out
    assert "accuracy: 0.5 is below the threshold 0.9" in told
    assert "1  150  150" in told.split("confusion matrix")[1]
    assert byoc("explain", "out") == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("run", "same.jsonl", "--baseline", "nowhere", "--output", "o"), "no constraints.json"),
        (("run", "nowhere", "--baseline", "base", "--output", "o"), "nowhere does not exist"),
        (("run", "same.jsonl", "--baseline", "base", "--output", "./base/"), "holds the baseline"),
        (
            ("run", "/dev/null", "--baseline", "base", "--output", "o"),
            "neither a file nor a folder",
        ),
        (("explain", "nowhere"), "holds no explanation.json"),
        (("baseline", "data.csv", "--output", "data.csv/x"), "can't be written"),
        (("baseline", "data.csv", "--output", "o", "--label", "a"), "--problem"),
        (
            ("run", "same.jsonl", "--baseline", "base", "--output", "o", "--ground-truth", "x"),
            "only model quality takes --ground-truth",
        ),
        (("run", "s3:///key", "--baseline", "base", "--output", "o"), "names no bucket"),
    ],
)
def test_refused(folder, capsys, words, told):
    byoc("baseline", "data.csv", "--output", "base")
    capsys.readouterr()
    assert byoc(*words) == 2
    said = capsys.readouterr().err
    assert told in said
    assert "fix: " in said


def test_an_explanation_that_is_none(folder, capsys):
    (folder / "explanation.json").write_text('{"violations": 7}')
    assert byoc("explain", ".") == 1
    assert "not as `byoc monitor run` writes it" in capsys.readouterr().err


class Bucket:
    """S3's three operations; two keys a page."""

    def __init__(self):
        self.objects = {}
        self.read = []

    def call(self, call):
        assert (call.service, call.parameters["Bucket"]) == ("s3", "bucket")
        return getattr(self, call.operation)(call.parameters)

    def ListObjectsV2(self, parameters):  # noqa: N802 - S3's name
        keys = sorted(key for key in self.objects if key.startswith(parameters["Prefix"]))
        start = int(parameters.get("ContinuationToken", 0))
        found = [{"Key": key, "Size": len(self.objects[key])} for key in keys[start : start + 2]]
        page = {"Contents": found}
        more = start + 2 < len(keys)
        return page | {"IsTruncated": more, "NextContinuationToken": str(start + 2)}

    def GetObject(self, parameters):  # noqa: N802
        self.read.append(parameters["Key"])
        return {"Body": io.BytesIO(self.objects[parameters["Key"]])}

    def PutObject(self, parameters):  # noqa: N802
        self.objects[parameters["Key"]] = parameters["Body"]
        return {}


def test_s3(folder, monkeypatch, capsys):
    bucket = Bucket()
    monkeypatch.setattr("sagemaker_byoc.cli.commands.monitor.S3", lambda: S3(lambda: bucket))
    for number in range(5):
        bucket.objects[f"cap/e/AllTraffic/2026/11/23/14/{number}.jsonl"] = captured(ROWS)
    bucket.objects["capture-of-another.jsonl"] = b"nonsense"
    bucket.objects["data.csv"] = (folder / "data.csv").read_bytes()
    assert byoc("baseline", "s3://bucket/data.csv", "--output", "s3://bucket/base") == 0
    words = ("--baseline", "s3://bucket/base", "--output", "s3://bucket/out")
    assert byoc("run", "s3://bucket/cap", *words) == 0
    assert "2,000 rows" in capsys.readouterr().out
    assert {key for key in bucket.objects if key.startswith("out/")} == {
        "out/constraint_violations.json",
        "out/constraints.json",
        "out/explanation.json",
        "out/report.html",
        "out/statistics.json",
    }
    assert byoc("explain", "s3://bucket/out") == 0
    capsys.readouterr()
    assert byoc("run", "s3://bucket/cap/e/AllTraffic/2026/11/23/15", *words) == failures.UNJUDGED
    assert "holds no file" in capsys.readouterr().err
    manifest = [{"prefix": "s3://bucket/cap/e/AllTraffic/2026/11/23/14/"}, "0.jsonl", "1.jsonl"]
    bucket.objects["batch/input/2026/11/23/14/x.json"] = json.dumps(manifest).encode()
    assert byoc("run", "s3://bucket/batch", *words) == 0
    assert "800 rows" in capsys.readouterr().out


def test_an_object_is_read_once(folder, monkeypatch):
    """Its first bytes tell how to read it."""
    bucket = Bucket()
    monkeypatch.setattr("sagemaker_byoc.cli.commands.monitor.S3", lambda: S3(lambda: bucket))
    bucket.objects["data.csv"] = (folder / "data.csv").read_bytes()
    assert byoc("baseline", "s3://bucket/data.csv", "--output", str(folder / "of-s3")) == 0
    assert bucket.read == ["data.csv"]
    assert json.loads((folder / "of-s3" / "statistics.json").read_text())["dataset"] == {
        "item_count": len(ROWS)
    }


class SlowBody(io.BytesIO):
    """Ends once something was said of its progress."""

    def read(self, size=-1):
        found = super().read(100)
        if not found:
            assert SAID.wait(20)
        return found


SAID = threading.Event()


def test_a_long_read_shows_how_far_it_is(folder, monkeypatch):
    """Bytes, of how many, and the rate, once it took long; nothing of objects that are not read."""
    said = []
    monkeypatch.setattr(progress, "_SILENT", 0.0)
    monkeypatch.setattr(progress, "_REPEATED", 0.01)
    monkeypatch.setattr(console, "is_interactive", lambda: False)
    monkeypatch.setattr(console, "detail", lambda text: said.append(text) or SAID.set())
    bucket = Bucket()
    bucket.objects = {"data/a.csv": b"a,b\n" + b"1,2\n" * 200, "data-of-others": b"x" * 10**6}
    bucket.GetObject = lambda at: {"Body": SlowBody(bucket.objects[at["Key"]])}
    monkeypatch.setattr("sagemaker_byoc.cli.commands.monitor.S3", lambda: S3(lambda: bucket))
    assert byoc("baseline", "s3://bucket/data", "--output", str(folder / "of-s3")) == 0
    shown = [text for text in said if text.startswith("read from S3: ")]
    assert shown
    assert all(" of 804 B" in text for text in shown[-1:])


def test_a_pipe_and_a_broken_link_among_captures(folder):
    (folder / "cap").mkdir()
    (folder / "cap" / "a.jsonl").write_bytes(captured(ROWS))
    os.mkfifo(folder / "cap" / "b.jsonl")
    (folder / "cap" / "c.jsonl").symlink_to("nowhere")
    (folder / "cap" / "loop").symlink_to(".")
    byoc("baseline", "data.csv", "--output", "base")
    assert byoc("run", "cap", "--baseline", "base", "--output", "o") == 0


def test_a_baseline_says_what_it_did_not_read(folder, capsys):
    """The rows that were left out with the reason, and what was read otherwise."""
    (folder / "x.csv").write_text("a;b\n" + "1;2\n" * 30 + "1;2;3\n")
    assert byoc("baseline", "x.csv", "--output", "o") == 0
    said = capsys.readouterr().err
    assert "1 files are separated by ';'" in said
    assert "1 of 31 lines could not be used:" in said
    assert (
        "a row has a different number of cells than there are columns (first: x.csv: 3, not 2)"
        in said
    )


def test_a_baseline_of_quality_says_what_it_did_not_judge(folder, capsys):
    (folder / "x.csv").write_text("label,guess\n" + "1,1\n0,0\n" * 30 + "?,1\n,1\n")
    words = ("--problem", "BinaryClassification", "--label", "label", "--prediction", "guess")
    assert byoc("baseline", "x.csv", "--output", "o", *words) == 0
    said = capsys.readouterr().err
    assert "1 a label is not 0 or 1 (first: row 61: '?')" in said
    assert "1 row without a label" in said
