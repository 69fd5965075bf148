"""Models that come without code."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest

from sagemaker_byoc.serving.bodies import Body
from sagemaker_byoc.serving.handler_file import HandlerFile
from sagemaker_byoc.serving.link import Frame, Kind
from sagemaker_byoc.serving.settings import Settings
from sagemaker_byoc.serving.worker import default_model
from sagemaker_byoc.serving.worker.default_model import ModelError
from sagemaker_byoc.serving.worker.handlers import Handlers
from sagemaker_byoc.serving.worker.pipeline import Pipeline

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return torch.nn.Linear(3, 2).eval()


def save_script(model, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, and in use
        torch.jit.trace(model, torch.zeros(1, 3)).save(str(path))


def save_exported(model, path):
    batch = torch.export.Dim("batch")
    exported = torch.export.export(model, (torch.zeros(2, 3),), dynamic_shapes=({0: batch},))
    torch.export.save(exported, path)


@pytest.mark.parametrize(("save", "name"), [(save_script, "m.pth"), (save_exported, "m.pt2")])
def test_loads_and_answers(tmp_path, model, save, name):
    """A whole model needs no handler."""
    folder = tmp_path / "model"
    folder.mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        save(model, folder / name)
        settings = Settings.from_environ({"SAGEMAKER_BASE_DIR": str(tmp_path)})
        pipeline = Pipeline(settings, Handlers({}, HandlerFile(None, None, ())), 0)
        pipeline.load()
    meta = {"request_id": "r", "content_type": "application/json", "accept": "", "deadline": 0}
    body = Body(b'{"instances": [[1, 2, 3], [4, 5, 6]]}')
    ((reply,),) = pipeline.answer([Frame(Kind.REQUEST, 1, meta, body)])
    with torch.inference_mode():
        expected = model(torch.tensor([[1.0, 2, 3], [4, 5, 6]])).numpy()
    np.testing.assert_allclose(json.loads(reply.body.data)["predictions"], expected, rtol=1e-5)


def test_safest_first(tmp_path, model):
    """An exported program comes before TorchScript."""
    save_script(model, tmp_path / "a.pt")
    (tmp_path / "b.pt2").touch()
    assert default_model.find(tmp_path).name == "b.pt2"


def test_ambiguous(tmp_path, model):
    """Two of a kind are an error that names both."""
    save_script(model, tmp_path / "a.pt")
    save_script(model, tmp_path / "b.pth")
    with pytest.raises(ModelError, match=r"a\.pt, b\.pth"):
        default_model.find(tmp_path)


def test_weights_only(tmp_path, model):
    """Weights without code are named, and never unpickled."""
    torch.save(model.state_dict(), tmp_path / "w.pt")
    with pytest.raises(ModelError, match="no model_fn"):
        default_model.find(tmp_path)


@pytest.mark.parametrize(("names", "part"), [([], "no file"), (["a.onnx"], "a.onnx")])
def test_nothing_to_load(tmp_path, names, part):
    """What is there, is named."""
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(ModelError, match=part):
        default_model.find(tmp_path)
