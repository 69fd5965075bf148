"""Models that come without model_fn: real files, each loaded, called, or refused."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import warnings
import zipfile

import numpy as np
import pytest

from sagemaker_byoc.serving.bodies import Body
from sagemaker_byoc.serving.link import Frame, Kind
from sagemaker_byoc.serving.settings import HandlerFile, Settings
from sagemaker_byoc.serving.worker import defaults
from sagemaker_byoc.serving.worker.code import default_model, model_files
from sagemaker_byoc.serving.worker.code.handlers import Handlers
from sagemaker_byoc.serving.worker.code.model_files import ModelError
from sagemaker_byoc.serving.worker.pipeline import Pipeline

torch = pytest.importorskip("torch")
safetensors_torch = pytest.importorskip("safetensors.torch")
ROWS = [[1.0, 2, 3], [4, 5, 6]]


def make_model():
    return torch.nn.Linear(3, 2)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return make_model().eval()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "model").mkdir()
    return tmp_path / "model"


@pytest.fixture(autouse=True)
def torchs_own_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        yield


def export(model):
    rows = torch.export.Dim("rows", max=1000)
    return torch.export.export(model, (torch.zeros(2, 3),), dynamic_shapes=({0: rows},))


def save_script(model, folder):
    torch.jit.trace(model, torch.zeros(1, 3)).save(str(folder / "m.pth"))


def save_exported(model, folder):
    torch.export.save(export(model), folder / "m.pt2")


def save_safetensors(model, folder):
    safetensors_torch.save_file(model.state_dict(), folder / "m.safetensors")


def save_shards(model, folder):
    for number, (name, tensor) in enumerate(model.state_dict().items(), start=1):
        safetensors_torch.save_file({name: tensor}, folder / f"m-0000{number}-of-00002.safetensors")


def save_weights(model, folder):
    torch.save(model.state_dict(), folder / "m.pt")


def save_checkpoint(model, folder):
    state = {f"module.{name}": value for name, value in model.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3}, folder / "m.ckpt")


def save_compiled(model, folder):
    torch._inductor.aoti_compile_and_package(export(model), package_path=str(folder / "m.pt2"))


def check_answers(folder, model, source, made=None, **environ):
    settings = Settings.from_environ({"SAGEMAKER_BASE_DIR": str(folder.parent), **environ})
    handlers = Handlers({}, HandlerFile(None, None, ()), make_model=made)
    pipeline = Pipeline(settings, handlers, 0)
    pipeline.load()
    assert pipeline.source.startswith(source)
    meta = {"request_id": "r", "content_type": "application/json", "accept": "", "deadline": 0}
    body = Body(json.dumps({"instances": ROWS}).encode())
    ((reply,),) = pipeline.answer([Frame(Kind.REQUEST, 1, meta, body)])
    with torch.inference_mode():
        expected = model(torch.tensor(ROWS)).numpy()
    np.testing.assert_allclose(json.loads(reply.body.data)["predictions"], expected, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("save", "source"),
    [(save_script, "TorchScript module m.pth"), (save_exported, "torch.export program m.pt2")],
)
def test_whole(folder, model, save, source):
    """A whole model needs no handler."""
    save(model, folder)
    check_answers(folder, model, source)


@pytest.mark.parametrize(
    ("save", "source"),
    [
        (save_safetensors, "safetensors weights m.safetensors in Linear"),
        (save_shards, "safetensors weights m-00001-of-00002.safetensors, m-00002"),
        (save_weights, "state_dict m.pt in Linear"),
        (save_checkpoint, "state_dict m.ckpt in Linear"),
    ],
)
def test_weights(folder, model, save, source):
    """Weights need make_model, and without it the error names it."""
    save(model, folder)
    check_answers(folder, model, source, made=make_model)
    with pytest.raises(ModelError, match=r"make_model = MyModel"):
        default_model.load(folder)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="AOTInductor compiles with g++")
def test_compiled(folder, model):
    """Machine code in a .pt2 comes before all else."""
    save_compiled(model, folder)
    save_script(model, folder)
    check_answers(folder, model, "AOTInductor package m.pt2")


def test_preferred_first(folder, model):
    """An exported program comes before TorchScript, and that before weights."""
    save_weights(model, folder)
    save_script(model, folder)
    assert model_files.find(folder).kind == "TorchScript module"
    save_exported(model, folder)
    assert model_files.find(folder).kind == "torch.export program"


def test_ambiguous(folder, model):
    """Two of a kind are an error that names both."""
    save_script(model, folder)
    shutil.copy(folder / "m.pth", folder / "a.pt")
    with pytest.raises(ModelError, match=r"a\.pt, m\.pth"):
        model_files.find(folder)


@pytest.mark.parametrize(
    "name",
    [
        *("._m.safetensors", ".DS_Store", "._.DS_Store", "Thumbs.db"),
        *(".m.safetensors.x1Y2z3", ".m.safetensors", "~$m.safetensors"),
    ],
)
def test_litter(folder, model, name):
    """What a Mac's archive has beside the model is not one; alone it is not a model at all."""
    (folder / name).write_bytes(b"\x00\x05\x16\x07")
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "._m.safetensors").touch()
    with pytest.raises(ModelError, match="no file"):
        model_files.find(folder)
    safetensors_torch.save_file(model.state_dict(), folder / "m.safetensors")
    loaded = default_model.load(folder, make_model=make_model)
    assert loaded.source == "safetensors weights m.safetensors in Linear"


@pytest.mark.parametrize(
    ("names", "part"),
    [
        ([], "no file: is ModelDataUrl set"),
        (["a.onnx"], "a.onnx"),
        (["training_args.bin"], "training_args.bin, none of which is a model"),
        (["export/m.pt2", "._export", "code/inference.py"], "only the folder export: .*-C export"),
        (["a/m.pt2", "b/m.pt2"], "at the top of the archive"),
    ],
)
def test_nothing_to_load(tmp_path, names, part):
    """What is there, is named."""
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(ModelError, match=part):
        model_files.find(tmp_path)


def test_beside_the_weights(folder, model):
    """What trainers write beside the weights is not a second model, and shards are one."""
    first, second = ({name: value} for name, value in model.state_dict().items())
    torch.save(first, folder / "pytorch_model-00001-of-00002.bin")
    torch.save(second, folder / "pytorch_model-00002-of-00002.bin")
    for name in ("training_args.bin", "optimizer.pt", "rng_state.pth"):
        (folder / name).touch()
    loaded = default_model.load(folder, make_model=make_model)
    assert torch.equal(loaded.model.weight, model.weight)
    assert torch.equal(loaded.model.bias, model.bias)


def test_suffix_in_upper_case(folder, model):
    safetensors_torch.save_file(model.state_dict(), folder / "MODEL.SAFETENSORS")
    assert default_model.load(folder, make_model=make_model).source.endswith("Linear")


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("m.safetensors", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("m.pt", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("m.pt2", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("m.pt2", b"PK\x03\x04 and no end", "not a torch.export program, or is truncated"),
        ("m.pt", b"<html>Not found</html>", "Unpickler error"),
    ],
)
def test_not_what_the_name_says(folder, name, content, part):
    """The reason is about the file, not about torch's documentation."""
    (folder / name).write_bytes(content)
    with pytest.raises(ModelError, match=part):
        default_model.load(folder, make_model=make_model)


@pytest.mark.parametrize(
    ("made", "part"),
    [
        (lambda: torch.nn.Linear(4, 2), "does not fit"),
        (torch.nn.Linear, "without arguments"),
        (dict, "returned dict"),
    ],
)
def test_wrong_make_model(folder, model, made, part):
    """What does not fit is said in terms of what the user wrote."""
    save_weights(model, folder)
    with pytest.raises(ModelError, match=part):
        default_model.load(folder, make_model=made)


@pytest.mark.parametrize("name", ["m.pt", "m.safetensors", "m.bin"])
@pytest.mark.parametrize("size", [0, 5, 200])
def test_damaged_weights(folder, name, size):
    """A file that is not a model is refused by name."""
    (folder / name).write_bytes(bytes(size))
    with pytest.raises(ModelError, match=name):
        default_model.load(folder, make_model=make_model)


# ── pickles ──


class Hostile:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


class Doubler:
    def predict(self, data):
        return 2 * data


def hostile_program(model, path, mark, part):
    """A .pt2 with a pickle where torch.export.load would unpickle it."""
    torch.export.save(export(model), path)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    config = next(name for name in entries if name.endswith(f"model_{part}_config.json"))
    parsed = json.loads(entries[config])
    payload = config.rpartition("/")[0]
    if part == "weights":
        entry = parsed["config"]["weight"]
        entry["use_pickle"] = True
        torch.save(Hostile(mark), path.with_suffix(".tmp"))
        entries[f"{payload}/{entry['path_name']}"] = path.with_suffix(".tmp").read_bytes()
        path.with_suffix(".tmp").unlink()
    else:
        meta = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True}
        parsed["config"]["evil"] = {**meta, "tensor_meta": None}
        entries[f"{payload}/opaque_obj_0"] = pickle.dumps(Hostile(mark))
    entries[config] = json.dumps(parsed).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)


@pytest.mark.parametrize("part", ["weights", "constants"])
def test_hostile_program(folder, tmp_path, model, part):
    """torch's own loader unpickles parts of a .pt2; here it is stopped."""
    mark = tmp_path / "mark"
    hostile_program(model, folder / "m.pt2", mark, part)
    if part == "constants" and torch.__version__.startswith("2.10."):
        with pytest.raises(RuntimeError, match="deserializing"):  # it knows no such constants
            default_model.load(folder)
        assert not mark.exists()
        return
    with pytest.raises(ModelError, match="BYOC_ALLOW_PICKLE"):
        default_model.load(folder)
    assert not mark.exists()
    with pytest.raises(Exception):  # noqa: B017, PT011 - the file is not a model, however it is read
        default_model.load(folder, allow_pickle=True)
    assert mark.exists()  # the file does what the test says


@pytest.mark.parametrize("name", ["m.pt", "m.pkl", "m.joblib"])
def test_hostile_pickle(folder, tmp_path, name):
    """Never run, whatever it is called, and whether a module is there for it or not."""
    mark = tmp_path / "mark"
    if name == "m.pt":
        torch.save(Hostile(mark), folder / name)
    else:
        (folder / name).write_bytes(pickle.dumps(Hostile(mark)))
    for made in (None, make_model):
        with pytest.raises(ModelError, match=name):
            default_model.load(folder, make_model=made)
    assert not mark.exists()


def test_pickle_on_request(folder, model):
    """The switch loads whole models as torch, scikit-learn and others pickle them."""
    (folder / "m.pkl").write_bytes(pickle.dumps(Doubler()))
    loaded = default_model.load(folder, allow_pickle=True)
    assert defaults.Predictor(loaded.model, loaded.device)(21) == 42
    torch.save(model, folder / "m.pt")
    check_answers(folder, model, "pickle m.pt", BYOC_ALLOW_PICKLE="1")


def test_guard_ends(tmp_path):
    """Only the loading of a model is without pickles; and plain data need no name."""
    data = pickle.dumps({"a": [1, 2]})
    with default_model.forbidden():
        assert pickle.loads(data) == {"a": [1, 2]}
        with pytest.raises(default_model.PickleError, match="mkdir"):
            pickle.loads(pickle.dumps(Hostile(tmp_path / "mark")))
    assert isinstance(pickle.loads(pickle.dumps(Doubler())), Doubler)
