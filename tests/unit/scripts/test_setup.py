"""scripts/setup says what it does, hides pip's warnings, and continues after a failure."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
import tomllib
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PYTHON = """#!/bin/sh
# A Python of version $FAKE_VERSION, whose environments have a pip that logs its arguments.
case "$*" in
  *python_version*) echo "$FAKE_VERSION" ;;
  *version_info*) test -z "$FAKE_OLD" ;;
  *ensurepip*) test -z "$FAKE_WITHOUT_PIP" ;;
  "-m venv --clear .venv") mkdir -p .venv/bin; cp "$0" .venv/bin/python; echo venv >> calls ;;
  "-m pip --version") : ;;
  "-m pip install"*)
    shift 3
    echo "$*" >> calls
    echo "WARNING: Location 'file:///x' is ignored" >&2
    case "$*" in *"$FAKE_FAILS"*) echo "ERROR: no network" >&2; exit 1 ;; esac ;;
esac
"""


@pytest.fixture
def checkout(tmp_path):
    """A copy of what the script reads, and a Python that installs nothing."""
    (tmp_path / "scripts").mkdir()
    for name in ("scripts/setup", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)
    return tmp_path


def run(checkout, **variables):
    """Return the exit code and what was said."""
    environ = {
        "PATH": os.environ["PATH"],
        "PYTHON": str(checkout / "python"),
        "FAKE_VERSION": "3.11.9",
        "FAKE_FAILS": "nothing of this name",
        "FAKE_OLD": "",
        "FAKE_WITHOUT_PIP": "",
        **variables,
    }
    done = subprocess.run(
        [checkout / "scripts" / "setup"],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout == ""
    return done.returncode, done.stderr


def calls(checkout):
    path = checkout / "calls"
    return path.read_text().splitlines() if path.exists() else []


def test_it_says_what_it_installs(checkout):
    """In short lines where no terminal is; and the second time nothing."""
    code, said = run(checkout)
    assert code == 0
    assert "making .venv with Python 3.11.9" in said
    assert [f"{number} of 3: " in said for number in (1, 2, 3)] == [True] * 3
    assert " packages, " in said
    assert " MB)" in said
    assert "done in " in said
    assert "WARNING" not in said
    installs = calls(checkout)
    assert installs[0] == "venv"
    assert all("--quiet" in line for line in installs[1:])
    assert run(checkout) == (0, "")
    assert calls(checkout) == installs


def test_it_continues_after_a_failure(checkout):
    """pip's words are shown then, and the environment is kept."""
    code, said = run(checkout, FAKE_FAILS="torch")
    assert code == 3
    assert "ERROR: no network" in said
    assert "fix: Check the network" in said
    code, said = run(checkout)
    assert code == 0
    assert "making .venv" not in said
    assert calls(checkout).count("venv") == 1


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"PYTHON": "/nonexistent/python"}, "there is no Python at '/nonexistent/python'"),
        ({"FAKE_VERSION": "3.11.2", "FAKE_OLD": "1"}, "is Python 3.11.2, and 3.11.4 is the oldest"),
        ({"FAKE_VERSION": "3.12.1", "FAKE_WITHOUT_PIP": "1"}, "apt-get install python3.12-venv"),
    ],
)
def test_a_python_that_will_not_do(checkout, variables, words):
    code, said = run(checkout, **variables)
    assert code == 3
    assert words in said
    assert "  fix: " in said
    assert calls(checkout) == []


@pytest.mark.parametrize(("version", "is_locked"), [("3.11.9", True), ("3.12.1", False)])
def test_the_lock_of_torch_is_for_one_wheel(checkout, version, is_locked):
    """Another Python gets the same version without a hash that it can't match."""
    uname = checkout / "bin" / "uname"
    uname.parent.mkdir()
    uname.write_text('#!/bin/sh\ncase "$1" in -m) echo x86_64 ;; *) echo Linux ;; esac\n')
    uname.chmod(0o755)
    if Path("/proc/driver/nvidia/version").exists():
        pytest.skip("this machine has an NVIDIA driver: it gets torch for CUDA")
    path = f"{uname.parent}{os.pathsep}{os.environ['PATH']}"
    assert run(checkout, FAKE_VERSION=version, PATH=path)[0] == 0
    assert any("torch-cpu.txt" in line for line in calls(checkout)) is is_locked


def test_pip_refuses_an_old_python_before_it_resolves(monkeypatch):
    """The build backend's hook, without the backend: pip would search without an end."""
    interface = types.ModuleType("hatchling.metadata.plugin.interface")
    interface.MetadataHookInterface = object
    monkeypatch.setitem(sys.modules, interface.__name__, interface)
    for parent in ("hatchling", "hatchling.metadata", "hatchling.metadata.plugin"):
        monkeypatch.setitem(sys.modules, parent, types.ModuleType(parent))
    hook = runpy.run_path(str(ROOT / "hatch_build.py"))["OldestPython"]()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["hatch"]["metadata"]["hooks"] == {"custom": {}}
    hook.update(project["project"])
    monkeypatch.setattr(sys, "version_info", (3, 11, 3, "final", 0))
    with pytest.raises(SystemExit, match=r"needs Python 3\.11\.4 or newer(.|\n)*fix: "):
        hook.update(project["project"])
