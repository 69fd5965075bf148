"""What the Docker engine is asked to do, seen without an engine."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace

import pytest

from sagemaker_byoc.contract.errors import MachineError, RequestError
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.host import ignore
from sagemaker_byoc.region.engines import copying
from sagemaker_byoc.region.engines.container import (
    LONGEST_LINE,
    ContainerSpec,
    GivenUpError,
    lines_of,
    never,
)
from sagemaker_byoc.region.engines.copying import program_folder, write_tree
from sagemaker_byoc.region.engines.docker import DockerContainer, DockerEngine


@pytest.fixture
def spec(tmp_path):
    return ContainerSpec(
        name="byoc-job",
        argument="train",
        tree=Tree(tmp_path / "ml"),
        environment={"A": "1"},
        image="byoc-train",
        program=tmp_path,
        inputs={"input/data/train": tmp_path},
        port=8123,
    )


def test_create_arguments(spec):
    """The image gets the contract's argument last; nothing of the host is mounted or inherited."""
    arguments = DockerEngine().create_arguments(spec)
    assert arguments[-2:] == ["byoc-train", "train"]
    assert arguments[:4] == ["--name", "byoc-job", "--hostname", "algo-1"]
    assert "127.0.0.1:8123:8080" in arguments
    # Not on the command line, which every user of the machine sees.
    assert "A=1" not in arguments
    assert arguments[arguments.index("--env-file") + 1] == "/dev/stdin"
    assert DockerEngine().env_file(spec) == "SAGEMAKER_SUBMIT_DIRECTORY=/opt/ml/code\nA=1\n"
    assert "--mount" not in arguments


def test_large_inputs_are_mounted_on_request(spec, tmp_path):
    """Read-only: a job can't damage the data of the machine that it runs on."""
    arguments = DockerEngine(mount_inputs=True).create_arguments(spec)
    mount = arguments[arguments.index("--mount") + 1]
    assert mount == f"type=bind,src={tmp_path},dst=/opt/ml/input/data/train,readonly"


@pytest.mark.parametrize(("read_only", "mode"), [(False, ""), (True, ",readonly")])
def test_shared_folders_are_mounted(spec, tmp_path, read_only, mode):
    """The container writes to them unless only this machine does."""
    names = frozenset({"models"} if read_only else ())
    shared = replace(spec, shared=("models",), read_only=names)
    arguments = DockerEngine().create_arguments(shared)
    mount = arguments[arguments.index("--mount") + 1]
    assert mount == f"type=bind,src={tmp_path}/ml/models,dst=/opt/ml/models{mode}"


def test_tree_is_copied_as_root_and_without_leftovers(tmp_path):
    """Folders land under /opt/ml; caches and repositories of the program stay at home."""
    program = tmp_path / "program"
    for name in ("train.py", "__pycache__/train.pyc", ".git/config"):
        file = program / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    stream = io.BytesIO()
    write_tree(stream, {"code": program})
    stream.seek(0)
    with tarfile.open(fileobj=stream) as tar:
        members = tar.getmembers()
    assert [member.name for member in members] == ["opt/ml/code", "opt/ml/code/train.py"]
    assert {(member.uid, member.gid) for member in members} == {(0, 0)}


def test_a_home_folder_is_no_program(tmp_path, monkeypatch):
    """Data by mistake is refused by size, with the hint."""
    monkeypatch.setattr(ignore, "PROGRAM_LIMIT", 10)
    (tmp_path / "data.bin").write_bytes(b"x" * 11)
    with pytest.raises(RequestError, match="--channel"):
        program_folder(tmp_path)


def test_no_client_is_a_machine_error(monkeypatch, spec):
    """The hint names the other engine."""
    monkeypatch.setenv("DOCKER", "/nonexistent/docker")
    with pytest.raises(MachineError, match="--engine process"):
        DockerEngine().start(spec)


def test_dead_engine_is_told_in_dockers_words(monkeypatch, spec, tmp_path):
    """What the client printed reaches the user."""
    client = tmp_path / "docker"
    client.write_text("#!/bin/sh\necho 'Cannot connect to the Docker daemon' >&2\nexit 1\n")
    client.chmod(0o755)
    monkeypatch.setenv("DOCKER", str(client))
    with pytest.raises(MachineError, match="Cannot connect to the Docker daemon"):
        DockerEngine().start(spec)


def test_a_line_without_an_end_comes_in_pieces(monkeypatch, spec, tmp_path):
    """As with the process engine."""
    client = tmp_path / "client"
    client.write_text(f"#!/bin/sh\nhead -c {LONGEST_LINE + 5} /dev/zero | tr '\\0' x\n")
    client.chmod(0o755)
    monkeypatch.setenv("DOCKER", str(client))
    assert [len(line) for line in DockerContainer(spec).lines()] == [LONGEST_LINE, 5]


def test_lines_are_what_the_program_ended_with_line_feeds():
    """Also empty ones, one without an end, and one that is as long as a piece."""
    longest = "x" * LONGEST_LINE
    log = io.StringIO(f"a\n\n{longest}\n\n{longest}\nb")
    assert [*lines_of(log)] == ["a", "", longest, "", longest, "b"]


def test_what_is_copied_is_counted(tmp_path):
    """As much as the tar holds, and the total that is expected before without its headers."""
    (tmp_path / "tree/sub").mkdir(parents=True)
    (tmp_path / "tree/sub/file").write_bytes(b"x" * 1000)
    (tmp_path / "tree/link").symlink_to("/etc/passwd")
    counted = []

    class Copying:
        def advance(self, size):
            counted.append(size)

    stream = io.BytesIO()
    copying.write_tree(copying.Counted(stream, Copying(), never), {"": tmp_path / "tree"})
    assert sum(counted) == len(stream.getvalue()) > 1000
    with pytest.raises(GivenUpError):
        copying.write_tree(copying.Counted(stream, None, lambda: True), {"": tmp_path / "tree"})
    assert copying.size_of(tmp_path / "tree") == 1000 + len("/etc/passwd")
