"""Handlers and applications of other people's packages, unmodified, on the real server.

BYOC_HANDLERS names the folder that scripts/handlers-env made. Each package is installed beside the
handlers, as it would be in an image.
"""

from __future__ import annotations

import csv
import io
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from tests.support.arrays import npy
from tests.unit.serving.harness import JSON, Server

from sagemaker_byoc.serving.worker.code import handlers

FOLDER = os.environ.get("BYOC_HANDLERS", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
    pytest.mark.skipif(
        not FOLDER, reason="BYOC_HANDLERS: the folder that scripts/handlers-env made"
    ),
]
CSV, NPY = "text/csv", "application/x-npy"
ROWS = [[0.0, 1.0], [2.0, 3.0]]


@pytest.fixture
def serve(tmp_path):
    """Start with a program that was written here, or with a file of a package."""

    def start(*, program="", file="", before=None, **environ):
        root = tmp_path
        (root / "program").mkdir()
        if program:
            text = f"import sys\nsys.path.insert(1, {FOLDER!r})\n{program}"
            (root / "program" / "inference.py").write_text(text)
        if file:
            environ = {"SAGEMAKER_SUBMIT_DIRECTORY": FOLDER, "SAGEMAKER_PROGRAM": file, **environ}
        (root / "model").mkdir()
        if before is not None:
            before(root / "model")
        return Server(root, **environ)

    return start


def script(folder):
    """A TorchScript model: the sum of a row, and twice that."""
    import torch

    class Sums(torch.nn.Module):
        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            total = rows.sum(dim=1, keepdim=True)
            return torch.cat([total, 2 * total], dim=1)

    torch.jit.script(Sums()).save(str(folder / "model.pt"))


def test_pytorch_inference_toolkit(serve):
    """AWS's own service of the PyTorch images, with its default handler."""
    with serve(
        file="sagemaker_pytorch_serving_container/handler_service.py", before=script
    ) as server:
        server.wait_ready(timeout=120)
        wanted = [[1.0, 2.0], [5.0, 10.0]]
        assert json.loads(server.invoke(json.dumps(ROWS).encode()).body) == wanted
        reply = server.invoke(b"0,1\n2,3\n", CSV, Accept=CSV)
        assert list(csv.reader(io.StringIO(reply.text))) == [["1.0", "2.0"], ["5.0", "10.0"]]
        reply = server.invoke(npy(np.float32(ROWS)), NPY, Accept=NPY)
        assert np.load(io.BytesIO(reply.body)).tolist() == wanted
        assert reply.headers["Content-Type"] == NPY
        refused = server.invoke(b"x", "text/html")
        assert refused.status == 500  # as AWS's answers, though it is the caller's mistake
        error = json.loads(refused.body)["error"]
        assert "text/html is not supported" in error["message"]
        assert "Traceback" not in error["message"]


def test_default_inference_handler(serve):
    """Its functions as the four functions; its errors have the right status."""
    program = (
        "from sagemaker_pytorch_serving_container.default_pytorch_inference_handler import (\n"
        "    DefaultPytorchInferenceHandler)\n"
        "handler = DefaultPytorchInferenceHandler()\n"
        "model_fn, input_fn = handler.default_model_fn, handler.default_input_fn\n"
        "predict_fn, output_fn = handler.default_predict_fn, handler.default_output_fn\n"
    )
    with serve(program=program, before=script) as server:
        server.wait_ready(timeout=120)
        assert json.loads(server.invoke(json.dumps(ROWS).encode()).body)[1] == [5.0, 10.0]
        assert server.invoke(b"x", "text/html").status == 415
        assert server.invoke(b"[[1, 2]]", Accept="text/html").status == 406


def tiny_bert(folder):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); folder = sys.argv[2]\n"
        "from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast\n"
        "words = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', 'good', 'bad']\n"
        "open(folder + '/vocab.txt', 'w').write('\\n'.join(words))\n"
        "config = BertConfig(vocab_size=7, hidden_size=8, num_hidden_layers=1,\n"
        "    num_attention_heads=1, intermediate_size=8, max_position_embeddings=16)\n"
        "BertForSequenceClassification(config).save_pretrained(folder)\n"
        "BertTokenizerFast(folder + '/vocab.txt').save_pretrained(folder)\n"
    )
    subprocess.run([sys.executable, "-c", code, FOLDER, str(folder)], check=True)


def test_huggingface_inference_toolkit(serve):
    """AWS's own service of the Hugging Face images: a pipeline by HF_TASK, JSON and CSV."""
    environ = {"HF_TASK": "text-classification", "HF_HUB_OFFLINE": "1"}
    file = "sagemaker_huggingface_inference_toolkit/handler_service.py"
    with serve(file=file, before=tiny_bert, **environ) as server:
        server.wait_ready(timeout=120)
        reply = server.invoke(b'{"inputs": "good"}')
        assert reply.status == 200, reply.text + server.log
        [found] = json.loads(reply.body)
        assert found["label"] in {"LABEL_0", "LABEL_1"}
        reply = server.invoke(b"inputs\ngood\nbad\n", CSV)
        assert len(json.loads(reply.body)) == 2
        refused = server.invoke(b"x", "text/html")
        assert (refused.status, json.loads(refused.body)["error"]["code"]) == (400, "BadRequest")
        assert "metric Transform Fn" in server.log


TRANSFORM = (
    "import json\n"
    "def load_model(folder): return 3\n"
    "def predict(model, data):\n"
    "    if isinstance(data, list):\n"
    "        return [[model * value for value in json.loads(row['body'])] for row in data]\n"
    "    return str(model * float(data))\n"
)


def transform(folder):
    (folder.parent / "program" / "transformscript.py").write_text(TRANSFORM)


def test_multi_model_server_service(serve):
    """A service for multi-model-server: `handle` in the file, JSON as bytes."""
    program = "from ezsmdeploy.data import model_handler\nhandle = model_handler.handle\n"
    with serve(program=_data(program), before=transform) as server:
        server.wait_ready(timeout=120)
        reply = server.invoke(b"[1, 2]")
        assert (json.loads(reply.body), reply.headers["Content-Type"]) == ([3, 6], JSON)


def test_classic_flask_container(serve):
    """predictor.py behind wsgi.py, as in AWS's scikit example, whose /ping loads the model."""
    program = "from wsgi import app\n"
    with serve(program=_data(program), before=transform) as server:
        server.wait_ready(timeout=120)
        reply = server.invoke(b"14", CSV)
        assert (reply.text, reply.headers["Content-Type"]) == ("42.0", "text/csv; charset=utf-8")


def _data(program):
    """The package's templates, without the package's own imports."""
    data = pathlib.Path(FOLDER) / "ezsmdeploy" / "data"
    plain = program.replace("from ezsmdeploy.data ", "")
    return f"sys.path.insert(1, {str(data)!r})\n{plain}"


def test_torchserve_handler(serve):
    """TorchServe's base handler with a TorchScript model that the manifest names."""
    program = (
        "import torch\n"
        "from ts.torch_handler.base_handler import BaseHandler\n"
        "class Sums(BaseHandler):\n"
        "    def preprocess(self, data):\n"
        "        return torch.tensor([row['body'] for row in data])[0]\n"
        "    def postprocess(self, data):\n"
        "        return [data.tolist()]\n"
    )
    with serve(program=program, before=script, TS_DECODE_INPUT_REQUEST="true") as server:
        server.wait_ready(timeout=120)
        assert json.loads(server.invoke(json.dumps(ROWS).encode()).body)[0] == [1.0, 2.0]
        assert "metric HandlerTime" in server.log


def mlflow_model(folder):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); folder = sys.argv[2]\n"
        "import mlflow.pyfunc\n"
        "class Sums(mlflow.pyfunc.PythonModel):\n"
        "    def predict(self, context, model_input, params=None):\n"
        "        return model_input.sum(axis=1)\n"
        "mlflow.pyfunc.save_model(folder + '/m', python_model=Sums(), pip_requirements=[])\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code, FOLDER, str(folder)], check=True)


def test_mlflow_scoring_server(serve, tmp_path):
    """FastAPI, from the package's own app.py."""
    path = str(tmp_path / "model" / "m")
    environ = {"__pyfunc_model_path__": path, "HOME": str(tmp_path)}
    file = "mlflow/pyfunc/scoring_server/app.py"
    with serve(file=file, before=mlflow_model, **environ) as server:
        server.wait_ready(timeout=120)
        body = {"dataframe_split": {"columns": ["a", "b"], "data": ROWS}}
        reply = server.invoke(json.dumps(body).encode())
        assert json.loads(reply.body) == {"predictions": [{"0": 1.0}, {"0": 5.0}]}
        assert server.invoke(b"{}").status == 400
        assert server.request("GET", "/version").status == 200


def test_inference_server(serve):
    """A WSGI application whose routes can't be looked up, with its own /ping."""
    program = "from inference_server import create_app\napp = create_app()\n"
    with serve(program=program) as server:
        server.wait_ready(timeout=120)
        assert server.invoke(b"as it is", "text/plain").text == "as it is"
        assert server.request("GET", "/elsewhere").status == 404


def test_model_hosting_container_standards(serve):
    """AWS's FastAPI add-on with a handler of the user's."""
    program = (
        "from fastapi import FastAPI, HTTPException, Request\n"
        "from model_hosting_container_standards import sagemaker\n"
        "app = FastAPI()\n"
        "@app.post('/invocations')\n"
        "@sagemaker.register_invocation_handler\n"
        "async def invoke(request: Request):\n"
        "    values = await request.json()\n"
        "    if not values:\n"
        "        raise HTTPException(422, 'nothing to sum')\n"
        "    return {'sum': sum(values)}\n"
        "sagemaker.bootstrap(app)\n"
    )
    with serve(program=program) as server:
        server.wait_ready(timeout=120)
        assert json.loads(server.invoke(b"[1, 2]").body) == {"sum": 3}
        assert server.invoke(b"[]").status == 422


def test_ml2p(serve):
    """A Flask application with its own errors and /execution-parameters."""
    program = (
        "from types import SimpleNamespace\n"
        "from ml2p.docker import app, jsonify\n"
        "app.predictor = SimpleNamespace(\n"
        "    env=SimpleNamespace(model_version='1'),\n"
        "    invoke=lambda data: jsonify(sum=sum(data['row'])))\n"
    )
    with serve(program=program) as server:
        server.wait_ready(timeout=120)
        assert json.loads(server.invoke(b'{"row": [1, 2]}').body) == {"sum": 3}
        assert server.invoke(b"{").status == 400
        parameters = json.loads(server.request("GET", "/execution-parameters").body)
        assert parameters["BatchStrategy"] == "MULTI_RECORD"


def test_sagemaker_shim(serve):
    """FastAPI with a validated body; its parameters of a batch job are its own."""
    with serve(file="sagemaker_shim/app.py") as server:
        server.wait_ready(timeout=120)
        parameters = json.loads(server.request("GET", "/execution-parameters").body)
        assert parameters["BatchStrategy"] == "SINGLE_RECORD"
        refused = server.invoke(b"{}")
        assert (refused.status, "pk" in refused.text) == (422, True)


def test_stand_in_writes_what_the_package_writes():
    """The module of ours under the name of sagemaker-inference, beside the real one; only pickled
    objects are not read (test_handlers.py)."""
    code = (
        "import json, sys; sys.path.insert(0, sys.argv[1])\n"
        "import numpy as np\n"
        "from sagemaker_inference import content_types as t, decoder, encoder, environment, utils\n"
        "values = [[[1.5, 2]], [1, 2], np.eye(2), np.array(['a', 'b']), np.float32(1), 3]\n"
        "found = []\n"
        "for value in values:\n"
        "    for kind in (t.JSON, t.CSV, t.NPY):\n"
        "        try: body = encoder.encode(value, kind)\n"
        "        except Exception as error: found.append(type(error).__name__); continue\n"
        "        found.append(repr(body))\n"
        "        try: found.append(repr(decoder.decode(body, kind)))\n"
        "        except Exception as error: found.append(type(error).__name__)\n"
        "one = environment.Environment()\n"
        "found += [one.module_name, one.default_accept, one.model_server_timeout,\n"
        "    one.inference_http_port, environment.model_dir, utils.parse_accept('a, b'),\n"
        "    utils.retrieve_content_type_header({'ContentType': 'x'}),\n"
        "    utils.remove_crlf('a\\r\\nb'), sorted(encoder.SUPPORTED_CONTENT_TYPES)]\n"
        "print(json.dumps(found))\n"
    )
    environ = {**os.environ, "SAGEMAKER_PROGRAM": "own.py"}
    stand_in, real = (
        subprocess.run(
            [sys.executable, "-c", code, folder],
            check=True,
            capture_output=True,
            text=True,
            env=environ,
        ).stdout
        for folder in (str(handlers.TOOLKITS), FOLDER)
    )
    assert json.loads(stand_in) == json.loads(real)
    assert len(json.loads(real)) > 30


def test_what_skips_without_the_packages():
    """The comparisons with sagemaker-inference and pandas, in a process that can import them."""
    folder = pathlib.Path(__file__).parents[1]
    cases = [
        f"{folder / 'test_serving_data.py'}::TestBesideAws",
        f"{folder / 'test_defaults.py'}::TestWithPandas",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *cases],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": FOLDER},
        timeout=240,
    )
    assert done.returncode == 0, done.stdout
    assert "skipped" not in done.stdout
