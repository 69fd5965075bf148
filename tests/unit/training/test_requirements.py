"""requirements.txt is installed only when asked, and never another torch."""

from __future__ import annotations

import subprocess
import sys
import zipfile

import pytest

from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.training.supervisor.requirements import held_versions, install_program


def wheel(folder, name, version):
    """A wheel with one empty module."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as file:
        file.writestr(f"{name}.py", f"version = {version!r}\n")
        file.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{info}/RECORD", "")


def test_torch_is_held():
    """Every part of the installed torch is in the constraints, and numpy is not."""
    held = held_versions()
    assert any(line.startswith("torch==") for line in held)
    assert not any(line.startswith("numpy") for line in held)


def test_not_without_being_asked(container):
    """The file alone installs nothing."""
    container.text("print('ran')")
    (container.tree.code / "requirements.txt").write_text("no-such-package\n")
    result = container.run()
    assert (result.code, result.out) == (0, "ran\n")


@pytest.fixture
def target(container):
    """Where pip installs instead of this environment, and where the program finds it."""
    folder = container.folder / "target"
    container.environ |= {
        "BYOC_INSTALL_REQUIREMENTS": "1",
        "PIP_TARGET": str(folder),
        "PIP_NO_CACHE_DIR": "1",
        "PYTHONPATH": str(folder),
    }
    return folder


@pytest.mark.slow
def test_wheels_of_a_channel(container, target):
    """With a channel of wheels no index is asked, as under network isolation."""
    wheel(container.tree.channel("wheels"), "smallthing", "1.5")
    container.text("import smallthing; print(smallthing.version)")
    (container.tree.code / "requirements.txt").write_text("smallthing>=1\n")
    result = container.run()
    assert result.code == 0, result.err
    assert result.out.splitlines()[-1] == "1.5"
    assert all(line.startswith("[pip] ") for line in result.out.splitlines()[:-1])


@pytest.mark.slow
def test_what_pip_says_is_the_reason(container, target):
    """A package that is not there ends the job with pip's words, before the program runs."""
    wheel(container.tree.channel("wheels"), "smallthing", "1.5")
    container.text("print('ran')")
    (container.tree.code / "requirements.txt").write_text("no-such-package==9\n")
    result = container.run()
    assert result.code == 1
    assert "ran" not in result.out.splitlines()
    assert result.failure.startswith("the requirements can't be installed: ERROR")
    assert "no-such-package==9" in result.failure


@pytest.mark.slow
def test_another_torch_is_refused(container, target):
    """A requirement for another torch is a conflict, not a replacement."""
    wheel(container.tree.channel("wheels"), "torch", "1.0")
    container.text("print('ran')")
    (container.tree.code / "requirements.txt").write_text("torch==1.0\n")
    result = container.run()
    assert result.code == 1
    assert "conflict" in result.failure
    assert not target.exists()


def test_nothing_to_install(container, target):
    """Asked, and nothing sent: an error, not silence."""
    container.text("")
    assert container.run().code == 2


@pytest.mark.slow
# Where another test has imported distutils, looking for pip lets setuptools replace it.
@pytest.mark.filterwarnings("ignore:Setuptools is replacing distutils")
def test_package(container, tmp_path):
    """A folder that is a package is installed with its requirements; a formatter's is none."""
    container.text("")
    (container.tree.code / "pyproject.toml").write_text("[tool.ruff]\n")
    with pytest.raises(ContractError, match="no package to install"):
        install_program(container.job(), container.tree.code, {}, tmp_path)
    (container.tree.code / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    command = install_program(container.job(), container.tree.code, {}, tmp_path).command
    assert command[-1] == "."
    assert "--no-index" not in command
    assert subprocess.run(
        [sys.executable, "-m", "pip", "--version"], check=True, capture_output=True
    )
