"""The toolkit's wheel, and the project around it."""

from __future__ import annotations

import base64
import csv
import hashlib
import subprocess
import sys
import zipfile

import pytest

from sagemaker_byoc import __version__
from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.images.build import project


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return project.write_wheel(tmp_path_factory.mktemp("wheel"))


def test_the_same_package_gives_the_same_bytes(archive, tmp_path):
    assert project.write_wheel(tmp_path).read_bytes() == archive.read_bytes()


def test_its_record_holds(archive):
    """Every file but the record itself, with its hash and its length."""
    with zipfile.ZipFile(archive) as file:
        names = set(file.namelist())
        (record,) = (name for name in names if name.endswith("/RECORD"))
        rows = list(csv.reader(file.read(record).decode().splitlines()))
        assert {name for name, _, _ in rows} == names
        for name, digest, size in rows:
            if name != record:
                data = file.read(name)
                found = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=")
                assert (digest, size) == (f"sha256={found.decode()}", str(len(data)))
        assert not [name for name in names if "__pycache__" in name]


def test_it_runs_by_itself(archive):
    """All modules of an image's rooms, and what `byoc init` copies, are in it."""
    words = "import sagemaker_byoc.training, sagemaker_byoc.serving, sagemaker_byoc as s; "
    words += "print(s.__version__, s.__file__)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path.insert(0, {str(archive)!r}); {words}"],
        capture_output=True,
        text=True,
        check=True,
        env={},
    )
    assert done.stdout.split()[0] == __version__
    assert str(archive) in done.stdout
    with zipfile.ZipFile(archive) as file:
        assert any(name.endswith("Dockerfile.train.template") for name in file.namelist())


def test_a_project_is_written_once(tmp_path):
    """A second time it says what is there, and changes nothing."""
    folder = tmp_path / "mine"
    files = project.write(folder, "mine")
    assert {str(path) for path in files} >= {"Dockerfile.train", "program/train.py", ".gitignore"}
    assert all((folder / path).is_file() for path in files)
    text = "".join((folder / path).read_text() for path in files if path.suffix != ".whl")
    assert "{{" not in text
    before = {path: (folder / path).read_bytes() for path in files}
    with pytest.raises(RequestError, match=r"has .*Dockerfile.serve.* already") as refusal:
        project.write(folder, "mine")
    assert "empty or new folder" in refusal.value.hint
    assert {path: (folder / path).read_bytes() for path in files} == before


def test_one_file_in_the_way_and_nothing_is_written(tmp_path):
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(RequestError, match=r"has README.md already"):
        project.write(tmp_path, "mine")
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]


@pytest.mark.parametrize("name", ["", "Upper", "a_b", "-a", "a" * 41, "a b", "../x"])
def test_a_name_that_no_repository_has(name, tmp_path):
    with pytest.raises(RequestError, match="can't be the name"):
        project.write(tmp_path / "new", name)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("folder", "name"), [("My Model_2", "my-model-2"), ("...", "program"), ("é", "program")]
)
def test_a_name_from_the_folder(folder, name, tmp_path):
    assert project.name_of(tmp_path / folder) == name


def test_dockerfiles_need_nothing_of_buildkit(tmp_path):
    """Docker's legacy builder, podman and buildah build them as well."""
    project.write(tmp_path, "mine")
    for kind in ("train", "serve"):
        text = (tmp_path / f"Dockerfile.{kind}").read_text()
        assert "--mount" not in text
        assert "<<" not in text.replace("<<=", "")
        assert f'"sagemaker_byoc.{ {"train": "training", "serve": "serving"}[kind] }"]' in text
