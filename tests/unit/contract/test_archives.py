"""Archives of models: what is refused in them, and of what they are made."""

from __future__ import annotations

import io
import tarfile

import pytest

from sagemaker_byoc.contract import folders
from sagemaker_byoc.contract.archives import pack, unpack
from sagemaker_byoc.contract.errors import ArchiveError


def tar_of(path, *members):
    """Members are (name, target of a link, or None for a file of one byte)."""
    with tarfile.open(path, "w:gz") as tar:
        for name, target in members:
            entry = tarfile.TarInfo(name)
            if target is None:
                entry.size = 1
                tar.addfile(entry, io.BytesIO(b"x"))
            else:
                entry.type, entry.linkname = tarfile.SYMTYPE, target
                tar.addfile(entry)
    return path


def test_nothing_is_unpacked_through_a_link(tmp_path):
    """tarfile's own filter can be led astray by long chains of links."""
    archive = tar_of(tmp_path / "a.tar.gz", ("d", "."), ("d/x", None))
    with pytest.raises(ArchiveError, match=r"goes through a link \(d/x\)"):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out" / "x").exists()


def test_what_is_unpacked_is_bounded(tmp_path, monkeypatch):
    """By number and by size."""
    archive = tar_of(tmp_path / "a.tar.gz", ("a", None), ("b", None))
    for name in ("MOST_ENTRIES", "LARGEST"):
        with monkeypatch.context() as patch:
            patch.setattr(folders, name, 1)
            with pytest.raises(ArchiveError, match="holds more than"):
                unpack(archive, tmp_path / name)


def test_a_users_folder_is_packed_whole_or_refused(tmp_path):
    """Without someone to tell it to, nothing is left out; links inside stay links."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "a").write_text("x")
    (folder / "b").symlink_to("a")
    assert pack(folder, tmp_path / "m.tar.gz")
    with tarfile.open(tmp_path / "m.tar.gz") as tar:
        assert [(member.name, member.linkname) for member in tar] == [("a", ""), ("b", "a")]
    (folder / "c").symlink_to(tmp_path / "outside")
    with pytest.raises(ArchiveError, match="can't be packed completely"):
        pack(folder, tmp_path / "n.tar.gz")
    assert not (tmp_path / "n.tar.gz").exists()
