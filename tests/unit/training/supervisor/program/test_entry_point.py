"""The user's program is found where it lies, and what was sent wins over what is in the image."""

from __future__ import annotations

import builtins
import os
import sys
import tarfile
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.training.supervisor.program.entry_point import command, find_entry, source_file
from sagemaker_byoc.training.supervisor.program.source import find_source


def fill(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    return folder


@pytest.fixture
def environ(container, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(container.folder))
    return {"BYOC_PROGRAM_DIR": str(container.folder / "baked")}


def test_sent_code_wins(container, environ):
    """In order: the named folder, the code channel, /opt/ml/code, the image."""
    baked = fill(container.folder / "baked", "train.py")
    assert find_source(container.job(), environ).folder == baked
    code = fill(container.tree.code, "train.py")
    found = find_source(container.job(), environ)
    assert found.folder == code
    assert found.passed_over == (f"{baked} (in the image)",)
    channel = fill(container.tree.channel("code"), "train.py")
    assert find_source(container.job(), environ).folder == channel
    named = fill(container.folder / "named", "train.py")
    container.config("hyperparameters", {"sagemaker_submit_directory": f'"file://{named}"'})
    found = find_source(container.job(), environ)
    assert found.folder == named
    assert len(found.passed_over) == 3


def test_hidden_files_are_no_code(container, environ):
    """A folder with nothing but leftovers does not hide the program in the image."""
    fill(container.tree.code, ".DS_Store")
    (container.tree.code / "__pycache__").mkdir()
    baked = fill(container.folder / "baked", "train.py")
    assert find_source(container.job(), environ).folder == baked


def test_nothing_anywhere(container, environ):
    """The error names every place that was looked at."""
    with pytest.raises(ContractError) as caught:
        find_source(container.job(), environ)
    for place in (container.tree.code, container.tree.channel("code"), container.folder / "baked"):
        assert str(place) in str(caught.value)


def test_named_place_that_is_not_there(container, environ):
    """An explicit place is never replaced by another behind the user's back."""
    fill(container.tree.code, "train.py")
    environ["SAGEMAKER_SUBMIT_DIRECTORY"] = "/nowhere/at/all"
    with pytest.raises(ContractError, match="/nowhere/at/all"):
        find_source(container.job(), environ)


def test_archive_is_unpacked(container, environ):
    """A local .tar.gz becomes a folder."""
    fill(container.folder / "made", "train.py")
    archive = container.folder / "code.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(container.folder / "made" / "train.py", "train.py")
    environ["SAGEMAKER_SUBMIT_DIRECTORY"] = str(archive)
    found = find_source(container.job(), environ)
    assert [path.name for path in found.folder.iterdir()] == ["train.py"]


def test_archive_that_climbs_out_is_refused(container, environ):
    """No member of an archive is written outside its folder."""
    archive = container.folder / "code.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(__file__, "../../climbed.py")
    environ["SAGEMAKER_SUBMIT_DIRECTORY"] = str(archive)
    with pytest.raises(ContractError, match=r"climbed\.py"):
        find_source(container.job(), environ)


def test_s3_without_the_toolkit(container, environ, monkeypatch):
    """Code in S3 needs sagemaker-training or botocore, and the error says so."""
    original = builtins.__import__

    def refuse(name, *rest):
        if name.startswith(("sagemaker_training", "botocore")):
            raise ImportError(name)
        return original(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    environ["SAGEMAKER_SUBMIT_DIRECTORY"] = "s3://bucket/sourcedir.tar.gz"
    with pytest.raises(ContractError, match="channel named 'code'"):
        find_source(container.job(), environ)


def test_code_from_s3(container, environ, monkeypatch):
    """sagemaker-training fetches into a fresh folder; what it raises becomes our error."""

    def download_and_extract(uri, path):
        if uri != "s3://bucket/good.tar.gz":
            raise OSError("404")
        fill(Path(path), "train.py")

    files = SimpleNamespace(download_and_extract=download_and_extract)
    monkeypatch.setitem(sys.modules, "sagemaker_training", SimpleNamespace(files=files))
    environ["SAGEMAKER_SUBMIT_DIRECTORY"] = "s3://bucket/good.tar.gz"
    assert (find_source(container.job(), environ).folder / "train.py").is_file()
    environ["SAGEMAKER_SUBMIT_DIRECTORY"] = "s3://bucket/bad.tar.gz"
    with pytest.raises(ContractError, match=r"OSError: 404.*EnableNetworkIsolation"):
        find_source(container.job(), environ)


def test_archive_with_a_leading_dot(container, environ):
    """`tar -C folder .` names its members ./train.py."""
    made = fill(container.folder / "made", "train.py", "pkg/other.py")
    archive = container.folder / "code.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(made, ".")
    environ["SAGEMAKER_SUBMIT_DIRECTORY"] = f"file://{archive}"
    folder = find_source(container.job(), environ).folder
    assert sorted(path.name for path in folder.iterdir()) == ["pkg", "train.py"]
    assert find_entry(container.job(), environ, folder) == "train.py"


@pytest.mark.parametrize(
    ("names", "entry"),
    [
        (["other.py", "train.py", "train.sh"], "train.py"),
        (["other.py", "train.sh"], "train.sh"),
        (["only.py", "README.md"], "only.py"),
        (["main.py", "._main.py"], "main.py"),
        (["main.py", "__init__.py", "setup.py", "conftest.py"], "main.py"),
        (["fit.py", "inference.py"], "fit.py"),
        (["main.py", "test_main.py", "main_test.py"], "main.py"),
        (["__main__.py", "other.py", "third.py"], "__main__.py"),
        (["setup.py", "pkg/__init__.py", "pkg/__main__.py"], "-m pkg"),
        (["pyproject.toml", "src/pkg/__main__.py", "src/pkg/train.py"], "-m pkg"),
    ],
)
def test_usual_entry(container, names, entry):
    """train.py, then train.sh, then the only Python file that can be one, or the only package."""
    assert find_entry(container.job(), {}, fill(container.tree.code, *names)) == entry


@pytest.mark.parametrize(
    "names",
    [["a.py", "b.py"], ["notes.md"], ["setup.py"], ["a/__main__.py", "b/__main__.py"]],
)
def test_no_entry(container, names):
    """If several programs are possible, the error lists them and says how to name one."""
    with pytest.raises(ContractError) as caught:
        find_entry(container.job(), {}, fill(container.tree.code, *names))
    assert all(name.partition("/")[0] in str(caught.value) for name in names)
    assert "sagemaker_program" in str(caught.value)


def test_named_entry(container):
    """The hyperparameter wins over the variable, in a subfolder too, absolute or not."""
    code = fill(container.tree.code, "train.py")
    fill(code / "deep", "run.py")
    variable = {"SAGEMAKER_PROGRAM": str(code / "deep" / "run.py")}
    assert find_entry(container.job(), variable, code) == "deep/run.py"
    container.config("hyperparameters", {"sagemaker_program": '"train.py"'})
    assert find_entry(container.job(), variable, code) == "train.py"


@pytest.mark.parametrize("name", ["../outside.py", "/etc/passwd", "deep/../../outside.py"])
def test_entry_stays_inside(container, name):
    """The program is a file of the source folder."""
    code = fill(container.tree.code, "train.py")
    fill(container.tree.root, "outside.py")
    with pytest.raises(ContractError, match="outside the source folder"):
        find_entry(container.job(), {"SAGEMAKER_PROGRAM": name}, code)


def test_entry_that_is_missing(container):
    """The error lists what is there instead."""
    code = fill(container.tree.code, "trian.py")
    with pytest.raises(ContractError, match=r"trian\.py"):
        find_entry(container.job(), {"SAGEMAKER_PROGRAM": "train.py"}, code)


@pytest.mark.parametrize(
    ("names", "program", "meant"),
    [
        (["mycode/train.py"], None, "mycode/train.py"),
        (["mycode/train.py"], "train.py", "mycode/train.py"),
        (["src/pkg/Main.py"], "main.py", "src/pkg/Main.py"),
        (["setup.py", "pkg/__init__.py", "pkg/train.py"], None, "pkg/train.py"),
    ],
)
def test_entry_one_level_down(container, names, program, meant):
    """An archive with a folder at its top, or another spelling: the error names the file."""
    code = fill(container.tree.code, *names)
    with pytest.raises(ContractError, match=f"Did you mean '{meant}'"):
        find_entry(container.job(), {"SAGEMAKER_PROGRAM": program} if program else {}, code)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("pkg", "is a folder without __main__"),
        ("broken.py", "is a link that leads nowhere"),
        ("loop.py", "is a link that leads nowhere"),
    ],
)
def test_entry_that_is_no_file(container, name, words):
    """What is there and can't run is not said to be missing."""
    code = fill(container.tree.code, "train.py", "pkg/other.py")
    (code / "broken.py").symlink_to("nowhere.py")
    (code / "loop.py").symlink_to("loop.py")
    with pytest.raises(ContractError, match=words):
        find_entry(container.job(), {"SAGEMAKER_PROGRAM": name}, code)


@pytest.mark.parametrize("linked", [False, True])
def test_absolute_entry_of_a_linked_folder(container, linked):
    """An absolute path is inside, by the folder's name or by the target of a link to it."""
    real = fill(container.folder / "real", "deep/run.py")
    code = container.tree.code
    code.symlink_to(real)
    name = str((code if linked else real) / "deep" / "run.py")
    assert find_entry(container.job(), {"SAGEMAKER_PROGRAM": f" {name}\n"}, code) == "deep/run.py"


SHEBANG = "#!/usr/bin/env -S sh -e\n"


@pytest.mark.parametrize(
    ("name", "content", "begins"),
    [
        ("a.py", "", [sys.executable]),
        ("A.PY", "", [sys.executable]),
        ("crlf.py", "print()\r\n", [sys.executable]),
        ("a b é.pyc", "", [sys.executable]),
        ("tool", "#!/bin/sh\n", ["/bin/sh"]),
        ("tool", "#! /usr/bin/env  python3 \n", ["/usr/bin/env", "python3"]),
        ("tool.rb", SHEBANG, ["/usr/bin/env", "-S sh -e"]),
        ("binary", "\x7fELF", []),
    ],
)
def test_commands(container, name, content, begins):
    """Python for .py, the interpreter of the first line (#!), else the file itself.

    Neither needs an x bit: archives and S3 lose it.
    """
    code = fill(container.tree.code)
    (code / name).write_bytes(content.encode("latin1"))
    assert command(code, name) == (*begins, str(code / name))
    assert os.access(code / name, os.X_OK) == (not begins)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "echo a\n",
        "cat <<X\na\r\nX\n",
        "cat <<-'X' <<\"Y\"\na\r\n\tX\nb\r\nY\necho c\n",
    ],
)
def test_shell_commands(container, content):
    """A shell for .sh; a here-document may hold carriage returns."""
    code = fill(container.tree.code)
    (code / "b.sh").write_bytes(content.encode())
    assert Path(command(code, "b.sh")[0]).name in {"bash", "sh"}


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.sh", b"set -e\r\nfalse\r\n", "end with a carriage return.*sed -i"),
        ("a.sh", b"set -e\nfalse\r\n", "end with a carriage return"),
        ("a.sh", b"set -e\rfalse\r", "end with a carriage return"),
        ("a.sh", b"cat <<X\na\r\nX\nfalse\r\n", "end with a carriage return"),
        ("a.sh", b"echo $((1 << x))\nfalse\r\n", "end with a carriage return"),
        ("a.sh", b"cat <<< x\nfalse\r\nx\n", "end with a carriage return"),
        ("a.sh", b"cat <<X\r\na\r\nX\r\n", "end with a carriage return"),
        ("a.sh", b"\xef\xbb\xbf#!/bin/sh\n", "byte order mark"),
        ("a.sh", "echo".encode("utf-16"), "byte order mark"),
        ("tool", b"#!/bin/sh\r\n", "carriage return"),
        ("tool", b"\xef\xbb\xbf#!/bin/sh\n", "byte order mark"),
        ("tool", b"#!\n", "an interpreter that is not here"),
        ("tool", b"#!/no/such\n", "not here: /no/such"),
        ("tool", b"echo a\n", "does not begin with #!"),
        ("tool", b"", "does not begin with #!"),
        ("a.ipynb", b"{}", "is a notebook"),
    ],
)
def test_what_would_fail_is_refused(container, name, content, words):
    """Refused before the start: bash continues after such a line, and may end with 0."""
    code = fill(container.tree.code)
    (code / name).write_bytes(content)
    (code / name).chmod(0o755)
    with pytest.raises(ContractError, match=words):
        command(code, name)


@pytest.mark.parametrize(
    ("files", "name", "entry", "source"),
    [
        (["pkg/mod.py"], "pkg.mod", "-m pkg.mod", "pkg/mod.py"),
        (["pkg/__main__.py"], "pkg", "-m pkg", "pkg/__main__.py"),
        (["pkg/__main__.py"], "pkg/", "-m pkg", "pkg/__main__.py"),
        (["src/pkg/__main__.py"], "pkg", "-m pkg", "src/pkg/__main__.py"),
        (["a/b/__main__.py"], "a/b", "-m a.b", "a/b/__main__.py"),
        (["train.py"], "-m torch.utils.collect_env", "-m torch.utils.collect_env", None),
    ],
)
def test_module(container, files, name, entry, source):
    """A module or a package with __main__.py of the folder; any other with an explicit -m."""
    code = container.tree.code
    for file in files:
        fill((code / file).parent, Path(file).name)
    found = find_entry(container.job(), {"SAGEMAKER_PROGRAM": name}, code)
    assert found == entry
    assert command(code, found) == (sys.executable, "-m", entry.removeprefix("-m "))
    if source:
        assert source_file(code, found) == code / source


def test_module_that_is_not_there(container):
    """A dotted name that is neither a file nor a module of the folder is an error."""
    code = fill(container.tree.code, "train.py")
    with pytest.raises(ContractError, match="is not in"):
        find_entry(container.job(), {"SAGEMAKER_PROGRAM": "pkg.mod"}, code)
    with pytest.raises(ContractError, match="is not in"):
        find_entry(container.job(), {"SAGEMAKER_PROGRAM": "-m pkg; id"}, code)


RELATIVE = "from .other import NAME\nprint(NAME)\n"
GUARDED = f"try:\n    {RELATIVE.splitlines()[0]}\nexcept ImportError:\n    from other import NAME\n"


@pytest.mark.parametrize(
    ("path", "source", "entry"),
    [
        ("src/pkg/train.py", RELATIVE, "-m pkg.train"),
        ("pkg/deep/train.py", RELATIVE, "-m pkg.deep.train"),
        ("pkg/train.py", "from . import other\n", "-m pkg.train"),
        ("pkg/train.py", GUARDED, "pkg/train.py"),
        ("pkg/train.py", "import other\n", "pkg/train.py"),
        ("train.py", RELATIVE, "train.py"),
        ("my-pkg/train.py", RELATIVE, "my-pkg/train.py"),
    ],
)
def test_file_that_imports_its_own_package(container, path, source, entry):
    """A file that imports with a leading dot runs as a module, since it can't run otherwise."""
    code = fill(container.tree.code, path)
    (code / path).write_text(source)
    assert find_entry(container.job(), {"SAGEMAKER_PROGRAM": path}, code) == entry
    assert source_file(code, entry) == code / path


def test_package_runs(container):
    """With its own options read, and its siblings importable."""
    package = fill(container.tree.code / "src" / "pkg", "__init__.py")
    (package / "other.py").write_text("NAME = 'other'")
    (package / "__main__.py").write_text(
        "import argparse\nfrom pkg.other import NAME\np = argparse.ArgumentParser()\n"
        "p.add_argument('--amp', action='store_true')\nprint(NAME, p.parse_args().amp)\n"
    )
    container.config("hyperparameters", {"sagemaker_program": '"pkg"', "amp": "true"})
    assert container.run().out == "other True\n"
    (package / "train.py").write_text(RELATIVE)
    container.config("hyperparameters", {"sagemaker_program": "src/pkg/train.py"})
    assert container.run().out == "other\n"
