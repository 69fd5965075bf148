"""The stream of `docker cp`, taken into a folder of the host."""

from __future__ import annotations

import io
import os
import tarfile

import pytest

from sagemaker_byoc.contract import folders
from sagemaker_byoc.region.engines.copying import Receiver


@pytest.fixture
def receive(tmp_path):
    """Take members (name, kind, content or target) as /opt/ml/x; returns the lines."""
    target = tmp_path / "x"

    def take(*members, prune=True, cut=0):
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as tar:
            for name, kind, content in members:
                entry = tarfile.TarInfo(name)
                entry.type, entry.mtime = kind, 1000
                if kind == tarfile.REGTYPE:
                    entry.size = len(content)
                    tar.addfile(entry, io.BytesIO(content))
                else:
                    entry.linkname = content
                    tar.addfile(entry)
        data = stream.getvalue()
        lines = []
        receiver = Receiver(target, "/opt/ml/x", lines.append)
        receiver.receive(io.BytesIO(data[: len(data) - cut]))
        if prune:
            receiver.prune()
        return lines

    take.target = target
    return take


def file(name, data):
    return (name, tarfile.REGTYPE, data)


def link(name, to):
    return (name, tarfile.SYMTYPE, to)


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_link_that_becomes_a_folder_loses_nothing(receive):
    """And back again; what comes after it arrives, and what is gone goes."""
    receive(file("s1/a", b"1"), link("latest", "s1"), file("z", b"z"))
    assert receive(file("s1/a", b"1"), file("latest/b", b"2"), file("z2", b"z")) == []
    assert names(receive.target) == ["latest", "latest/b", "s1", "s1/a", "z2"]
    assert not (receive.target / "latest").is_symlink()
    receive(file("s1/a", b"1"), link("latest", "s1"))
    assert (receive.target / "latest").is_symlink()
    assert names(receive.target) == ["latest", "s1", "s1/a"]


def test_nothing_is_written_through_a_link(receive, tmp_path):
    """Neither one of this stream, nor one of an earlier; nor up and out."""
    (tmp_path / "host").mkdir()
    lines = receive(
        link("d", str(tmp_path / "host")),
        file("d/evil", b"x"),
        link("f", str(tmp_path / "host" / "f")),
        file("f", b"x"),
        file("../up", b"x"),
        ("h", tarfile.LNKTYPE, "../../etc/passwd"),
    )
    assert [*(tmp_path / "host").iterdir()] == []
    assert not (tmp_path / "up").exists()
    assert (receive.target / "d" / "evil").read_bytes() == b"x"
    assert [line.split()[2] for line in lines] == ["/opt/ml/x/../up", "/opt/ml/x/h"]


def test_devices_and_fifos_are_left_out_and_hard_links_taken(receive):
    """As the container saw them."""
    lines = receive(
        file("./a", b"x"),
        ("./b", tarfile.LNKTYPE, "./a"),
        ("./c", tarfile.CHRTYPE, ""),
        ("./p", tarfile.FIFOTYPE, ""),
    )
    assert names(receive.target) == ["a", "b"]
    assert (receive.target / "b").read_bytes() == b"x"
    assert ["a device" in lines[0], "a FIFO" in lines[1], len(lines)] == [True, True, 2]


def test_a_file_that_changed_within_its_second_is_seen_to_change(receive):
    """Docker's times have whole seconds; one that stayed the same keeps time and inode."""
    receive(file("a", b"12345"), file("same", b"s"))
    before = {name: (receive.target / name).stat() for name in ("a", "same")}
    receive(file("a", b"12x45"), file("same", b"s"))
    assert (receive.target / "a").read_bytes() == b"12x45"
    assert (receive.target / "a").stat().st_mtime_ns != before["a"].st_mtime_ns
    assert os.path.samestat((receive.target / "same").stat(), before["same"])


def test_a_stream_that_ends_too_early_is_an_error(receive):
    """And nothing that had come before is removed for it."""
    receive(file("old", b"x"))
    with pytest.raises(tarfile.TarError):
        receive(file("a", b"x" * 5000), cut=9000)
    assert (receive.target / "old").exists()


def test_a_tree_that_is_too_deep_is_named_once(receive):
    deep = ["/".join(["d"] * depth) for depth in range(1, folders.DEEPEST + 20)]
    lines = receive(*[(name, tarfile.DIRTYPE, "") for name in deep], ("f", tarfile.REGTYPE, b"x"))
    assert len(lines) == 1
    assert f"more than {folders.DEEPEST} folders deep" in lines[0]
    assert (receive.target / "f").read_bytes() == b"x"
