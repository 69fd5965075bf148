"""requirements.txt is installed only when asked, and never another torch."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib.metadata import version

import pytest

from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.training.supervisor.process.child import Outcome
from sagemaker_byoc.training.supervisor.program.requirements import failure, install_program


def wheel(folder, name, release, *, needs=""):
    """A wheel with one empty module."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{release}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{release}-py3-none-any.whl", "w") as file:
        file.writestr(f"{name}.py", f"version = {release!r}\n")
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {release}\n"
        metadata += f"Requires-Dist: {needs}\n" if needs else ""
        file.writestr(f"{info}/METADATA", metadata)
        file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{info}/RECORD", "")


def test_not_without_being_asked(container):
    """The file alone installs nothing."""
    container.text("print('ran')")
    (container.tree.code / "requirements.txt").write_text("no-such-package\n")
    result = container.run()
    assert (result.code, result.out) == (0, "ran\n")


@pytest.fixture
def target(container):
    """The folder into which pip installs, and from which the program imports."""
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
    """What needs another torch conflicts with a version that is named."""
    wheels = container.tree.channel("wheels")
    wheel(wheels, "torch", "1.0")
    wheel(wheels, "smallvision", "0.2", needs="torch==1.0")
    container.text("print('ran')")
    (container.tree.code / "requirements.txt").write_text("-r more.txt\n")
    (container.tree.code / "more.txt").write_text("smallvision\n")
    result = container.run()
    assert result.code == 1
    wanted = "smallvision 0.2 asks for torch==1.0"
    held = f"and this image holds torch {version('torch')}: "
    assert result.failure.startswith(f"the requirements can't be installed: {wanted}, {held}")
    assert "BYOC_REPLACE=torch when a job installs" in result.failure
    assert not target.exists()
    container.environ["BYOC_REPLACE"] = "torch"
    assert container.run().code == 0
    assert (target / "smallvision.py").exists()


@pytest.mark.parametrize(
    ("said", "cause", "hint"),
    [
        (
            "requirements: ERROR: Failed building wheel for x\n",
            "ERROR: Failed building wheel for x\n[pip exit 1]\n",
            "hint: install them when the image is built",
        ),
        (
            "error: [Errno 2] No such file or directory: 'gcc'\nrequirements: ERROR: x\n",
            "ERROR: x\n[pip exit 1]\ncompiler missing: build the image with",
            "hint: install them when the image is built",
        ),
        (
            "Temporary failure in name resolution\nrequirements: no distribution for foo==1\n",
            "no distribution for foo==1\n[pip exit 1]\nno network: the job is isolated",
            "hint: install them when the image is built",
        ),
        ("", "pip was ended", "hint: install them when the image is built"),
        ("requirements: " + "ERROR: ü" * 900, "ERROR: üERROR", "hint: install them"),
    ],
)
def test_why_pip_failed(said, cause, hint):
    """The cause and what helps, within the limit."""
    text = failure(Outcome(1, None, is_overrun=False, out="", err=said))
    assert text.startswith(f"the requirements can't be installed: {cause}")
    assert f"\n{hint}" in text
    assert len(text.encode()) <= 1024


@pytest.mark.slow
def test_password_of_an_index(container, target):
    """The password of an index in requirements.txt is in no log and no reason."""
    container.environ["PIP_RETRIES"] = "0"
    container.text("")
    (container.tree.code / "requirements.txt").write_text(
        "--index-url https://user:s3cret-word@127.0.0.1:9/simple\nno-such-package==9\n"
    )
    result = container.run()
    assert result.code == 1
    assert "no-such-package==9" in result.failure
    assert "s3cret-word" not in result.out + result.err + result.failure


def test_nothing_to_install(container, target):
    """Asked, and nothing sent: an error, not silence."""
    container.text("")
    assert container.run().code == 2


@pytest.mark.slow
# Where another test has imported distutils, looking for pip lets setuptools replace it.
@pytest.mark.filterwarnings("ignore:Setuptools is replacing distutils")
def test_package(container):
    """A folder that is a package is installed with its requirements; a formatter's is none."""
    container.text("")
    (container.tree.code / "pyproject.toml").write_text("[tool.ruff]\n")
    with pytest.raises(ContractError, match="no package to install"):
        install_program(container.job(), container.tree.code, {})
    (container.tree.code / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    command = install_program(container.job(), container.tree.code, {}).command
    assert command[-1] == "."
    assert "--no-index" not in command
    assert subprocess.run(
        [sys.executable, "-m", "pip", "--version"], check=True, capture_output=True
    )
