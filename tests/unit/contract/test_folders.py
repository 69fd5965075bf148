"""A tree that a container wrote: what is read of it, and what is left out with a line."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from sagemaker_byoc.contract import folders


@pytest.fixture
def tree(tmp_path):
    """A container's /opt/ml beside a file of the host that it must not reach."""
    (tmp_path / "secret").write_text("host")
    root = tmp_path / "ml"
    (root / "model" / "d").mkdir(parents=True)
    (root / "other").mkdir()
    (root / "other" / "o").write_text("other")
    (root / "model" / "d" / "f").write_text("inside")
    return root


def contents(tree, **more):
    """Each file's text, each folder as None, each link as its target; and the lines."""
    lines = []
    found = {}
    for entry in folders.walk(tree, "model", lines.append, **more):
        text = None if entry.file is None else os.read(entry.file, 100).decode()
        found[entry.relative] = entry.link if entry.link is not None else text
    return found, lines


@pytest.mark.parametrize(
    "target",
    ["../../secret", "/etc/passwd", "{host}/secret", "d/../../../secret", "/opt/ml/../../secret"],
)
def test_no_link_leads_outside(tree, target):
    """Relative or absolute; one line names it."""
    link = target.format(host=tree.parent)
    (tree / "model" / "leak").symlink_to(link)
    for keep in (False, True):
        found, lines = contents(tree, keep_links=keep)
        assert found == {"d": None, "d/f": "inside"}
        assert len(lines) == 1
        assert lines[0].startswith("left out: /opt/ml/model/leak because it is a link")
        assert "outside of /opt/ml" in lines[0]


def test_a_folder_that_is_a_link_outside_is_not_entered(tree):
    """Neither below the walked folder, nor as the walked folder itself."""
    (tree / "model" / "away").symlink_to(tree.parent, target_is_directory=True)
    assert contents(tree)[0] == {"d": None, "d/f": "inside"}
    (tree / "model").rename(tree / "was")
    (tree / "model").symlink_to(tree.parent, target_is_directory=True)
    found, lines = contents(tree)
    assert found == {}
    assert len(lines) == 1


def test_links_inside_are_what_they_lead_to(tree):
    """An absolute one means the container's /opt/ml, and a link to a folder its contents."""
    (tree / "model" / "abs").symlink_to("/opt/ml/other/o")
    (tree / "model" / "rel").symlink_to("d/f")
    (tree / "model" / "latest").symlink_to("d")
    found, lines = contents(tree)
    assert found["abs"] == "other"
    assert found["rel"] == found["latest/f"] == "inside"
    assert lines == []


def test_kept_links_stay_in_the_folder(tree):
    """Relative, so that they mean the same wherever they are unpacked."""
    (tree / "model" / "d" / "abs").symlink_to("/opt/ml/model/d/f")
    (tree / "model" / "d" / "up").symlink_to("../d")
    (tree / "model" / "beside").symlink_to("/opt/ml/other/o")
    found, lines = contents(tree, keep_links=True)
    assert found["d/abs"] == "f"
    assert found["d/up"] == "."
    assert "beside" not in found
    assert len(lines) == 1
    assert "/opt/ml/other/o, outside of /opt/ml/model; copy the file" in lines[0]


def test_loops_end(tree):
    """Links to themselves, to each other and to a folder above."""
    (tree / "model" / "self").symlink_to("self")
    (tree / "model" / "d" / "up").symlink_to("..")
    (tree / "model" / "none").symlink_to("gone")
    found, lines = contents(tree)
    assert found == {"d": None, "d/f": "inside"}
    assert sorted(line.split()[2] for line in lines) == [
        "/opt/ml/model/d/up",
        "/opt/ml/model/none",
        "/opt/ml/model/self",
    ]


def test_what_is_not_a_file_is_named_and_not_opened(tree, tmp_path, monkeypatch):
    """A FIFO would wait for ever."""
    os.mkfifo(tree / "model" / "fifo")
    monkeypatch.chdir(tree / "model")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        found, lines = contents(tree)
    assert [*found] == ["d", "d/f"]
    assert lines == [
        "left out: /opt/ml/model/fifo because it is a FIFO",
        "left out: /opt/ml/model/socket because it is a socket",
    ]


@pytest.mark.parametrize("other", ["link", "fifo"])
def test_what_is_exchanged_between_look_and_open_is_not_read(tree, other):
    """The look saw a file; what is there now is a link to the host's, or would wait."""
    model = tree / "model"
    (model / "x").write_text("mine")
    seen = (model / "x").lstat()
    (model / "x").unlink()
    if other == "link":
        (model / "x").symlink_to(tree.parent / "secret")
    else:
        os.mkfifo(model / "x")
    folder = os.open(model, os.O_RDONLY)
    try:
        with pytest.raises(folders.LeftOutError):
            os.close(folders.open_entry("x", folder, seen))
    finally:
        os.close(folder)


def test_bounds(tree, monkeypatch):
    """Size, depth and number; a line for each."""
    monkeypatch.setattr(folders, "LARGEST", 10)
    monkeypatch.setattr(folders, "DEEPEST", 3)
    (tree / "model" / "large").write_bytes(b"x" * 11)
    (tree / "model" / "d" / "e" / "f").mkdir(parents=True)
    found, lines = contents(tree)
    assert [*found] == ["d", "d/e", "d/f"]
    assert [line.split()[2] for line in lines] == ["/opt/ml/model/d/e/f", "/opt/ml/model/large"]
    monkeypatch.setattr(folders, "MOST_ENTRIES", 2)
    found, lines = contents(tree)
    assert len(found) == 2
    assert len(lines) == 1


def test_names_that_no_key_can_have(tree):
    """Bytes that are not UTF-8, and control characters, which a line shows harmlessly."""
    (tree / "model" / os.fsdecode(b"bad\xff\x1b[2J")).write_text("x")
    found, lines = contents(tree)
    assert [*found] == ["d", "d/f"]
    assert lines == ["left out: /opt/ml/model/bad??[2J because its name is not UTF-8"]


def test_read_takes_a_bounded_part_of_a_file_inside(tree):
    """A failure file may be anything, too."""
    assert folders.read(tree, "model/d/f", 3) == b"ins"
    assert folders.read(tree, "model/none", 3) is None
    (tree / "model" / "leak").symlink_to("../../secret")
    os.mkfifo(tree / "model" / "fifo")
    for name in ("leak", "fifo", "d"):
        with pytest.raises(folders.LeftOutError):
            folders.read(tree, f"model/{name}", 3)


def test_nothing_stays_open(tree):
    """A walk that is given up, or that leaves things out, closes what it opened."""
    (tree / "model" / "leak").symlink_to("d/../../../secret")
    before = len([*Path("/dev/fd").iterdir()])
    for _ in folders.walk(tree, "model", lambda _: None):
        break
    contents(tree)
    assert len([*Path("/dev/fd").iterdir()]) == before


def test_the_files_of_a_users_own_folder(tmp_path):
    """Each folder's files in the order asked for, then those of the folders in it."""
    (tmp_path / "d").mkdir()
    for name in ("b", "run.json", "d/f", "a"):
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to("d/f")
    (tmp_path / "folder").symlink_to("d")
    (tmp_path / "broken").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "fifo")
    lines = []
    found = folders.files(tmp_path, lambda name: (name != "run.json", name), lines.append)
    names = [path.relative_to(tmp_path).as_posix() for path in found]
    assert names == ["run.json", "a", "b", "link", "d/f"]
    assert lines == [f"{tmp_path / name} is not a file" for name in ("broken", "fifo", "loop")]


def test_a_folder_that_cannot_be_listed(tmp_path):
    lines = []
    assert [*folders.files(tmp_path / "gone", on_left=lines.append)] == []
    assert lines == [f"{tmp_path / 'gone'} can't be listed (No such file or directory)"]
