"""`byoc check` on images that were not written for it, and on our own two."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.images.conftest import NAMES
from tests.images.containers import CLIENT, docker

from sagemaker_byoc.images.scratch import LABEL

pytestmark = [pytest.mark.docker, pytest.mark.slow]

FOREIGN = Path(__file__).parent / "foreign"
DIGITS = Path(__file__).parents[2] / "examples" / "digits"
BYOC = [sys.executable, "-m", "sagemaker_byoc.cli"]
CHANNELS = ["--channel", "train=data/train", "--channel", "test=data/test"]
AT_ONCE = 3
"""Most of a check is waiting."""
ON_THE_WRONG_PORT = """#!/bin/sh
exec /opt/web/bin/uvicorn main:app --host 127.0.0.1 --port 8000
"""
RECORDER = """#!/bin/sh
[ "$1" = create ] || exec {client} "$@"
{client} "$@" | tee -a {made}
"""


def check(*arguments: str | Path, cwd: Path) -> tuple[int, dict[str, Any]]:
    """Exit code and report; nothing of the trials may be left in the engine."""
    command = [*BYOC, "check", *map(str, arguments), "--json"]
    with tempfile.TemporaryDirectory() as folder:
        client, made = Path(folder, "docker"), Path(folder, "made")
        client.write_text(RECORDER.format(client=CLIENT, made=made))
        client.chmod(0o755)
        result = subprocess.run(
            command,
            capture_output=True,
            check=False,
            timeout=400,
            cwd=cwd,
            env=os.environ | {"DOCKER": str(client)},
        )
        assert result.stdout, result.stderr.decode()
        # The engine may have other people's, made by the same command.
        mine = {*made.read_text().split()} if made.exists() else set()
    there = docker("ps", "--all", "--quiet", "--no-trunc", "--filter", f"label={LABEL}").stdout
    assert not mine & {*there.decode().split()}
    return result.returncode, json.loads(result.stdout)


def ids(report: dict[str, Any]) -> set[str]:
    return {finding["id"] for finding in report["findings"]}


@pytest.fixture(scope="module")
def foreign() -> dict[str, str]:
    names = {}
    for folder in sorted(path.parent for path in FOREIGN.glob("*/Dockerfile")):
        names[folder.name] = f"byoc-foreign-{folder.name}"
        docker("build", "--quiet", "--tag", names[folder.name], str(folder), timeout=600)
    return names


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Path:
    """Data, a model and a payload of the example that our images hold."""
    work = tmp_path_factory.mktemp("digits")
    subprocess.run(
        [sys.executable, DIGITS / "make_data.py", work / "data"], check=True, capture_output=True
    )
    rows = (work / "data" / "test" / "digits.csv").read_text().splitlines()[:2]
    (work / "rows.csv").write_text("".join(f"{row.partition(',')[2]}\n" for row in rows))
    command = [*BYOC, "train", DIGITS, *CHANNELS, "--hp", "epochs=1", "--output", "out"]
    subprocess.run(command, check=True, capture_output=True, cwd=work, timeout=200)
    return work


@pytest.fixture(scope="module")
def checks(request, foreign, digits, tmp_path_factory) -> Iterator[dict[str, Future]]:
    """The checks that start containers, by their test: those that this run selects, begun early."""
    folder = tmp_path_factory.mktemp("foreign")
    (folder / "model").mkdir()
    (folder / "model" / "model.json").write_text('{"bias": 1.5}')
    (folder / "rows.csv").write_text("1,2\n3,4\n")
    (folder / "serve").write_text(ON_THE_WRONG_PORT)
    (folder / "serve").chmod(0o755)
    (folder / "Dockerfile").write_text(f"FROM {foreign['fastapi']}\nCOPY serve /usr/bin/serve\n")
    docker("build", "--quiet", "--tag", "byoc-foreign-port", str(folder), timeout=600)
    rows = ["--payload", "rows.csv", "--content-type", "text/csv"]
    short = ["--train-timeout", "5", "--startup-timeout", "20"]
    given = {
        test_the_classic_sample: (folder, foreign["classic"], "--model", "model", *rows),
        test_a_plain_web_service: (folder, foreign["fastapi"], "--serve"),
        test_shell_form: (folder, foreign["shell"], "--train", "--serve", *short),
        test_a_server_on_the_wrong_port_is_told_where_it_listens: (
            folder, "byoc-foreign-port", "--startup-timeout", "20",
        ),
        test_our_training_image_is_clean: (
            digits, NAMES["train"], *CHANNELS, "--hp", "epochs=2",
        ),
        test_our_serving_image_is_clean: (
            digits, NAMES["serve"], "--model", "out/model.tar.gz", *rows,
        ),
    }  # fmt: skip
    chosen = {item.name for item in request.session.items}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {
            test.__name__: pool.submit(check, *words, cwd=cwd)
            for test, (cwd, *words) in given.items()
            if test.__name__ in chosen
        }


@pytest.fixture
def checked(request, checks) -> tuple[int, dict[str, Any]]:
    """Exit code and report of the check that belongs to a test."""
    found: tuple[int, dict[str, Any]] = checks[request.node.name].result()
    return found


def test_the_classic_sample(checked):
    """nothing to build on but two programs on PATH: found out by itself, tried both ways."""
    code, report = checked
    assert code == 1
    assert report["roles"] == ["train", "serve"]
    assert ids(report) == {
        "SEC002",  # a build argument, a key in a command
        "SEC003",  # a file that a later layer removes
        "TRN007",  # process 1 without a handler
        "TRN009",  # both hosts write the model
        "SRV005",  # /ping before any model
        "SRV006",  # synchronous workers
        "SRV007",  # charset
        "SRV008",  # 5 MiB
        "SRV016",  # killed in the middle
    }


def test_a_plain_web_service(checked):
    code, report = checked
    assert code == 1
    assert {"IMG007", "IMG014", "SRV001"} <= ids(report)


def test_shell_form(checked):
    code, report = checked
    assert code == 1
    assert {"IMG006", "IMG011", "IMG012", "IMG013", "SEC001", "TRN007", "SRV022"} == ids(report)


def test_a_server_on_the_wrong_port_is_told_where_it_listens(checked):
    code, report = checked
    assert code == 1
    (finding,) = [finding for finding in report["findings"] if finding["id"] == "SRV003"]
    assert "127.0.0.1:8000" in finding["what"]


def test_an_arm64_archive(foreign, tmp_path):
    """The engine's own archive, its configuration edited; packed, as archives are passed on."""
    data = docker("save", foreign["shell"]).stdout
    edited = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(data)) as old,
        tarfile.open(fileobj=edited, mode="w") as new,
    ):
        for entry in old:
            body = old.extractfile(entry)
            content = body.read() if body is not None else b""
            if entry.name.endswith(".json") and b'"architecture":"amd64"' in content:
                content = content.replace(b'"architecture":"amd64"', b'"architecture":"arm64"')
            entry.size = len(content)
            new.addfile(entry, io.BytesIO(content))
    (tmp_path / "arm64.tar.gz").write_bytes(gzip.compress(edited.getvalue(), 1))
    code, report = check("arm64.tar.gz", cwd=tmp_path)
    assert code == 1
    assert "IMG003" in ids(report)
    assert "IMG006" in ids(report)


def test_an_oci_layout_with_an_attestation(foreign, tmp_path):
    """skopeo's layout of the FastAPI image; then behind an index with a proof, as buildx writes."""
    program = shutil.which("skopeo")
    if program is None:
        pytest.skip("skopeo is not installed")
    (tmp_path / "image.tar").write_bytes(docker("save", foreign["fastapi"]).stdout)
    layout = tmp_path / "layout"
    subprocess.run(
        [program, "copy", f"docker-archive:{tmp_path}/image.tar", f"oci:{layout}"],
        check=True,
        capture_output=True,
        timeout=300,
    )
    _, report = check(f"oci:{layout}", cwd=tmp_path)
    assert "IMG001" in ids(report)

    def blob(document: dict[str, Any], kind: str, **more: Any) -> dict[str, Any]:
        data = json.dumps(document).encode()
        digest = hashlib.sha256(data).hexdigest()
        (layout / "blobs" / "sha256" / digest).write_bytes(data)
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(data), **more}

    index = json.loads((layout / "index.json").read_text())
    (image,) = index["manifests"]
    image["platform"] = {"os": "linux", "architecture": "amd64"}
    manifest = "application/vnd.oci.image.manifest.v1+json"
    settings = blob({}, "application/vnd.oci.image.config.v1+json")
    proof = blob(
        {"schemaVersion": 2, "mediaType": manifest, "config": settings, "layers": []},
        manifest,
        platform={"os": "unknown", "architecture": "unknown"},
        annotations={
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": image["digest"],
        },
    )
    kind = "application/vnd.oci.image.index.v1+json"
    nested = {"schemaVersion": 2, "mediaType": kind, "manifests": [image, proof]}
    index["manifests"] = [blob(nested, kind)]
    (layout / "index.json").write_text(json.dumps(index))
    code, report = check(f"oci:{layout}", cwd=tmp_path)
    assert code == 1
    assert "IMG002" in ids(report)


def test_our_training_image_is_clean(checked):
    code, report = checked
    assert (code, report["findings"]) == (0, [])


def test_our_serving_image_is_clean(checked):
    """The one warning is the example's own: it raises ValueError for a type it does not know."""
    code, report = checked
    assert code == 0
    assert ids(report) <= {"SRV011"}
    assert report["notes"] == []


def test_without_an_engine_it_is_exit_code_3(tmp_path):
    command = [*BYOC, "check", "some-image"]
    result = subprocess.run(
        command,
        capture_output=True,
        check=False,
        env={"DOCKER": CLIENT, "DOCKER_HOST": "tcp://127.0.0.1:1"},
    )
    assert result.returncode == 3
    assert b"fix:" in result.stderr
