"""What is missing is named with the command that adds it to the installation at hand."""

from __future__ import annotations

import json
import os
import shlex
import sys
import tomllib
from pathlib import Path

import pytest

from sagemaker_byoc.contract import installation
from sagemaker_byoc.contract.variables import INSTALLER

ROOT = Path(__file__).parents[3]
METADATA = """Metadata-Version: 2.4
Name: sagemaker-byoc
Version: 0.1.0
Requires-Dist: boto3<2,>=1.40; extra == 'cloud'
Requires-Dist: absent-package>=1; extra == 'serve'
Requires-Dist: uvloop>=0.23; (sys_platform != 'win32') and extra == 'serve'
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Install the distribution as a record says; it comes first on sys.path."""

    def install(record=None):
        info = tmp_path / "site" / "sagemaker_byoc-0.1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(METADATA)
        if record is not None:
            (info / "direct_url.json").write_text(
                record if isinstance(record, str) else json.dumps(record)
            )
        monkeypatch.syspath_prepend(str(info.parent))

    return install


def git(**more):
    return {"url": "https://host/a.git", "vcs_info": {"vcs": "git", "commit_id": "c0ffee", **more}}


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (None, ["sagemaker-byoc[cloud]"]),
        ("{not json", ["sagemaker-byoc[cloud]"]),
        ("[]", ["sagemaker-byoc[cloud]"]),
        ({"url": "file://HERE", "dir_info": {}}, ["HERE[cloud]"]),
        ({"url": "file://HERE", "dir_info": {"editable": True}}, ["-e", "HERE[cloud]"]),
        ({"url": "file://HERE/gone", "dir_info": {}}, ["boto3<2,>=1.40"]),
        (git(), ["sagemaker-byoc[cloud] @ git+https://host/a.git@c0ffee"]),
        (
            {**git(), "url": "file:///a/b"},
            ["sagemaker-byoc[cloud] @ git+file://localhost/a/b@c0ffee"],
        ),
        (git(requested_revision="v1"), ["sagemaker-byoc[cloud] @ git+https://host/a.git@v1"]),
        (
            {"url": "https://host/a.whl", "archive_info": {}},
            ["sagemaker-byoc[cloud] @ https://host/a.whl"],
        ),
    ],
)
def test_what_was_installed(record, words, installed, tmp_path):
    """A folder, a repository and an archive have no name that an index would know."""
    here = tmp_path / "my checkout"
    here.mkdir()
    text = record if record is None or isinstance(record, str) else json.dumps(record)
    installed(text and text.replace("HERE", str(here).replace(" ", "%20")))
    command = shlex.split(installation.add_extra("cloud", {INSTALLER: "pip install"}))
    assert command == ["pip", "install", *(word.replace("HERE", str(here)) for word in words)]


@pytest.mark.parametrize(
    ("file", "command"),
    [
        ("pipx_metadata.json", "pipx inject my-byoc"),
        ("uv-receipt.toml", "uv pip install --python {}/bin/python"),
        ("lib/python3.11/site-packages/pip", "{}/bin/python -m pip install"),
        ("nothing-of-them", "uv pip install --python {}/bin/python"),
    ],
)
def test_how_it_was_installed(file, command, tmp_path):
    prefix = tmp_path / "my-byoc"
    (prefix / file).mkdir(parents=True)
    if file.endswith((".json", ".toml")):
        (prefix / file).rmdir()
        (prefix / file).write_text("")
    assert installation.installer(prefix / "bin" / "python") == command.format(prefix)


def test_the_pip_of_the_shell(tmp_path, monkeypatch):
    """The short word only if it means this environment, as after `activate`."""
    (tmp_path / "lib/python3.11/site-packages/pip").mkdir(parents=True)
    folder, other = tmp_path / "bin", tmp_path / "other"
    for place in (folder, other):
        place.mkdir()
        (place / "pip").write_text("#!/bin/sh\n")
        (place / "pip").chmod(0o755)
    python = folder / "python"
    monkeypatch.setenv("PATH", os.pathsep.join([str(folder), str(other)]))
    assert installation.installer(python) == "pip install"
    monkeypatch.setenv("PATH", os.pathsep.join([str(other), str(folder)]))
    assert installation.installer(python) == f"{python} -m pip install"


def test_missing(installed):
    """What an extra asks for, without what this platform leaves out."""
    installed()
    assert "absent-package" in installation.missing("serve")
    assert installation.missing("no-such-extra") == []
    is_for_here = sys.platform != "win32"
    assert ("uvloop>=0.23" in installation.requirements("serve")) is is_for_here


@pytest.mark.parametrize(
    ("module", "package"),
    [("sklearn.svm", "scikit-learn"), ("yaml", "pyyaml"), ("pandas", "pandas")],
)
def test_a_module_of_a_program(module, package):
    """A process is never told of an image, nor an image of this machine's pip."""
    here = installation.hint_for_module(module, {INSTALLER: "pipx inject x"})
    assert f"is not installed: pipx inject x {package};" in here
    assert "image" not in here
    there = installation.hint_for_module(module, {})
    assert f"add {package} to requirements.txt" in there
    assert "install " not in there


@pytest.mark.parametrize("has_driver", [False, True])
def test_torch(has_driver, tmp_path, monkeypatch):
    """Without a driver the build for CPUs, which is a tenth of the other."""
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(installation, "DRIVER", tmp_path if has_driver else tmp_path / "none")
    command = installation.add_package("torch", {INSTALLER: "pip install"})
    assert command.startswith("pip install torch")
    assert ("whl/cpu" in command) is not has_driver


def test_the_readme_says_what_every_extra_is_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    readme = (ROOT / "README.md").read_text()
    for extra in {*project["optional-dependencies"]} - {"dev"}:
        assert f"| `{extra}` |" in readme
