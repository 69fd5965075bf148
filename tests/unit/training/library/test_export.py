import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.training.library import export
from sagemaker_byoc.training.library.export import export_model

pytestmark = pytest.mark.slow  # real processes


class Tied(torch.nn.Module):
    """Input and output share their weights, as in many language models."""

    def __init__(self, width=4):
        super().__init__()
        self.embed = torch.nn.Embedding(5, width)
        self.out = torch.nn.Linear(width, 5, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, tokens):
        return self.out(self.embed(tokens))


def test_weights_and_card_are_enough_to_make_the_model_again(tmp_path):
    """The card names class, config, code and the tensors that are one."""
    model = Tied()
    assert export_model(model, config={"width": 4}, folder=tmp_path) == tmp_path
    card = json.loads((tmp_path / "card.json").read_text())
    weights = load_file(tmp_path / card["weights"])
    weights |= {name: weights[other] for name, other in card["tied"].items()}
    again = Tied(**card["config"])
    again.load_state_dict(weights)
    tokens = torch.arange(5)
    assert torch.equal(again(tokens), model(tokens))
    assert card["class"].endswith(":Tied")
    assert card["code_sha256"] == hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    assert card["versions"]["torch"] == torch.__version__


def test_without_safetensors_a_state_dict_is_written(tmp_path, monkeypatch):
    """It loads without running code."""
    monkeypatch.setattr(export.importlib.util, "find_spec", lambda _: None)
    model = torch.nn.Linear(2, 2)
    export_model(model, folder=tmp_path)
    card = json.loads((tmp_path / "card.json").read_text())
    model.load_state_dict(torch.load(tmp_path / card["weights"], weights_only=True))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["card.json", "model.pt"]


def test_the_folder_is_sagemakers_unless_given(tmp_path, monkeypatch):
    """What is in it becomes model.tar.gz."""
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path))
    assert export_model(torch.nn.Linear(2, 2)) == tmp_path / "model"


def test_tensors_that_share_memory_in_part_are_all_written(tmp_path):
    """safetensors refuses them as they are."""
    model = torch.nn.Module()
    whole = torch.arange(6.0)
    model.register_buffer("whole", whole)
    model.register_buffer("part", whole[:3])
    export_model(model, folder=tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    assert torch.equal(weights["part"], whole[:3])
    assert torch.equal(weights["whole"], whole)


def test_a_failed_export_leaves_the_former_one(tmp_path, monkeypatch):
    """Neither half a file nor a card that names none."""
    model = torch.nn.Linear(2, 2)
    export_model(model, folder=tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fail(weights, path):
        path.write_bytes(b"half a file")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export, "_save_safetensors", fail)
    with pytest.raises(OSError, match="No space"):
        export_model(model, folder=tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_other_ranks_write_nothing(tmp_path, monkeypatch):
    """The model folders of all hosts are merged."""
    monkeypatch.setenv("RANK", "1")
    assert export_model(torch.nn.Linear(2, 2), folder=tmp_path) is None
    assert not list(tmp_path.iterdir())


def test_the_card_names_the_users_module_inside_a_wrapper():
    """Nobody can make a DistributedDataParallel from a config."""
    model = torch.nn.Linear(2, 2)
    compiled = torch.compile(model, backend="eager")
    assert export.unwrapped(compiled) is model
    assert export.unwrapped(model) is model


def test_a_class_of_the_script_is_named_by_its_file(monkeypatch):
    """__main__ means another program where the model is served."""
    kind = type("Net", (), {"__module__": "__main__"})
    monkeypatch.setattr(export.sys.modules["__main__"], "__spec__", None)
    monkeypatch.setattr(
        export.sys.modules["__main__"], "__file__", "/opt/ml/code/train.py", raising=False
    )
    assert export.class_path(kind) == "train:Net"


@pytest.mark.slow
# torch's own export code uses deprecated parts of torch and of the standard library.
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
@pytest.mark.filterwarnings("ignore::FutureWarning:torch")
def test_a_program_is_served_without_the_class(tmp_path):
    """model.pt2 holds the computation itself."""
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Dropout(0.5)).train()
    example = (torch.ones(2, 3),)
    export_model(model, example=example, folder=tmp_path)
    assert model.training
    program = torch.export.load(tmp_path / "model.pt2")
    assert torch.equal(program.module()(*example), model.eval()(*example))


class Named(torch.nn.Module):
    """A model of the user's with a module that is called as torch's wrappers call theirs."""

    def __init__(self):
        super().__init__()
        self.module = torch.nn.Linear(2, 2)
        self.norm = torch.nn.BatchNorm1d(2)

    def forward(self, x):
        return self.norm(self.module(x))


def nested(wrap):
    model = torch.nn.Sequential(Named(), Named())
    model[1] = wrap(model[1])
    return model


def compiled(model):
    return torch.compile(model, backend="eager")


DP = torch.nn.DataParallel
WRAPPERS = {
    "none": (Named, ""),
    "data parallel": (lambda: DP(Named()), ""),
    "compiled": (lambda: compiled(Named()), ""),
    "compiled data parallel": (lambda: compiled(DP(Named())), ""),
    "data parallel of a compiled one": (lambda: DP(compiled(Named())), ""),
    "data parallel twice": (lambda: DP(DP(Named())), ""),
    "averaged": (lambda: torch.optim.swa_utils.AveragedModel(Named()), ""),
    "averaged data parallel": (lambda: torch.optim.swa_utils.AveragedModel(DP(Named())), ""),
    "averaged compiled": (lambda: torch.optim.swa_utils.AveragedModel(compiled(Named())), ""),
    "nested data parallel": (lambda: nested(DP), "1."),
    "nested compiled": (lambda: nested(compiled), "1."),
    "nested both": (lambda: DP(nested(lambda one: DP(compiled(one)))), "1."),
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_names_without_wrappers(tmp_path, name):
    """The user's own names, whatever the model is wrapped in, at any depth."""
    make, prefix = WRAPPERS[name]
    export_model(make(), folder=tmp_path)
    own = {key for key in load_file(tmp_path / "model.safetensors") if key.startswith(prefix)}
    assert own == {prefix + key for key in Named().state_dict()}
    card = json.loads((tmp_path / "card.json").read_text())
    assert card["class"].endswith(":Named" if not prefix else ":Sequential")


def test_a_folder_that_cannot_be_made(tmp_path, monkeypatch):
    """Outside of SageMaker: the error says how to have it elsewhere."""
    (tmp_path / "ml").write_text("")
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path / "ml"))
    with pytest.raises(ContractError, match=r"ml/model: can't be made .* SAGEMAKER_BASE_DIR"):
        export_model(torch.nn.Linear(2, 2))
