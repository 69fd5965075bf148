import json

import pytest
import torch

from sagemaker_byoc.training.library.profiling import Profile, parse_steps


def run(profile, total=6):
    for step in range(1, total + 1):
        torch.ones(4, 4) @ torch.ones(4, 4)
        profile.step(step)
    profile.close()


def products(file):
    return sum(
        event.get("name") == "aten::mm" for event in json.loads(file.read_text())["traceEvents"]
    )


@pytest.mark.parametrize(("steps", "count"), [("1:3", 2), ("3:5", 2), ("5:99", 2)])
def test_the_steps_asked_for_are_in_the_trace(tmp_path, steps, count):
    """As in a slice; also the first, and where the program ends before the last."""
    run(Profile(steps, folder=tmp_path))
    (file,) = tmp_path.glob("*.json")
    assert products(file) == count
    assert file.name == f"steps-{steps.replace(':', '-')}-rank-0.trace.json"


@pytest.mark.parametrize("steps", [None, ""])
def test_off_writes_nothing(tmp_path, steps):
    """And never makes a profiler."""
    run(Profile(steps, folder=tmp_path / "none"))
    assert not (tmp_path / "none").exists()


def test_other_ranks_are_off(tmp_path, monkeypatch):
    """Their folder is merged with rank 0's at the end of the job."""
    monkeypatch.setenv("RANK", "3")
    run(Profile("1:3", folder=tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["10", "5:5", "0:3", "a:b", "7:3"])
def test_what_is_no_range_is_refused_at_the_start(text):
    """Not at step 10."""
    with pytest.raises(ValueError, match="10:15"):
        parse_steps(text)


def test_a_folder_that_cannot_be_written(tmp_path, caplog):
    """The trace is lost, and the training goes on."""
    (tmp_path / "file").write_text("")
    profile = Profile("1:2", folder=tmp_path / "file" / "profile")
    for step in range(4):
        profile.step(step)
    profile.close()
    assert "no profile of steps 1-2" in caplog.text
