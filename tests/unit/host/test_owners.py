"""Temporary folders of processes that have ended are found, and no others."""

from __future__ import annotations

import tempfile

from sagemaker_byoc.host import owners


def test_folders_of_the_dead(tmp_path, monkeypatch):
    """Not those of this process, of another kernel, of no process, or behind a link."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    mine = owners.make_folder("check")
    pid, _, *place = owners.me().split("/")
    dead = owners.as_name("/".join([pid, "1", *place]))
    elsewhere = owners.as_name("/".join([pid, "1", place[0], "0-0"]))
    for name in (f"build-{dead}-x", f"check-{elsewhere}-x", "check--x", f"build-{dead}", "local"):
        (tmp_path / f"byoc-{name}").mkdir()
    (tmp_path / f"byoc-command-{dead}-y").symlink_to(tmp_path / "byoc-local")
    assert [path.name for path in owners.dead_folders()] == [f"byoc-build-{dead}-x"]
    assert mine.is_dir()
