"""Hyperparameters reach a program in the form that it can take."""

from __future__ import annotations

import argparse
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagemaker_byoc.contract.training.hyperparameters import Hyperparameters
from sagemaker_byoc.training.supervisor.program.arguments import arguments_for

NAMES = st.from_regex(r"[a-z][a-z0-9]{1,8}", fullmatch=True)


@pytest.fixture
def words(tmp_path):
    """The arguments for a program with some source."""

    def made(raw, source="", name="train.py"):
        (tmp_path / name).write_text(source)
        return arguments_for(Hyperparameters(raw), tmp_path / name)

    return made


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("3", "3"),
        ("1.10", "1.10"),
        ("1e-3", "1e-3"),
        ("01234", "01234"),
        ("adam", "adam"),
        ('"adam"', "adam"),
        ('"5"', "5"),
        ("null", ""),
        ("", ""),
        ("-3", "-3"),
        ("-.5", "-.5"),
        ("[1, 2]", "[1, 2]"),
        ('["a"]', '["a"]'),
        ('{"a": 1}', '{"a": 1}'),
        ("Infinity", "Infinity"),
        ("true", "True"),
        ("false", "False"),
        ("$HOME `id` ; it's", "$HOME `id` ; it's"),
    ],
)
def test_value(words, raw, value):
    """Numbers and objects keep their text, strings lose their quotes, no shell is near."""
    assert words({"name": raw}) == ["--name", value]


def test_names_and_order(words):
    """Sorted by name, one letter with one dash, the toolkit's own keys left out."""
    raw = {"b": "1", "alpha": "2", "sagemaker_program": "x.py", "_tuning_objective_metric": "loss"}
    assert words(raw) == ["--alpha", "2", "-b", "1"]


@pytest.mark.parametrize("text", ["-1e-3", "-abc", "--x", "-inf"])
def test_leading_dash_is_no_option(words, text):
    """A value that argparse would take for an option is joined to its name."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--value")
    parser.add_argument("-v", dest="short")
    parsed = parser.parse_args(words({"value": text, "v": text}))
    assert (parsed.value, parsed.short) == (text, text)


ARGPARSE = """
import argparse, ast, json
from argparse import BooleanOptionalAction as Both
parser = argparse.ArgumentParser()
parser.add_argument("--amp", action="store_true")
parser.add_argument("--shuffle", action="store_false")
parser.add_argument("--no-cuda", dest="cuda", action="store_false")
parser.add_argument("--fast", dest="fast", action="store_true")
parser.add_argument("--no-fast", dest="fast", action="store_false")
parser.set_defaults(fast=True)
parser.add_argument("--compile", action=argparse.BooleanOptionalAction)
parser.add_argument("--pin", type=bool)
parser.add_argument("--gate", type=int)
parser.add_argument("--text")
parser.add_argument("-q", action="store_true")
parser.add_argument("--const", action="store_const", const=7, default=0)
parser.add_argument("-v", "--verbose", action="count", default=0)
parser.add_argument("--many", nargs="+", type=float)
parser.add_argument("--any", nargs="*")
parser.add_argument("--two", nargs=2, type=int)
parser.add_argument("--append", action="append", type=float)
parser.add_argument("--extend", action="extend", nargs="+")
parser.add_argument("--pairs", action="append", nargs=2, type=int)
parser.add_argument("--json", type=json.loads)
parser.add_argument("--literal", type=ast.literal_eval)
parser.add_argument("--truth", type=lambda text: text.lower() == "true", nargs="?", const=True)
parser.add_argument("-b", "--batch", dest="batch_size", type=int)
parser.add_argument("--choice", choices=["a", "b"])
parser.add_argument("--lower", choices=("true", "false", "auto"))
group = parser.add_mutually_exclusive_group()
group.add_argument("--one", action="store_true")
group.add_argument("--other", action="store_true")
"""


@pytest.fixture(scope="module")
def parser():
    """The program's parser, as it is when the program runs."""
    scope = {}
    exec(ARGPARSE, scope)
    return scope["parser"]


@pytest.mark.parametrize(
    ("raw", "parsed"),
    [
        ({"amp": "true"}, {"amp": True}),
        ({"amp": "false"}, {"amp": False}),
        ({"amp": "True"}, {"amp": True}),
        ({"amp": '"False"'}, {"amp": False}),
        ({"amp": "1"}, {"amp": True}),
        ({"amp": "no"}, {"amp": False}),
        ({"gate": "true"}, {"gate": 1}),
        ({"gate": '"False"'}, {"gate": 0}),
        ({"gate": "-12"}, {"gate": -12}),
        ({"amp": "null"}, {"amp": False}),
        ({"amp": ""}, {"amp": False}),
        ({"q": "True"}, {"q": True}),
        ({"shuffle": "False"}, {"shuffle": False}),
        ({"shuffle": "true"}, {"shuffle": True}),
        ({"no-cuda": "true"}, {"cuda": False}),
        ({"no_cuda": "False"}, {"cuda": True}),
        ({"cuda": "false"}, {"cuda": False}),
        ({"cuda": "true"}, {"cuda": True}),
        ({"fast": "false"}, {"fast": False}),
        ({"fast": "true"}, {"fast": True}),
        ({"no_fast": "true"}, {"fast": False}),
        ({"compile": "True"}, {"compile": True}),
        ({"compile": "false"}, {"compile": False}),
        ({"no-compile": "true"}, {"compile": False}),
        ({"no_compile": "false"}, {"compile": True}),
        ({"pin": "true"}, {"pin": True}),
        ({"pin": "False"}, {"pin": False}),
        ({"pin": "0"}, {"pin": False}),
        ({"pin": "null"}, {"pin": False}),
        ({"text": "true"}, {"text": "True"}),
        ({"text": "False"}, {"text": "False"}),
        ({"text": "1"}, {"text": "1"}),
        ({"text": "[1, true]"}, {"text": "[1, true]"}),
        ({"const": "true"}, {"const": 7}),
        ({"const": "false"}, {"const": 0}),
        ({"verbose": "3"}, {"verbose": 3}),
        ({"verbose": "0"}, {"verbose": 0}),
        ({"v": "true"}, {"verbose": 1}),
        ({"many": "[30, 60]"}, {"many": [30, 60]}),
        ({"many": "[-1e-3, 2]"}, {"many": [-0.001, 2]}),
        ({"many": "[]"}, {"many": None}),
        ({"any": '["-1e-3", "-1E2", 1e999999999]'}, {"any": ["-0.001", "-100", "1e999999999"]}),
        ({"many": "3"}, {"many": [3]}),
        ({"any": '["a b", "c", true, null, 1.10]'}, {"any": ["a b", "c", "True", "", "1.10"]}),
        ({"any": '[{"a": 1}, 2]'}, {"any": ['{"a": 1}', "2"]}),
        ({"two": "[1, 2]"}, {"two": [1, 2]}),
        ({"append": "[1, -2e-3]"}, {"append": [1, -0.002]}),
        ({"append": "5"}, {"append": [5]}),
        ({"append": "[]"}, {"append": None}),
        ({"extend": '["a", "b"]'}, {"extend": ["a", "b"]}),
        ({"pairs": "[[1, 2], [3, 4]]"}, {"pairs": [[1, 2], [3, 4]]}),
        ({"pairs": "[1, 2]"}, {"pairs": [[1, 2]]}),
        ({"json": '[1, {"a": null}]'}, {"json": [1, {"a": None}]}),
        ({"json": "[-1]"}, {"json": [-1]}),
        ({"json": "true"}, {"json": True}),
        ({"json": "null"}, {"json": None}),
        ({"json": "adam"}, {"json": "adam"}),
        ({"json": '"5"'}, {"json": "5"}),
        ({"json": "-1e-3"}, {"json": -0.001}),
        ({"literal": "null"}, {"literal": None}),
        ({"literal": "true"}, {"literal": True}),
        ({"lower": "true"}, {"lower": "true"}),
        ({"lower": '"False"'}, {"lower": "false"}),
        ({"lower": "auto"}, {"lower": "auto"}),
        ({"literal": "[true, null]"}, {"literal": [True, None]}),
        ({"literal": '{"a": false}'}, {"literal": {"a": False}}),
        ({"truth": "false"}, {"truth": False}),
        ({"batch_size": "4"}, {"batch_size": 4}),
        ({"batch": "4"}, {"batch_size": 4}),
        ({"b": "4"}, {"batch_size": 4}),
        ({"choice": "b"}, {"choice": "b"}),
        ({"one": "true", "other": "false"}, {"one": True, "other": False}),
    ],
)
def test_argparse_gets_what_was_meant(words, parser, raw, parsed):
    """Each kind of option, in each form that SDK, boto3 and people give a value."""
    found = vars(parser.parse_args(words(raw, ARGPARSE)))
    assert found == {**vars(parser.parse_args([])), **parsed}


@pytest.mark.parametrize("raw", [{"amp": "maybe"}, {"verbose": "1000000000"}, {"new": "true"}])
def test_other_values_are_passed_as_they_are(words, raw):
    """The program says what is wrong with them, as it would under the toolkit."""
    [(key, text)] = raw.items()
    assert words(raw, ARGPARSE) == [f"--{key}", "True" if text == "true" else text]


CLICK = """
import click
@click.command()
@click.option("--learning-rate", type=float)
@click.option("--amp/--no-amp", default=None)
@click.option("--shuffle", is_flag=True)
@click.option("--xs", multiple=True, type=float)
@click.option("--two", nargs=2, type=int)
@click.option("-v", "--verbose", count=True)
@click.option("--plain", type=bool)
@click.option("--quick", "speed", flag_value="quick")
def main(**given):
    return given
"""


@pytest.mark.parametrize(
    ("raw", "parsed"),
    [
        ({"learning_rate": "-1e-3"}, {"learning_rate": -0.001}),
        ({"amp": "true"}, {"amp": True}),
        ({"amp": "False"}, {"amp": False}),
        ({"no_amp": "true"}, {"amp": False}),
        ({"shuffle": "True"}, {"shuffle": True}),
        ({"shuffle": "false"}, {"shuffle": False}),
        ({"xs": "[1, -2]"}, {"xs": (1, -2)}),
        ({"two": "[1, 2]"}, {"two": (1, 2)}),
        ({"verbose": "2"}, {"verbose": 2}),
        ({"plain": "false"}, {"plain": False}),
        ({"quick": "true"}, {"speed": "quick"}),
    ],
)
def test_click_gets_what_was_meant(words, raw, parsed):
    """The options of a click command."""
    scope = {}
    exec(CLICK, scope)
    found = scope["main"].main(words(raw, CLICK), standalone_mode=False)
    assert found == {**scope["main"].main([], standalone_mode=False), **parsed}


TYPER = """
import typer
from typing import Annotated, List, Optional
app = typer.Typer()
@app.command()
def main(
    path: str,
    learning_rate: float = 0.1,
    amp: bool = False,
    xs: List[int] = [],
    pair: tuple[int, int] = (1, 2),
    forced: Annotated[bool, typer.Option("--force")] = False,
    level: Annotated[int, typer.Option("--verbose", count=True)] = 0,
    ys: Annotated[Optional[list[str]], typer.Option()] = None,
    place: str = typer.Argument("here"),
    quick: "bool | None" = typer.Option(None, "--quick/--slow"),
    *,
    last: bool = True,
): ...
"""
TYRO = """
import dataclasses, tyro
@dataclasses.dataclass
class Settings:
    data: bool
    amp: bool = False
    xs: tuple[int, ...] = ()
    y_s: "list[float] | None" = None
    either: int | str = 1
    k: int = 1
    weights: dict[str, float] = dataclasses.field(default_factory=dict)
    broken: "list[" = None
def main(keep_all: bool = True, *, zs: list[int] = ()): ...
tyro.cli(main)
"""
HUGGING_FACE = """
from dataclasses import dataclass, field
from transformers import HfArgumentParser
@dataclass
class Settings:
    amp: bool = False
    xs: list[int] = field(default_factory=list)
    k: int = 1
"""
RENAMED = """
import configargparse
parser = configargparse.ArgParser()
add = parser.add_argument
add("--amp", action="store_true")
parser.add("--xs", nargs="*", type=int)
parser.add("--ys", nargs="*", action="append")
"""
TYPES_OF_FIELDS = """
import argparse, dataclasses
@dataclasses.dataclass
class Settings:
    amp: bool = False
    rate: float = 1.0
for field in dataclasses.fields(Settings):
    parser.add_argument(f"--{field.name}", type=field.type, default=field.default)
"""
TYPES_CHECKED = TYPES_OF_FIELDS.replace("type=field.type", "type=boolean if bool else field.type")
PAIRS_OF_CLICK = """
import click
@click.option("--pair", nargs=2, multiple=True, type=(str, int))
def main(**given): ...
"""
ABSL = """
from absl import flags
flags.DEFINE_bool("amp", False, "")
flags.DEFINE_list("xs", [], "")
flags.DEFINE_multi_integer("ys", [], "")
flags.DEFINE_string("name", "", "")
"""
HYDRA = """
import hydra
@hydra.main(version_base=None, config_path="conf")
def main(config): ...
"""
HYDRA_BY_NAME = """
from hydra import main as configured
@configured(version_base=None)
def main(config): ...
"""


@pytest.mark.parametrize(
    ("source", "key", "raw", "expected"),
    [
        (TYPER, "learning_rate", "1e-3", "--learning-rate 1e-3"),
        (TYPER, "amp", "true", "--amp"),
        (TYPER, "amp", "False", "--no-amp"),
        (TYPER, "last", "false", "--no-last"),
        (TYPER, "xs", "[1, -2]", "--xs 1 --xs -2"),
        (TYPER, "ys", '["a"]', "--ys a"),
        (TYPER, "pair", "[1, 2]", "--pair 1 2"),
        (TYPER, "force", "true", "--force"),
        (TYPER, "force", "false", ""),
        (TYPER, "verbose", "2", "--verbose --verbose"),
        (TYPER, "quick", "false", "--slow"),
        (TYPER, "path", "/x", "--path /x"),
        (TYPER, "place", "/x", "--place /x"),
        (TYRO, "amp", "false", "--no-amp"),
        (TYRO, "data", "false", "--data False"),
        (TYRO, "keep_all", "true", "--keep-all"),
        (TYRO, "xs", "[1, 2]", "--xs 1 2"),
        (TYRO, "y_s", "[-1e-3]", "--y-s -0.001"),
        (TYRO, "zs", "[1]", "--zs 1"),
        (TYRO, "k", "3", "--k 3"),
        (TYRO, "weights", '{"a": 1e-3, "b": 2}', "--weights a 1e-3 b 2"),
        (TYRO, "weights", "3", "--weights 3"),
        (HUGGING_FACE, "k", "3", "--k 3"),
        (RENAMED, "xs", "[[1, 2], [3]]", "--xs [1, 2] [3]"),
        (RENAMED, "ys", "[[1.10, 2], [3]]", "--ys 1.10 2 --ys 3"),
        (TYPES_OF_FIELDS, "amp", "False", "--amp "),
        (TYPES_OF_FIELDS, "amp", "true", "--amp True"),
        (TYPES_OF_FIELDS, "rate", "1e-3", "--rate 1e-3"),
        (TYPES_CHECKED, "amp", "False", "--amp False"),
        (PAIRS_OF_CLICK, "pair", '[["a", 1], ["b", 2]]', "--pair a 1 --pair b 2"),
        (RENAMED, "amp", "False", ""),
        (RENAMED, "amp", "True", "--amp"),
        (RENAMED, "xs", "[1, 2]", "--xs 1 2"),
        (TYRO, "either", "[1]", "--either [1]"),
        (TYRO, "broken", "[1]", "--broken [1]"),
        (HUGGING_FACE, "amp", "false", "--amp False"),
        (HUGGING_FACE, "xs", "[1, 2]", "--xs 1 2"),
        (ABSL, "amp", "False", "--amp=false"),
        (ABSL, "amp", "true", "--amp=true"),
        (ABSL, "xs", '["a", "b"]', "--xs a,b"),
        (ABSL, "ys", "[1, 2]", "--ys 1 --ys 2"),
        (ABSL, "name", "x", "--name x"),
        (HYDRA, "lr", "1e-3", "lr=1e-3"),
        (HYDRA, "flag", "true", "flag=true"),
        (HYDRA_BY_NAME, "flag", "true", "flag=true"),
        (HYDRA, "none", "null", "none=null"),
        (HYDRA, "model.name", "resnet-50", "model.name=resnet-50"),
        (HYDRA, "version", '"1.10"', "version='1.10'"),
        (HYDRA, "text", "it's \\ a,b", "text='it\\'s \\\\ a,b'"),
        (HYDRA, "empty", "", "empty=''"),
        (HYDRA, "xs", '[1, "a b"]', "xs=[1,'a b']"),
        (HYDRA, "o", '{"a": {"b": null}}', "o={a:{b:null}}"),
    ],
)
def test_what_other_libraries_take(words, source, key, raw, expected):
    """Seen with typer 0.29, tyro 1.0, transformers 5.24, absl 2.5 and hydra 1.3 themselves."""
    assert " ".join(words({key: raw}, source)) == expected


@pytest.mark.parametrize(
    ("declared", "key"),
    [("--learning-rate", "learning_rate"), ("--learning_rate", "learning-rate")],
)
def test_declared_spelling_wins(words, declared, key):
    """A hyphen and an underscore are the same to the user, so they are to us."""
    assert words({key: "1"}, f"p.add_argument({declared!r})") == [declared, "1"]


def test_options_of_another_file(words, tmp_path):
    """A file beside the program that it imports declares too, and the program's own word wins."""
    (tmp_path / "args.py").write_text(
        "p.add_argument('--amp', action='store_true')\np.add_argument('--xs', nargs='+')\n"
    )
    (tmp_path / "settings.py").write_text("@dataclass\nclass A:\n    ys: list[int] = None\n")
    (tmp_path / "unrelated.py").write_text("p.add_argument('--text', action='store_true')")
    raw = {"amp": "true", "text": "true", "xs": "[1, 2]", "ys": "[1, 2]"}
    own = "from args import *\nfrom .settings import A\nHfArgumentParser(A)\n"
    assert words(raw, f"{own}from transformers import HfArgumentParser\n") == [
        "--amp", "--text", "True", "--xs", "1", "2", "--ys", "1", "2",
    ]  # fmt: skip
    source = "import args, json\np.add_argument('--amp', type=bool)"
    assert words({"amp": "false"}, source) == ["--amp", ""]


@pytest.mark.parametrize("source", ["def broken(:", "\0", "parser.add_argument(*NAMES, **rest)"])
def test_unreadable_program_gets_the_default(words, source):
    """What can't be read changes nothing; Python will say what is wrong with it."""
    assert words({"a_b": "true"}, source) == ["--a_b", "True"]


def test_shell_program_gets_the_default(words):
    """Only Python source declares options."""
    assert words({"amp": "true"}, ARGPARSE, "train.sh") == ["--amp", "True"]


@settings(max_examples=40)
@given(st.dictionaries(NAMES, st.text(max_size=20).filter("--".__ne__)))
def test_any_text_arrives(tmp_path_factory, raw):
    """Whatever string a hyperparameter holds, argparse gets it (but --, which it always eats)."""
    program = tmp_path_factory.mktemp("program") / "train.py"
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in raw:
        parser.add_argument(f"--{name}")
    encoded = {name: json.dumps(text) for name, text in raw.items()}
    parsed = parser.parse_args(arguments_for(Hyperparameters(encoded), program))
    assert vars(parsed) == raw
