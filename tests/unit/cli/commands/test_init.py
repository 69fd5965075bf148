"""`byoc init`, and the project as a user would go on with it, without Docker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from sagemaker_byoc.cli.commands import init
from sagemaker_byoc.cli.main import main
from sagemaker_byoc.images.build.project import TORCH, TORCH_CUDA_12

BYOC = [sys.executable, "-m", "sagemaker_byoc.cli"]


def test_the_three_next_commands(tmp_path, monkeypatch, capsys):
    """On stdout alone; with another folder than this one, how to get there."""
    monkeypatch.chdir(tmp_path)
    assert main(["init", "UPPER Case"]) == 0
    out, err = capsys.readouterr()
    commands = out.splitlines()
    assert len(commands) == 3
    assert commands[0].startswith("cd 'UPPER Case' && byoc train")
    assert "Dockerfile.serve" in err
    assert 'name = "upper-case"' in (tmp_path / "UPPER Case" / "pyproject.toml").read_text()


def test_what_is_missing_comes_first(tmp_path, monkeypatch, capsys):
    """A Python without torch and without the server: the two commands that install them."""
    monkeypatch.setattr(init, "find_spec", lambda _: None)
    monkeypatch.setattr(init.installation, "missing", lambda _: ["flask"])
    assert main(["init", str(tmp_path / "my curves")]) == 0
    serve, torch, *rest = capsys.readouterr().out.splitlines()
    assert serve.startswith(f"cd '{tmp_path}/my curves' && ")
    assert "[serve]" in serve
    assert " torch" in torch
    assert [line.split()[:2] for line in rest] == [["byoc", w] for w in ("train", "serve", "build")]


def test_nothing_is_overwritten(tmp_path, monkeypatch, capsys):
    """What is there is named, and stays."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Dockerfile.train").write_text("mine")
    assert main(["init"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Dockerfile.train already" in err
    assert [path.name for path in tmp_path.iterdir()] == ["Dockerfile.train"]


def test_json(tmp_path, capsys):
    assert main(["init", str(tmp_path / "x"), "--name", "other", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["name"], len(found["next"])) == ("other", 3)
    assert all((tmp_path / "x" / name).is_file() for name in found["files"])


@pytest.mark.slow
def test_it_trains_serves_and_passes_its_own_test(tmp_path):
    """With no argument but what the printed commands have."""
    folder = tmp_path / "curves"
    assert main(["init", str(folder)]) == 0
    python = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def run(*command):
        return subprocess.run(
            command,
            cwd=folder,
            env=os.environ | python,
            check=True,
            capture_output=True,
            text=True,
            timeout=300,
        )

    run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    model = run(*BYOC, "train", "--output", "byoc-jobs/first").stdout.strip()
    assert model.endswith("byoc-jobs/first/model.tar.gz")
    command = [*BYOC, "serve", "--model", "byoc-jobs/first/model.tar.gz", "--port", "0"]
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        try:
            url = server.stdout.readline().strip()
            request = urllib.request.Request(
                f"{url}/invocations",
                data=b"[[0.5, 0.4]]",
                headers={"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request, timeout=60) as reply:
                (answer,) = json.load(reply)
        finally:
            server.terminate()
    assert server.returncode == 0
    assert abs(answer - 1.04) < 0.15


@pytest.mark.slow
def test_what_it_writes_is_in_good_style(tmp_path):
    """By this checkout's own linter, with its defaults."""
    main(["init", str(tmp_path / "curves")])
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--config"]
    done = subprocess.run(
        [*command, 'src = ["program"]', "."],
        cwd=tmp_path / "curves",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_the_torch_of_each_kind_is_the_checkouts(tmp_path):
    """The project's images have the versions that the toolkit's own images are built with."""
    requirements = Path(__file__).parents[4] / "requirements"
    for kind, pin in (("cuda12", TORCH_CUDA_12), ("cuda13", TORCH)):
        (locked,) = (requirements / f"torch-{kind}.in").read_text().split()
        assert locked.startswith(pin.removesuffix("*"))
    assert main(["init", str(tmp_path / "x")]) == 0
    for kind in ("train", "serve"):
        text = (tmp_path / "x" / f"Dockerfile.{kind}").read_text()
        assert f'cuda|cuda12) torch="{TORCH_CUDA_12}" ;; *) torch="{TORCH}"' in text
