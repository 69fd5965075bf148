"""`byoc local gc` removes what has certainly ended; what can't be looked at is left and named."""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
import time

import pytest

from sagemaker_byoc.cli.main import main
from sagemaker_byoc.contract.errors import MachineError
from sagemaker_byoc.host import owners
from sagemaker_byoc.region.containers import leftovers
from sagemaker_byoc.region.containers.leftovers import Life
from sagemaker_byoc.region.core import state_folder
from sagemaker_byoc.region.core.state_folder import StateFolder

ELSEWHERE = "another-boot/1-2-3"
OTHER_VIEW = f"{leftovers.here().partition('/')[0]}/other-view"


@pytest.fixture
def folder(tmp_path):
    """The state folder of a region that has ended."""
    made = StateFolder(tmp_path / "state")
    made.close()
    return made.path


def look(folder, *, identity=None, machine=None):
    found = state_folder.read_identity(folder) if identity is None else identity
    return leftovers.look(folder, found, machine or leftovers.here())


def test_the_lock_tells(folder):
    """The folder is certainly the region's."""
    assert look(folder) is Life.GONE
    region = StateFolder(folder)
    try:
        assert look(folder) is Life.ALIVE
        assert look(folder, machine=ELSEWHERE) is Life.ALIVE
    finally:
        region.close()
    assert look(folder, machine=OTHER_VIEW) is Life.GONE


def test_a_folder_that_is_not_there(tmp_path):
    """It is gone for the one who made it; for others it may be where they can't see it."""
    assert look(tmp_path / "no", identity="x") is Life.GONE
    for machine in (ELSEWHERE, OTHER_VIEW):
        assert look(tmp_path / "no", identity="x", machine=machine) is Life.HIDDEN


def test_a_folder_of_the_same_path_is_another(folder):
    """Every container has a /root/.local/share."""
    assert look(folder, identity="another", machine=OTHER_VIEW) is Life.HIDDEN
    assert look(folder, identity="another") is Life.GONE
    assert look(folder, identity="", machine=OTHER_VIEW) is Life.HIDDEN


def test_a_lock_of_another_kernel_is_not_seen(folder):
    """A free lock proves nothing then."""
    assert look(folder, machine=ELSEWHERE) is Life.HIDDEN


@pytest.mark.parametrize("name", ["x" * 300, "loop"])
def test_what_cannot_be_looked_at_is_not_absent(tmp_path, name):
    """Any error but "no such file" counts like another user's 0700, which root would not feel."""
    (tmp_path / "loop").symlink_to("loop")
    folder = tmp_path / name
    assert leftovers.look(folder, "x", leftovers.here()) is Life.HIDDEN
    for ask in (state_folder.is_locked, state_folder.read_identity, state_folder.read_address):
        with pytest.raises(MachineError, match="cannot determine whether a region runs"):
            ask(folder)


DOCKER = """#!/bin/sh
case "$*" in
"ps --all"*) cat {folder}/containers ;;
"network ls"*) [ ! -e {folder}/dead ] || {{ echo "Cannot connect" >&2; exit 1; }} ;;
*) echo "$*" >> {folder}/calls ;;
esac
"""


def _full(labels):
    """State folder, identity, machine; then the owner and the status, where a test says them."""
    folder, identity, machine, owner, status = [*labels, "", ""][:5]
    return status, folder, identity, machine, owner


@pytest.fixture
def gc(tmp_path, monkeypatch, capfd):
    """Run the command on an engine with these containers; its document, code, and rm's names."""
    monkeypatch.setenv("DOCKER", str(tmp_path / "docker"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "docker").write_text(DOCKER.format(folder=tmp_path))
    (tmp_path / "docker").chmod(0o755)

    def run(*words, **containers):
        found = {name: [*map(str, labels)] for name, labels in containers.items()}
        lines = ("\t".join((name, *_full(labels))) for name, labels in found.items())
        (tmp_path / "containers").write_text("".join(f"{line}\n" for line in lines))
        (tmp_path / "calls").write_text("")
        code = main(["local", "gc", "--json", *words])
        calls = (tmp_path / "calls").read_text()
        return json.loads(capfd.readouterr().out), code, calls

    return run


def test_gc_leaves_what_it_cannot_see_and_goes_on(gc, folder):
    """A region of another machine, of an older version; and the rest is removed."""
    identity = state_folder.read_identity(folder)
    document, code, calls = gc(
        gone=(folder, identity, leftovers.here()),
        far=("/elsewhere", "x", ELSEWHERE),
        old=("/nobody/knows", "", ""),
        trained=("", "", ""),
    )
    assert document["containers"] == ["gone"]
    assert calls == "rm --force --volumes gone\n"
    assert [line.split()[:2] for line in document["left"]] == [
        ["container", "far"],
        ["container", "old"],
        ["container", "trained"],
    ]
    assert code == 0


def test_containers_of_a_command_that_was_killed(gc, tmp_path, monkeypatch):
    """They go, by hand and with the next command, but for those that are kept for their results."""
    pid, _, *place = owners.me().split("/")
    dead = "/".join([pid, "1", *place])
    containers = {
        "running": ("", "", "", dead, "running"),
        "created": ("", "", "", dead, "created"),
        "kept": ("", "", "", dead, "exited"),
        "alive": ("", "", "", owners.me(), "running"),
    }
    document, _, calls = gc(**containers)
    assert document["containers"] == ["running", "created"]
    assert calls == "rm --force --volumes running created\n"
    (tmp_path / "calls").write_text("")
    assert "running, created" in leftovers.end_commands(docker_too=True)[-1]
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls == ["rm --force --volumes running", "rm --force --volumes created"]


def test_what_is_named_is_removed_all_the_same(gc):
    """And a name that nothing has is refused before anything is removed."""
    far = ("/elsewhere", "x", ELSEWHERE)
    document, _, calls = gc("--remove", "far", far=far, other=far)
    assert document["containers"] == ["far"]
    assert calls == "rm --force --volumes far\n"
    assert len(document["left"]) == 1


def test_an_engine_that_does_not_answer_is_named(gc, tmp_path, folder):
    """The folders are looked at all the same."""
    (tmp_path / "dead").touch()
    temporary = tmp_path / f"{state_folder.TEMPORARY_PREFIX}x"
    StateFolder(temporary).close()
    document, code, _ = gc(gone=(folder, state_folder.read_identity(folder), leftovers.here()))
    assert document["folders"] == [str(temporary)]
    assert document["containers"] == ["gone"]
    assert "Cannot connect" in document["problems"][0]
    assert code == 1
    assert not temporary.exists()


def test_a_temporary_folder_that_is_being_made_is_left(gc, tmp_path):
    """Between mkdtemp and the lock."""
    made = tmp_path / f"{state_folder.TEMPORARY_PREFIX}new"
    made.mkdir()
    assert gc()[0]["folders"] == []
    old = time.time() - 2 * leftovers.YOUNG
    os.utime(made, (old, old))
    assert gc()[0]["folders"] == [str(made)]


def test_the_identity_stays(tmp_path):
    """Over restarts; writing it does not give the lock up."""
    first = StateFolder(tmp_path / "s")
    try:
        with open(tmp_path / "s" / ".lock", "rb") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        found = state_folder.identity(tmp_path / "s")
    finally:
        first.close()
    StateFolder(tmp_path / "s").close()
    assert found
    assert state_folder.read_identity(tmp_path / "s") == found
