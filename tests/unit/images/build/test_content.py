"""What a build is sent, and the name that its content gets."""

from __future__ import annotations

import os
import subprocess

import pytest

from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.contract.masking import without_user
from sagemaker_byoc.host.ignore import DEFAULTS, Ignore, read
from sagemaker_byoc.images.build import contexts, labels


@pytest.mark.parametrize(
    ("lines", "left_out", "kept"),
    [
        (["*.log"], ["a.log"], ["x/a.log", "a.logs"]),
        (["**/*.log"], ["a.log", "x/y/a.log"], ["a.txt"]),
        (["data"], ["data", "data/x", "data/x/y"], ["database", "x/data"]),
        (["/data/"], ["data/x"], ["x/data"]),
        (["*", "!program"], ["README.md", ".git/config"], ["program/train.py", "program/a/b"]),
        (["*", "!program", "**/.env*"], ["program/.env", "program/x/.env.local"], ["program/e"]),
        (["a/**/z", "!a/b/z"], ["a/z", "a/x/y/z"], ["a/b/z"]),
        (["# data", "", "  x  "], ["x"], ["# data", "data"]),
        (["a?c", "[0-9].txt"], ["abc", "7.txt"], ["ac", "a/c", "x.txt"]),
        (["a.b"], ["a.b"], ["axb"]),
        # What the next ones do was seen in builds of Docker 28.2 and 20.10.
        (["  # data"], ["# data"], ["data"]),
        (["! x", "*", "!x/a"], ["x/b", "y"], ["x/a"]),
        (["*", "! x"], ["y"], ["x", "x/a"]),
        (["*", "!!d"], ["d"], ["!d"]),
        (["a**b"], ["ab", "a/x/b"], ["axb"]),
        (["**.log"], ["a.log", "x/a.log"], ["a.logs"]),
        (["**b", "!*.log"], ["b", "ab", "x/ab"], ["d.log"]),
        (["a/**"], ["a/x", "a/x/y"], ["a", "b/a"]),
        (["./x//y/../z/"], ["x/z", "x/z/a"], ["x/y"]),
        (["\\*", "\\#c"], ["*", "#c"], ["a"]),
        (["[^a]", "[a\\]]z"], ["b", "]z"], ["a", "zz"]),
        (["*", "!**/x"], ["data/y"], ["data/x", "x"]),
        ([".."], [], ["x", "a/b"]),
    ],
)
def test_dockerignore(lines, left_out, kept):
    """As its documentation says: from the root, `**`, the last match decides."""
    ignore = Ignore(lines)
    assert [path for path in left_out if not ignore.matches(path)] == []
    assert [path for path in kept if ignore.matches(path)] == []


def test_no_one_looks_into_what_can_not_come_back():
    ignore = Ignore(["*", "!program/deep"])
    assert ignore.prunes("data")
    assert not ignore.prunes("program")
    assert not Ignore(["*", "!**/x"]).prunes("data")
    assert Ignore(["!**/x", "data"]).prunes("data")  # an exception before the line is undone by it
    assert {
        folder for folder in (".venv", "a/.git", "data") if Ignore(DEFAULTS).prunes(folder)
    } == {
        ".venv",
        "a/.git",
    }


@pytest.mark.parametrize("line", ["[a", "!", "x\\", "! "])
def test_a_line_that_docker_refuses(line, tmp_path):
    """As the build would, and with the line's number."""
    (tmp_path / ".dockerignore").write_text(f"x\n{line}\n")
    with pytest.raises(RequestError, match=r"\.dockerignore:2: .* is not a pattern"):
        read(tmp_path, tmp_path / "Dockerfile")


def test_the_dockerfiles_own_comes_first(tmp_path):
    (tmp_path / ".dockerignore").write_text("a\n")
    (tmp_path / "Dockerfile.train.dockerignore").write_text("\ufeff# c\nb\r\n")
    own = read(tmp_path, tmp_path / "Dockerfile.train")
    assert [own.matches(name) for name in ("a", "b")] == [False, True]
    assert read(tmp_path, tmp_path / "Dockerfile").matches("a")


@pytest.fixture
def project(tmp_path):
    (tmp_path / "program").mkdir()
    (tmp_path / "program" / "train.py").write_text("print(1)\n")
    (tmp_path / "README.md").write_text("words")
    (tmp_path / ".dockerignore").write_text("*\n!program\n")
    (tmp_path / "Dockerfile").write_text("FROM x\n")
    return tmp_path


def digest(project, arguments=None, *words):
    return contexts.content(project, project / "Dockerfile", arguments or {}, *words).digest


def test_content_is_of_what_decides_the_image(project):
    """The files that are sent, their modes, the Dockerfile, the arguments, the base."""
    first = digest(project)
    (project / "README.md").write_text("other words")
    os.utime(project / "program" / "train.py", (1, 1))
    assert digest(project) == first
    seen = {first, digest(project, {"TORCH": "cuda"}), digest(project, None, "sha256:1")}
    (project / "program" / "train.py").chmod(0o755)
    seen.add(digest(project))
    (project / "Dockerfile").write_text("FROM y\n")
    seen.add(digest(project))
    (project / "program" / "link").symlink_to("train.py")
    seen.add(digest(project))
    assert len(seen) == 6


def test_secrets_that_are_sent_are_named(project):
    for name in (".env", ".env.example", "id_rsa", "key.pem"):
        (project / "program" / name).write_text("")
    (project / ".env").write_text("")
    found = contexts.content(project, project / "Dockerfile", {})
    assert found.secrets == ("program/.env", "program/id_rsa", "program/key.pem")


def test_what_can_not_be_read_is_named(project):
    with pytest.raises(RequestError, match="absent can't be read"):
        contexts.content(project, project / "absent", {})


def test_too_many_files(project, monkeypatch):
    monkeypatch.setattr(contexts, "FILES_LIMIT", 0)
    with pytest.raises(RequestError, match="over 0 files"):
        digest(project)


def git(folder, *words):
    name = ["-c", "user.name=n", "-c", "user.email=e@example.com", "-c", "base.gpgsign=false"]
    subprocess.run(["git", "-C", folder, *name, *words], check=True, capture_output=True)


def test_the_tag_names_commit_and_image(project):
    """Without a repository the id alone; a changed file makes the revision dirty."""
    assert labels.tag(labels.read_commit(project), "0" * 64) == "0" * 12
    git(project, "init", "--quiet")
    git(project, "add", ".")
    git(project, "commit", "--quiet", "-m", "first")
    git(project, "remote", "add", "origin", "https://me:secret@example.com/mine.git")
    found = labels.read_commit(project)
    assert not found.dirty
    assert found.source == "https://example.com/mine.git"
    assert labels.tag(found, "abcdef0123" * 6) == f"{found.id[:12]}-abcdef01"
    (project / "new").write_text("")
    assert labels.read_commit(project).revision == f"{found.id}-dirty"


def test_an_address_without_a_user_stays():
    assert without_user("git@example.com:mine.git") == "git@example.com:mine.git"
    assert without_user("https://example.com/x") == "https://example.com/x"
