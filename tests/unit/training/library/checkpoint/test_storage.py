import pytest

from sagemaker_byoc.training.library.checkpoint import storage
from sagemaker_byoc.training.library.checkpoint.storage import (
    CheckpointError,
    Marker,
    Written,
)


def make(root, step, *, content=b"weights", marker_step=None):
    """A valid checkpoint of one file."""
    folder = storage.complete_folder(root, step)
    folder.mkdir(parents=True)
    (folder / "data").write_bytes(content)
    files = {"data": Written(len(content), storage.checksum(folder / "data"))}
    storage.write_marker(folder, Marker(marker_step or step, f"id-{step}", 1, files))
    return folder


def test_a_marker_survives_being_written_and_read(tmp_path):
    """What COMPLETE holds is what was put into it."""
    marker = Marker(7, "abc", 2, {"a": Written(3, 4), "b": Written(5, 6)})
    assert Marker.from_bytes(marker.to_bytes()) == marker


def test_steps_are_listed_newest_first_by_number(tmp_path):
    """10 comes before 9, and what is not a finished checkpoint is not listed."""
    for name in ("step-9", "step-10", "step-11.incomplete", "notes"):
        (tmp_path / name).mkdir()
    (tmp_path / "step-12").write_text("a file")
    assert storage.steps_in(tmp_path) == [10, 9]


def test_a_folder_that_does_not_exist_has_no_steps(tmp_path):
    """The first start of a job has nothing to resume from."""
    assert storage.steps_in(tmp_path / "none") == []


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda folder: (folder / "COMPLETE").unlink(), "no COMPLETE marker"),
        (lambda folder: (folder / "COMPLETE").write_bytes(b"{"), "can't be read"),
        (lambda folder: (folder / "COMPLETE").write_bytes(b"[]"), "can't be read"),
        (lambda folder: (folder / "COMPLETE").write_bytes(b'{"format": 9}'), "can't be read"),
        (lambda folder: (folder / "data").unlink(), "data is missing"),
        (lambda folder: (folder / "data").write_bytes(b"weig"), "data has 4 bytes"),
    ],
    ids=["no marker", "cut marker", "no object", "other format", "no file", "cut file"],
)
def test_a_spoiled_checkpoint_is_skipped_with_a_reason(tmp_path, caplog, spoil, reason):
    """Each way in which a folder can be incomplete is found, logged and survived."""
    make(tmp_path, 10)
    spoil(make(tmp_path, 20))
    assert list(storage.valid_markers(tmp_path)) == [10]
    assert reason in caplog.text
    assert "step-20" in caplog.text


def test_a_folder_under_another_step_s_name_is_not_valid(tmp_path):
    """A renamed folder must not make a run resume with the wrong step number."""
    make(tmp_path, 20, marker_step=10)
    assert storage.valid_markers(tmp_path) == {}


def test_changed_bytes_of_the_right_size_are_found(tmp_path):
    """The checksum finds what the size cannot, in the share of the files that is read."""
    folder = make(tmp_path, 10)
    marker = storage.checked_marker(folder, 10)
    assert storage.damage(folder, marker) is None
    (folder / "data").write_bytes(b"wEights")
    assert "not the bytes" in storage.damage(folder, marker)
    assert storage.damage(folder, marker, share=(1, 2)) is None


def test_retention_keeps_the_newest_and_deletes_older_ones(tmp_path):
    """The newest `keep` good ones stay; older and bad ones go."""
    for step in (10, 20, 30, 40):
        make(tmp_path, step)
    assert storage.retain(tmp_path, 40, [10, 20], keep=2) == [20, 40]
    assert storage.steps_in(tmp_path) == [40, 20]


def test_retention_never_deletes_the_newest_for_a_greater_number(tmp_path):
    """A damaged folder of a later step does not push the good one out."""
    make(tmp_path, 90)
    make(tmp_path, 10)
    assert storage.retain(tmp_path, 10, [], keep=1) == [10]
    assert storage.steps_in(tmp_path) == [90, 10]


def test_deleting_takes_the_marker_first(tmp_path, monkeypatch):
    """A kill while deleting leaves a folder that nobody takes for valid."""
    folder = make(tmp_path, 10)
    monkeypatch.setattr(storage.shutil, "rmtree", lambda *_, **__: None)
    storage.delete(folder)
    with pytest.raises(CheckpointError, match="never finished"):
        storage.checked_marker(folder, 10)


def test_every_rank_of_a_host_may_finish_the_same_folder(tmp_path):
    """The second rename finds nothing to do, and says nothing."""
    storage.incomplete_folder(tmp_path, 5).mkdir()
    storage.finish(tmp_path, 5)
    storage.finish(tmp_path, 5)
    assert storage.steps_in(tmp_path) == [5]


def test_finishing_what_is_not_there_is_an_error(tmp_path):
    """A folder that vanished is not taken for a finished one."""
    with pytest.raises(FileNotFoundError):
        storage.finish(tmp_path, 5)


def test_what_a_killed_run_left_is_deleted(tmp_path):
    """Its bytes are of no use and may fill the disk."""
    storage.incomplete_folder(tmp_path, 5).mkdir()
    make(tmp_path, 4)
    storage.delete_incomplete(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step-4"]
