"""The log and the metrics that a job of `byoc train` leaves in its output folder."""

from __future__ import annotations

from sagemaker_byoc.standalone import transcript
from sagemaker_byoc.standalone.transcript import Transcript


def test_both_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(transcript, "MOST_CHARACTERS", 20)
    kept = Transcript(tmp_path)
    for number in range(9):
        kept.write(f"loss={number};")
    kept.close()
    lines = ["loss=0;", "loss=1;", "… the rest was not kept"]
    assert (tmp_path / "train.log").read_text().splitlines() == lines
    assert (tmp_path / "metrics.jsonl").read_text().startswith('{"loss": 0.0}\n')
    assert (tmp_path / "metrics.jsonl").stat().st_size < 60


def test_any_text_is_kept(tmp_path):
    """Also what is not Unicode; a value far out in a long line is not a metric."""
    kept = Transcript(tmp_path / "new")
    kept.write("\ud800 ü")
    kept.write(f"{'x' * 3000} loss=1;")
    kept.write("x=" + "1" * 200_000)
    kept.close()
    assert (tmp_path / "new/train.log").read_text().startswith("\\ud800 ü\n")
    assert not (tmp_path / "new/metrics.jsonl").exists()


def test_without_a_line_there_is_no_file(tmp_path):
    Transcript(tmp_path / "new").close()
    assert not (tmp_path / "new").exists()


def test_what_cannot_be_written_is_a_problem_and_no_error(tmp_path):
    (tmp_path / "train.log").symlink_to("/dev/full")
    kept = Transcript(tmp_path)
    kept.write("a line")
    kept.write("another")
    kept.close()
    assert kept.problem == f"{tmp_path / 'train.log'}: No space left on device"
