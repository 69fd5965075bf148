"""The programs in examples/ that are served: made and asked as their how-tos say."""

from __future__ import annotations

import csv
import http.client
import json
import os
import subprocess
import sys
import tarfile
from contextlib import closing
from pathlib import Path

import pytest
from tests.unit.serving.harness import Server, wait_until

pytestmark = pytest.mark.slow  # real processes, and models to be trained

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(script, *arguments):
    command = [sys.executable, "-W", "ignore", str(EXAMPLES / script), *map(str, arguments)]
    subprocess.run(command, check=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"})


def test_torchscript(tmp_path):
    """A TorchScript file and nothing else."""
    run("torchscript/make_model.py", tmp_path / "model")
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["model.pt"]
    with Server(tmp_path) as server:
        server.wait_ready()
        assert "TorchScript module model.pt" in server.log
        sample = (tmp_path / "sample.csv").read_bytes()
        reply = server.invoke(sample, "text/csv", Accept="text/csv")
        rows = [[float(cell) for cell in row] for row in csv.reader(reply.text.splitlines())]
        assert [row.index(max(row)) for row in rows] == [9, 0, 8, 9, 8]


def test_handlers(tmp_path):
    """model.pth beside code/, as AWS's toolkits have it."""
    run("handlers/make_model.py", tmp_path / "model")
    (tmp_path / "model" / "code").symlink_to(EXAMPLES / "handlers" / "code")
    with Server(tmp_path) as server:
        server.wait_ready()
        patient = [0.04, 0.05, 0.06, 0.02, -0.04, -0.03, -0.04, 0.0, 0.02, -0.02]
        reply = server.invoke(json.dumps({"patients": [patient, patient]}).encode())
        first, second = json.loads(reply.body)["progress"]
        assert first == pytest.approx(second, rel=1e-5)
        assert 25 < first < 346  # the range of the data
        row = ",".join(map(str, patient)).encode()
        reply = server.invoke(row, "text/csv", Accept="text/csv")
        assert float(reply.text) == pytest.approx(first, abs=0.1)


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    """A GPT with the weights that it begins its training with, exported, packed and unpacked."""
    tmp_path = tmp_path_factory.mktemp("generator")
    program = (
        "import sys, torch; sys.path.insert(0, sys.argv[1]); from model import GPT;"
        "from sagemaker_byoc.training import export_model; from pathlib import Path;"
        "torch.manual_seed(0);"
        "shape = dict(vocabulary=320, length=64, layers=1, heads=2, width=32);"
        "export_model(GPT(**shape), config=shape, folder=Path(sys.argv[2]))"
    )
    trained = tmp_path / "trained"
    subprocess.run(
        [sys.executable, "-c", program, EXAMPLES / "gpt", trained], check=True, timeout=60
    )
    run("generate/pack.py", trained, tmp_path / "model.tar.gz")
    with tarfile.open(tmp_path / "model.tar.gz") as archive:
        archive.extractall(tmp_path / "model", filter="data")
    with Server(tmp_path) as server:
        yield server.wait_ready()


def wish(**more):
    return json.dumps({"prompt": "def ", "max_tokens": 50, **more}).encode()


def test_generate(generator):
    """Text in chunks, the same for the same seed; or an event a piece."""
    connection = http.client.HTTPConnection("127.0.0.1", generator.port, timeout=30)
    with closing(connection):
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/invocations", wish(), headers)
        response = connection.getresponse()
        assert response.headers["Transfer-Encoding"] == "chunked"
        text = response.read().decode()
    assert text
    assert generator.invoke(wish()).text == text
    assert generator.invoke(wish(seed=1)).text != text
    events = generator.invoke(wish(), Accept="text/event-stream")
    assert events.headers["Content-Type"] == "text/event-stream"
    assert events.body.count(b"\n\n") > 5


@pytest.mark.parametrize(
    "body", [b"{}", b"[1]", b'"x"', b"{", wish(max_tokens=0), wish(temperature="hot"), wish(x=1)]
)
def test_generate_bad_wish(generator, body):
    """A caller's mistake is a 400 that says what there is."""
    reply = generator.invoke(body)
    assert reply.status == 400
    assert "max_tokens" in reply.text


def test_multi_model(tmp_path):
    """Two models with modules of the same name, loaded, asked and unloaded."""
    run("multi_model/make_models.py", tmp_path / "models")
    asked = {"iris": ([5.1, 3.5, 1.4, 0.2], "setosa"), "wine": ([13.0] * 13, None)}
    with Server(tmp_path, SAGEMAKER_MULTI_MODEL="true") as server:
        server.wait_ready()
        headers = {"Content-Type": "application/json"}
        for name, (row, answer) in asked.items():
            place = {"model_name": name, "url": str(tmp_path / "models" / name / "model")}
            loaded = server.request("POST", "/models", json.dumps(place), headers)
            assert loaded.status == 200, loaded.text
            path = f"/models/{name}/invoke"
            (found,) = json.loads(server.request("POST", path, json.dumps([row]), headers).body)
            assert found == answer or found in {"Barolo", "Grignolino", "Barbera"}
        listed = json.loads(server.request("GET", "/models").body)["models"]
        assert {entry["modelName"] for entry in listed} == {"iris", "wine"}
        assert server.request("DELETE", "/models/iris").status == 200
        wait_until(lambda: server.request("GET", "/models/iris").status == 404)
