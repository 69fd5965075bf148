"""The sessions that README.md and docs/ show are run, and print what the pages show.

A block that is not run says so where its reader sees it: `*A sketch: it needs ….*`.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

import pytest
from tests.docs.sessions import ROOT, client, files, own_ports, pages, sessions, shell

README = ROOT / "README.md"
TUTORIAL = ROOT / "docs/tutorial/first-hour.md"
HOW_TO = ROOT / "docs/how-to"
IMAGES = HOW_TO / "the-two-images.md"
BLOCK = re.compile(r"^(.*)\n```(console|sh|bash|shell)\n", re.MULTILINE)
SKETCH = re.compile(r"\*A sketch: it needs [^*]+\.\*")
LONG = 1800
"""Seconds for a session that builds images, or installs packages."""

RUN = {
    README: {"demo", "install", "region", "walk"},
    IMAGES: {"train", "serve"},
    TUTORIAL: {"install", "train", "serve", "region"},
    HOW_TO / "local-region.md": {"region"},
    HOW_TO / "region-buckets-and-images.md": {"buckets"},
    HOW_TO / "serving-aws-handlers.md": {"handlers"},
    HOW_TO / "serving-without-code.md": {"torchscript"},
    HOW_TO / "start-a-project.md": {"project"},
}
"""The sessions that a test below runs, by page."""


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_console_block_is_run_or_a_sketch(page):
    for before, language in BLOCK.findall(page.read_text()):
        if before.startswith("<!-- session: "):
            assert language == "console"
        else:
            assert SKETCH.fullmatch(before), (
                f"{page.name}, after {before!r}: run it, or say why not"
            )
    assert set(sessions(page)) == RUN.get(page, set()), "no test runs it"
    assert all(sessions(page).values())


@pytest.fixture
def desk(tmp_path):
    """A folder to type in, with the examples of the checkout and a user's folders of its own."""
    folder = tmp_path / "desk"
    folder.mkdir()
    (folder / "examples").symlink_to(ROOT / "examples")
    variables = {"XDG_DATA_HOME": str(tmp_path / "data"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    yield folder, variables
    byoc = [sys.executable, "-m", "sagemaker_byoc.cli", "local", "down"]
    environ = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), **variables}
    subprocess.run(byoc, env=environ, capture_output=True, check=False, timeout=60)


def play(desk, page, *names):
    """Run sessions of a page in one shell, with the files that its reader has saved."""
    folder, variables = desk
    for path, text in files(page).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    with shell(folder, own_ports(), **variables) as here:
        for name in names:
            here.play(sessions(page)[name])


@pytest.mark.slow
def test_tutorial(desk):
    """Each step after the installation, in a folder that is no checkout."""
    play(desk, TUTORIAL, "train", "serve", "region")


@pytest.mark.slow
def test_region_of_the_readme(desk):
    play(desk, README, "region")


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in RUN if page.parent == HOW_TO and page != IMAGES], ids=lambda p: p.stem
)
def test_how_to(page, desk):
    play(desk, page, *sorted(RUN[page]))


@pytest.mark.slow
def test_installation(tmp_path):
    """Into a plain environment, where nothing of this checkout's own is."""
    here = {"'.[local]'": f"'{ROOT}[local]'"}
    with shell(tmp_path, here, LONG, CHECKOUT=str(ROOT), PYTHONPATH="") as typed:
        for page in (README, TUTORIAL):
            typed.play(sessions(page)["install"])


@pytest.mark.slow
def test_demo():
    """The first screen's session."""
    with shell(ROOT) as typed:
        typed.play(sessions(README)["demo"])


@pytest.mark.docker
@pytest.mark.slow
def test_docker_walks():
    """The two images by hand, as typed; the second serves what the first has trained."""
    folder = ROOT / "opt-ml"
    assert not folder.exists(), "the walk makes this folder; remove it first"
    try:
        with shell(ROOT, seconds=LONG) as typed:
            typed.play(sessions(IMAGES)["train"])
            typed.play(sessions(IMAGES)["serve"])
    finally:
        subprocess.run([client(), "rm", "-f", "my-endpoint"], capture_output=True, check=False)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.docker
@pytest.mark.slow
def test_walk_from_nothing_to_an_endpoint(desk):
    """A project, its images, the checks, the registry, a job, an endpoint: on a real engine."""
    folder, variables = desk
    first, *others = sessions(README)["walk"]
    with shell(folder, own_ports(), LONG, **variables) as typed:
        typed.play([first])
        # A wheel of torch that is nearer than PyTorch's index, as for our own images.
        for wheel in (ROOT / "wheels").glob("*.whl"):
            shutil.copy(wheel, folder / "curves" / "wheels")
        typed.play(others)


def test_every_folder_of_the_map_exists():
    """And every room is on the map."""
    block = re.search(r"## The map\n+```\n(.*?)```", README.read_text(), re.DOTALL)[1]
    named = {match[1] for match in re.finditer(r"^ *([\w./-]+/?) {2,}", block, re.MULTILINE)}
    for path in named:
        assert (ROOT / path).exists() or (ROOT / "src/sagemaker_byoc" / path).exists(), path
    rooms = {
        f"{entry.name}/" for entry in (ROOT / "src/sagemaker_byoc").iterdir() if entry.is_dir()
    }
    assert rooms - {"__pycache__/"} <= named


def test_the_readme_is_short():
    assert len(README.read_text().splitlines()) < 200
