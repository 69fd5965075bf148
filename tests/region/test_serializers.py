"""Every serializer and deserializer of both SDKs, against a server with the default decoders and
one whose input_fn gets the body as it came. docs/reference/serving-features.md has the table."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from pathlib import Path

import pytest
from tests.unit.serving.harness import Server

ENVIRONMENTS = os.environ.get("BYOC_CLIENTS")
CLIENT = Path(__file__).parent / "clients" / "serializers.py"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not ENVIRONMENTS, reason="BYOC_CLIENTS: the folder that scripts/clients-env made"
    ),
]
DEFAULT = "def model_fn(d): return None\ndef predict_fn(data, model): return list(data)\n"
OWN = DEFAULT + "def input_fn(body, kind): return [kind, type(body).__name__, len(body)]\n"
ROWS = [[1.5, 2.0], [3.0, 4.0]]


@pytest.fixture(scope="module", params=["sdk2", "sdk3"])
def answers(request, tmp_path_factory):
    """What the SDK's client script found out from a server of each program."""
    with contextlib.ExitStack() as stack:
        servers = []
        for program in (DEFAULT, OWN):
            root = tmp_path_factory.mktemp(request.param)
            (root / "program").mkdir()
            (root / "program" / "inference.py").write_text(program)
            servers.append(stack.enter_context(Server(root)))
        urls = [f"http://127.0.0.1:{server.wait_ready(timeout=60).port}" for server in servers]
        python = Path(str(ENVIRONMENTS)) / request.param / "bin" / "python"
        done = subprocess.run(
            [python, CLIENT, *urls],
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
            env={"PATH": os.environ["PATH"], "AWS_DEFAULT_REGION": "us-east-1"},
        )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_defaults(answers):
    """What is decoded and encoded without a function of the user's; the rest is refused."""
    found = answers[0]
    for name in ("CSV", "JSON", "JSONLines", "Numpy"):
        assert found[f"{name}Serializer"] == ROWS
    assert found["IdentitySerializer"] == [0, 1]
    assert found["LibSVMSerializer"] == list("1 0:1.5 1:2.0")
    assert found["StringSerializer"] == list("a text")
    assert found.get("SparseMatrixSerializer", [[row] for row in ROWS]) == [[row] for row in ROWS]
    for name in ("Data", "Record", "TorchTensor"):
        assert found.get(f"{name}Serializer", "415 UnsupportedMediaType").startswith("415")
    assert found["CSVDeserializer"] == [["1.5", "2.0"], ["3.0", "4.0"]]
    assert found["NumpyDeserializer"][1] == ROWS
    assert found["JSONDeserializer"] == found["JSONLinesDeserializer"] == ROWS
    assert found["PandasDeserializer"] == {"0": {"0": 1.5, "1": 3}, "1": {"0": 2, "1": 4}}
    for name in ("String", "Bytes", "Stream"):
        assert json.loads(found[f"{name}Deserializer"]) == ROWS
    for name in ("Record", "TorchTensor"):
        assert found.get(f"{name}Deserializer", "406").startswith("406")


def test_own_input(answers):
    """With an input_fn each arrives under its own type, text where AWS's toolkits give text."""
    found = answers[1]
    wanted = {
        "CSV": ["text/csv", "str", 15],
        "JSON": ["application/json", "str", 24],
        "JSONLines": ["application/jsonlines", "bytes", 21],
        "Numpy": ["application/x-npy", "bytes", 160],
        "LibSVM": ["text/libsvm", "bytes", 13],
        "String": ["text/plain", "bytes", 6],
        "Identity": ["application/octet-stream", "bytes", 2],
        "Data": ["file-path/raw-bytes", "bytes", 2],
    }
    assert {name: found[f"{name}Serializer"] for name in wanted} == wanted
    others = {
        "Record": "application/x-recordio-protobuf",
        "SparseMatrix": "application/x-npz",
        "TorchTensor": "tensor/pt",
    }
    for name, content_type in others.items():
        assert found.get(f"{name}Serializer", [content_type])[0] == content_type
