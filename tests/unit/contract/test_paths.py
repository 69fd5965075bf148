"""A user without a home or a name, as `docker run --user 1234` makes one, gets both."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from sagemaker_byoc.contract import paths
from sagemaker_byoc.contract.paths import home_variables


@pytest.fixture
def nobody(monkeypatch, tmp_path):
    """A user whom /etc/passwd does not know, and who may write below tmp_path only."""

    def unknown(uid):
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    may = os.access
    monkeypatch.setattr(
        paths.os,
        "access",
        lambda path, mode: str(path).startswith(str(tmp_path)) and may(path, mode),
    )
    return tmp_path


def test_a_home_that_can_be_written_stays(tmp_path):
    """One that is not there yet too: programs make it."""
    for place in (tmp_path, tmp_path / "not" / "yet"):
        assert home_variables({"HOME": str(place), "USER": "me"}) == {}


def test_root_needs_nothing():
    """The usual user has all, with HOME and without it."""
    if os.getuid() != 0:
        pytest.skip("this is not root")
    assert home_variables({}) == {}


@pytest.mark.parametrize("given", ["/", "/root", "/nowhere", "", "relative", "\0"])
def test_a_home_that_can_not_be_written(nobody, given):
    """The replacement is this user's own, and the same at the second start."""
    environ = {"HOME": given, "TMPDIR": str(nobody), "LOGNAME": "me"}
    found = home_variables(environ)
    assert found == {"HOME": f"{nobody}/byoc-home-{os.getuid()}"}
    assert Path(found["HOME"]).stat().st_mode & 0o777 == 0o700
    assert home_variables(environ) == found


def test_no_home_at_all(nobody):
    """Without HOME Python asks /etc/passwd, which does not know this user."""
    found = home_variables({"TMPDIR": str(nobody)})
    assert found["HOME"].startswith(str(nobody))
    assert found["USER"] == found["LOGNAME"] == f"uid-{os.getuid()}"


def test_a_folder_that_another_user_prepared_is_not_taken(nobody, monkeypatch):
    """Neither a link, nor a folder of someone else's: another place, or none."""
    (nobody / "elsewhere").mkdir()
    (nobody / f"byoc-home-{os.getuid()}").symlink_to(nobody / "elsewhere")
    assert "HOME" not in home_variables({"HOME": "/", "TMPDIR": str(nobody)})
