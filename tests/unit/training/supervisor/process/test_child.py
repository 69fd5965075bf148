"""Each reason why a program can't be started has its own words, and what helps."""

from __future__ import annotations

import errno
import os
import resource
import shutil
from pathlib import Path

import pytest

from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.training.supervisor.process.child import Child, Program, start_error


def start(folder, *command, **environment):
    """The error of a program that can't be started."""
    with pytest.raises(ContractError) as caught:
        Child(Program(command, folder, environment))
    return str(caught.value)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a Child changes the working folder
    return tmp_path


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ETXTBSY, "open for writing"),
        (errno.ELOOP, "leads to itself"),
        (errno.ENAMETOOLONG, "too long"),
        (errno.ENOMEM, "not enough memory"),
        (errno.EAGAIN, "limit of processes.*pids-limit"),
        (errno.EMFILE, "open more files.*nofile"),
        (errno.ENFILE, "no more files"),
        (errno.EPERM, "security policy"),
        (errno.EACCES, "may not be executed"),
        (errno.ENOTDIR, "does not exist"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_every_error_has_its_own_cause(folder, number, words):
    """The file is named, then what is wrong with it, then what helps."""
    program = Program(("/x/program",), folder, {})
    error = start_error(program, OSError(number, os.strerror(number), "/x/program"))
    assert error.where == "/x/program"
    with pytest.raises(ContractError, match=words):
        raise error


def test_files_that_do_not_start(folder):
    """By the kernel itself: absent, without x bit, for another processor, without its loader."""
    assert "does not exist. Install it" in start(folder, str(folder / "absent"))
    plain = folder / "plain"
    plain.write_bytes(b"\0")
    assert "may not be executed" in start(folder, str(plain))
    plain.chmod(0o755)
    assert "is not a program that the kernel can start" in start(folder, str(plain))
    plain.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\0\xf3\0" + bytes(60))
    assert "another kind of processor" in start(folder, str(plain))
    loader = Path("/bin/true").read_bytes().replace(b"/lib64/ld-linux", b"/lib64/LD-LINUX")
    plain.write_bytes(loader)
    assert "needs a loader" in start(folder, str(plain))
    (folder / "loop").symlink_to("loop")
    assert "leads to itself" in start(folder, str(folder / "loop"))


def test_program_that_is_still_written(folder):
    """A file that is open for writing can't be executed."""
    shutil.copy("/bin/true", folder / "busy")
    with open(folder / "busy", "ab"):
        assert "still open for writing" in start(folder, str(folder / "busy"))


def test_folder_that_is_not_there(folder):
    """The folder is named, and not the program."""
    gone = folder / "gone"
    assert start(gone, "/bin/true").startswith(f"{gone}: can't be made the working folder")


def test_characters(folder):
    """The argument or the variable is named, and Python's own words are not shown."""
    assert start(folder, "/bin/true", "--a", "x\0y").startswith("argument 2 ('x\\x00y'): holds")
    assert start(folder, "/bin/true", "\ud800").startswith("argument 1 ('\\ud800'): holds")
    assert start(folder, "/bin/true", X="\0").startswith("variable 'X': holds")
    assert start(folder, "/bin/true", **{"a=b": ""}).startswith("variable 'a=b': holds")


def test_too_long(folder):
    """The longest argument is named, by its option if it has one."""
    long = "x" * 140_000
    assert start(folder, "/bin/true", "--big", long).startswith("argument '--big': is the longest")
    assert start(folder, "/bin/true", f"--a={long}").startswith("argument '--a=xxx")


def test_too_many_files(folder):
    """The pipes of a child count, and none stays open after the failure."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = len(list(Path("/dev/fd").iterdir()))
    os.close(lowest := os.dup(0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + 3, hard))
    try:
        words = start(folder, "/bin/true")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert "may not open more files" in words
    assert len(list(Path("/dev/fd").iterdir())) == before
