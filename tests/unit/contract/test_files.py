"""Failure file, atomic writes, archives, metric lines: the small formats of the contract."""

from __future__ import annotations

import io
import os
import re
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagemaker_byoc.contract import archives, folders
from sagemaker_byoc.contract.errors import ArchiveError, ContractError
from sagemaker_byoc.contract.files import write_atomically
from sagemaker_byoc.contract.lifecycle import clip, clip_lines, exit_code_of, write_failure
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.contract.training import runs
from sagemaker_byoc.region.containers.hosts import read_failure


@given(st.text(max_size=3000))
def test_failure_fits_sagemaker_and_is_whole_utf8(text):
    """At most 1024 bytes, never half a character, unchanged where it fits."""
    clipped = clip(text)
    data = clipped.encode()
    assert len(data) <= 1024
    if len(text.encode("utf-8", "replace")) <= 1024:
        assert clipped == text.encode("utf-8", "replace").decode()


def test_the_end_of_a_long_log_is_kept():
    """With the first line, which says what has failed."""
    lines = [f"line {number}" for number in range(500)]
    first, *rest = clip_lines("\n".join(["why", *lines])).split("\n")
    assert (first, rest) == ("why", lines[-len(rest) :])
    assert 1000 < len("\n".join([first, *rest])) <= 1024
    assert clip_lines("why\nshort") == "why\nshort"
    assert clip_lines("ü" * 1000) == clip("ü" * 1000)


def test_failure_round_trip(tmp_path):
    """What a container wrote is what SageMaker shows; nothing where it wrote nothing."""
    tree = Tree(tmp_path)
    assert read_failure(tree) is None
    write_failure(tree, "ValueError: boom\n")
    assert read_failure(tree) == "ValueError: boom"


def test_binary_failure_file_is_readable(tmp_path):
    """A program may write anything there."""
    tree = Tree(tmp_path)
    write_atomically(tree.failure, b"\xff\xfe" + b"x" * 9999)
    assert len(read_failure(tree)) == 1024


def test_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    """A full disk loses nothing and leaves no temporary file."""
    path = tmp_path / "failure"
    write_atomically(path, b"old")

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_archive_round_trip(tmp_path):
    """Contents lie at the archive's root, and come back."""
    source = tmp_path / "model"
    (source / "code").mkdir(parents=True)
    (source / "model.pt").write_bytes(b"weights")
    (source / "code" / "inference.py").write_text("x = 1")
    archive = tmp_path / "out" / "model.tar.gz"
    assert archives.pack(source, archive)
    with tarfile.open(archive) as tar:
        assert sorted(tar.getnames()) == ["code", "code/inference.py", "model.pt"]
        assert {member.uname for member in tar} == {""}
    archives.unpack(archive, tmp_path / "again")
    assert (tmp_path / "again" / "model.pt").read_bytes() == b"weights"


def test_packing_and_unpacking_say_how_far_they_are(tmp_path):
    """In bytes of the files, and in bytes of the archive; each counts once."""
    source = tmp_path / "model"
    source.mkdir()
    for name, size in (("a", 300_000), ("b", 0), ("c", 7)):
        (source / name).write_bytes(os.urandom(size))
    archive = tmp_path / "model.tar.gz"
    packed, unpacked = [], []
    entries = folders.walk(source, "", packed.append, keep_links=True)
    assert archives.pack_entries(entries, archive, packed.append)
    assert sum(packed) == 300_007
    assert len(packed) > 2
    archives.unpack(archive, tmp_path / "again", unpacked.append)
    assert sum(unpacked) == archive.stat().st_size
    assert (tmp_path / "again/a").read_bytes() == (source / "a").read_bytes()


def test_empty_folder_gives_no_archive(tmp_path):
    """SageMaker uploads none either."""
    assert not archives.pack(tmp_path / "absent", tmp_path / "model.tar.gz")
    assert list(tmp_path.iterdir()) == []


def hostile(kind):
    entry = tarfile.TarInfo({"climbs": "../../etc/evil", "absolute": "/etc/evil"}.get(kind, "link"))
    if kind == "link":
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
    if kind == "device":
        entry.type = tarfile.CHRTYPE
    return entry


@pytest.mark.parametrize("kind", ["climbs", "link", "device"])
def test_hostile_archive_is_refused(tmp_path, kind):
    """Nothing outside the folder is written, and the error says what to do."""
    archive = tmp_path / "model.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.addfile(hostile(kind), io.BytesIO())
    with pytest.raises(ArchiveError, match="relative names"):
        archives.unpack(archive, tmp_path / "model")


@pytest.mark.parametrize("cut", [0, 1, 20, 100])
def test_damaged_archive_is_refused(tmp_path, cut):
    """A truncated download is named, at whatever byte it ends."""
    whole = tmp_path / "whole.tar.gz"
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "w").write_bytes(bytes(range(256)) * 400)
    archives.pack(tmp_path / "m", whole)
    archive = tmp_path / "model.tar.gz"
    archive.write_bytes(whole.read_bytes()[:cut])
    with pytest.raises(ArchiveError, match=r"model\.tar\.gz"):
        archives.unpack(archive, tmp_path / "model")


NAMES = st.from_regex(r"\A[A-Za-z_][A-Za-z0-9_.:\-]{0,30}\Z")
NUMBERS = st.floats(width=32)


@given(st.dictionaries(NAMES, NUMBERS, min_size=1, max_size=5))
def test_metric_line_is_found_by_its_own_definition(values):
    """What is printed is parsed, and each shipped regex finds its own value and no other's."""
    line = "step 3: " + runs.format_line(values)
    parsed = runs.parse_line(line)
    assert {k: str(v) for k, v in parsed.items()} == {
        k: str(float(f"{v:.9g}")) for k, v in values.items()
    }
    for name in values:
        match = re.search(runs.definition(name)["Regex"], line)
        assert str(float(match[1])) == str(parsed[name])


@pytest.mark.parametrize("name", ["", "a b", "a=b", "1a", "ä"])
def test_bad_metric_name_is_refused(name):
    """A name that the regex could not find again is refused when it is printed."""
    with pytest.raises(ContractError, match="not a legal metric name"):
        runs.format_line({name: 1.0})


@pytest.mark.parametrize(("returncode", "code"), [(0, 0), (3, 3), (-9, 137), (-15, 143)])
def test_exit_code_of_a_child(returncode, code):
    """The program's own code; 128+n where a signal ended it."""
    assert exit_code_of(returncode) == code
