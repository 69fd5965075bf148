"""`byoc runs` on folders as jobs leave them."""

from __future__ import annotations

import json
import tarfile

import pytest

from sagemaker_byoc.cli.main import main
from sagemaker_byoc.contract.runs import RunRecord


def make_run(folder, name, *, rate, losses, **settings):
    folder.mkdir(parents=True)
    record = RunRecord(
        name=name,
        status="Completed",
        ended=5.0,
        parameters={"rate": rate, "epochs": 3},
        **settings,
    )
    record.write(folder / "run.json")
    rows = [json.dumps({"step": n, "loss": loss}) + "\n" for n, loss in enumerate(losses)]
    (folder / "metrics.jsonl").write_text("".join(rows))


@pytest.fixture
def folder(tmp_path):
    """One run in a folder, one in an archive, one program that only printed."""
    make_run(tmp_path / "a" / "output", "first", rate=0.1, losses=[3.0, 1.0, 2.0], commit="c0ffee")
    make_run(tmp_path / "made", "second", rate=0.5, losses=[3.0, 0.5], started=1.0)
    (tmp_path / "b").mkdir()
    with tarfile.open(tmp_path / "b" / "output.tar.gz", "w:gz") as archive:
        for name in ("run.json", "metrics.jsonl"):
            archive.add(tmp_path / "made" / name, name)
            (tmp_path / "made" / name).unlink()
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "printed.log").write_text("epoch 1 loss: 4.0\nepoch 2 loss: 0.25\n")
    definitions = [{"Name": "loss", "Regex": "loss: ([0-9.]+)"}]
    (tmp_path / "c" / "metric_definitions.json").write_text(json.dumps(definitions))
    return tmp_path


def lines(capsys):
    return capsys.readouterr().out.splitlines()


def test_list(folder, capsys):
    """A row each, the oldest first, with what differs and the last metrics."""
    assert main(["runs", str(folder)]) == 0
    head, *rows = lines(capsys)
    assert head.split() == [
        "run",
        "status",
        "started",
        "(UTC)",
        "took",
        "code",
        "rate",
        "loss",
    ] or ("epochs" in head)
    assert [row.split()[0] for row in rows] == ["first", "second", "printed"]
    assert rows[0].split()[-1] == "2"
    assert rows[2].split()[-1] == "0.25"


def test_compare(folder, capsys):
    """Side by side; equal parameters are left out, the best value is there."""
    assert main(["runs", str(folder), "--compare", "second", "first"]) == 0
    rows = {line.strip().split("  ")[0]: line.split() for line in lines(capsys)}
    assert rows["rate"][1:] == ["0.5", "0.1"]
    assert "epochs" not in rows
    assert rows["best loss"][2:] == ["0.5", "1"]


def test_sort(folder, capsys):
    """By the best value of a metric."""
    assert main(["runs", str(folder), "--sort", "loss"]) == 0
    assert [row.split()[0] for row in lines(capsys)[1:]] == ["printed", "second", "first"]


def test_json(folder, capsys):
    """Everything, for programs."""
    assert main(["runs", str(folder), "--json"]) == 0
    documents = json.loads(capsys.readouterr().out)
    assert documents[0]["commit"] == "c0ffee"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--compare", "third"], "there is no run 'third'"),
        (["--sort", "accuracy"], "no run has a metric 'accuracy'"),
    ],
)
def test_wrong(folder, capsys, arguments, words):
    """What is missing, and what there is."""
    assert main(["runs", str(folder), *arguments]) == 2
    assert words in capsys.readouterr().err


def test_broken(tmp_path, capsys):
    """A file that can't be read is named; a folder that isn't there too."""
    (tmp_path / "output.tar.gz").write_bytes(b"no archive")
    assert main(["runs", str(tmp_path)]) == 2
    assert "output.tar.gz" in capsys.readouterr().err
    assert main(["runs", str(tmp_path / "none")]) == 2


def test_nothing(tmp_path, capsys):
    """Said on stderr; stdout stays empty."""
    assert main(["runs", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert "holds no run" in said.err


def test_damaged_lines(tmp_path, capsys):
    """Half a line at the end of metrics is passed over."""
    make_run(tmp_path / "x", "cut", rate=1, losses=[1.0])
    with open(tmp_path / "x" / "metrics.jsonl", "a") as file:
        file.write('{"step": 2, "lo')
    assert main(["runs", str(tmp_path)]) == 0
    assert "cut" in lines(capsys)[1]
