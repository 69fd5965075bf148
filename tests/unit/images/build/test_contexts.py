"""A program without a Dockerfile: what of it goes on the toolkit's image, and how."""

from __future__ import annotations

import pytest

from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.host import docker, ignore, owners
from sagemaker_byoc.images.build import build, contexts
from sagemaker_byoc.images.build.builders import Builder


@pytest.fixture
def program(tmp_path, monkeypatch):
    monkeypatch.setattr(docker, "inspect", lambda kind, name: {"Id": "sha256:1"})
    folder = tmp_path / "mine"
    for name in (
        "train.py",
        ".env",
        "keys/id_rsa",
        "data/rows.csv",
        ".git/config",
        "a/__pycache__/x",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    (folder / "empty").mkdir()
    (folder / "link").symlink_to("train.py")
    return folder


def taken(context):
    root = context.folder / "program"
    return {path.relative_to(root).as_posix() for path in root.rglob("*")}


def test_what_no_program_needs_is_left_out_and_said(program):
    with contexts.prepared("train", program, None) as context:
        assert taken(context) == {"train.py", "keys", "data", "data/rows.csv", "a", "empty", "link"}
        assert (context.folder / "program" / "link").is_symlink()
        (note,) = context.notes
    assert note.startswith("left out: .env, .git, a/__pycache__, keys/id_rsa; a line `!NAME` in ")


def test_the_copies_of_a_build_that_was_killed_are_removed(program, tmp_path, monkeypatch):
    """Only copies that ended commands of this user made; nothing that only has a similar name."""
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setattr(owners.tempfile, "tempdir", str(place))
    pid, start, *rest = owners.me().split("/")
    dead, mine = (".".join((pid, number, *rest)) for number in (f"{start}0", start))
    for name in (f"build-{dead}-x1", f"login-{dead}-y2", f"build-{mine}-z3", f"build-{dead}"):
        (place / f"byoc-{name}").mkdir()
    with contexts.prepared("train", program, None) as context:
        assert context.folder.parent == place
    assert {path.name for path in place.iterdir()} == {
        f"byoc-build-{mine}-z3",
        f"byoc-build-{dead}",
    }


def test_the_programs_own_dockerignore_decides(program):
    """It adds to what is left out, and takes back in; it is not silently ignored."""
    (program / ".dockerignore").write_text("data\n*.csv\n!.env\n")
    with contexts.prepared("train", program, None) as context:
        assert "data/rows.csv" not in taken(context)
        assert {".env", ".dockerignore"} < taken(context)


def test_a_pattern_that_docker_refuses(program):
    (program / ".dockerignore").write_text("[a\n")
    with (
        pytest.raises(RequestError, match=r"\.dockerignore:1"),
        contexts.prepared("train", program, None),
    ):
        pass


def test_data_is_not_code(program, monkeypatch):
    """What is left out does not count."""
    monkeypatch.setattr(ignore, "PROGRAM_LIMIT", 30)
    (program / "data" / "rows.csv").write_text("x" * 31)
    with (
        pytest.raises(RequestError, match="holds over 0 MiB"),
        contexts.prepared("train", program, None),
    ):
        pass
    (program / ".dockerignore").write_text("data")
    with contexts.prepared("train", program, None):
        pass


@pytest.mark.parametrize(
    ("lines", "first"),
    [
        ("pandas\n", "COPY program/requirements.txt /opt/program/"),
        ("pandas\n-r more.txt\n", "COPY program /opt/program/"),
        ("-e ./mine\n", "COPY program /opt/program/"),
        ("./x.whl\n", "COPY program /opt/program/"),
        ("x @ file:///opt/program/x.whl\n", "COPY program /opt/program/"),
    ],
)
def test_requirements_are_installed_under_constraints(program, lines, first):
    """Before the program, unless they name another of its files."""
    (program / "requirements.txt").write_text(lines)
    with contexts.prepared("serve", program, 'in "x".py') as context:
        text = context.dockerfile.read_text()
    at = text.splitlines().index(first)
    install = text.splitlines()[at + 1]
    assert "-m sagemaker_byoc.contract.requirements --pip /tmp/tools/bin/pip" in install
    assert '--replace "$REPLACE"' in install
    assert "--mount" not in install
    assert 'ENV SAGEMAKER_PROGRAM="in \\"x\\".py"' in text


def test_a_pip_configuration_is_mounted(program):
    (program / "requirements.txt").write_text("x\n")
    with contexts.prepared("train", program, None, secret=True) as context:
        assert "RUN --mount=type=secret,id=pip export PIP_CONFIG" in context.dockerfile.read_text()


def test_another_list_of_requirements_is_said(program):
    (program / "environment.yml").write_text("")
    with contexts.prepared("train", program, None) as context:
        assert context.notes[-1].startswith("environment.yml is not read")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TOKENIZER", "bert-base"),
        ("MAX_TOKENS", "1024000"),
        ("PAD_TOKEN", "<pad-token>"),
        ("SECRET_NAME", "prod/database"),
        ("API_KEY", ""),
        ("TOKEN_LIMIT", "1000000"),
        ("PIP_INDEX_URL", "https://example.com/simple"),
        ("BASE", "python:3.11@sha256:" + "0" * 64),
    ],
)
def test_what_is_no_secret(name, value):
    build.require_public("--build-arg", {name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HF_TOKEN", "abcd1234efgh"),
        ("OPENAI_API_KEY", "sk-proj-abcdefgh"),
        ("DB_PASSWORD", "hunter22"),
        ("SIGNING_KEY", "abcdefgh"),
        ("X", "https://me:secret-1@example.com/simple"),
        ("X", "AKIAABCDEFGHIJKLMNOP"),
    ],
)
def test_what_is_a_secret(name, value):
    with pytest.raises(RequestError) as refusal:
        build.require_public("--build-arg", {name: value})
    assert value not in str(refusal.value)
    assert f"--secret id={name},env={name}" in refusal.value.hint


def test_a_secret_is_not_for_the_legacy_builder():
    legacy = Builder(name="legacy", version="1", command=("docker", "build"))
    with pytest.raises(RequestError, match="--secret needs BuildKit"):
        build.require_support(legacy, ("id=a,src=b",))
    build.require_support(legacy, ())
