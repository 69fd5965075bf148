"""Hyperparameters reach a program in the form that it can take."""

from __future__ import annotations

import argparse
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagemaker_byoc.contract.hyperparameters import Hyperparameters
from sagemaker_byoc.training.supervisor.arguments import arguments_for

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


DECLARATIONS = """
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--amp", action="store_true")
parser.add_argument("--shuffle", action="store_false")
parser.add_argument("--no-cuda", dest="cuda", action="store_false")
parser.add_argument("--compile", action=argparse.BooleanOptionalAction)
parser.add_argument("--pin", type=bool)
parser.add_argument("--text")
parser.add_argument("-q", action="store_true")
"""


@pytest.mark.parametrize(
    ("key", "when_true", "when_false"),
    [
        ("amp", ["--amp"], []),
        ("shuffle", [], ["--shuffle"]),
        ("no-cuda", ["--no-cuda"], []),
        ("no_cuda", ["--no-cuda"], []),
        ("compile", ["--compile"], ["--no-compile"]),
        ("pin", ["--pin", "True"], ["--pin", ""]),
        ("text", ["--text", "True"], ["--text", "False"]),
        ("undeclared", ["--undeclared", "True"], ["--undeclared", "False"]),
        ("q", ["-q"], []),
    ],
)
def test_boolean_has_the_declared_form(words, key, when_true, when_false):
    """The program that declares an option gets a boolean in the way that the option takes it."""
    assert words({key: "true"}, DECLARATIONS) == when_true
    assert words({key: "false"}, DECLARATIONS) == when_false


@pytest.mark.parametrize(
    ("declared", "key"),
    [("--learning-rate", "learning_rate"), ("--learning_rate", "learning-rate")],
)
def test_declared_spelling_wins(words, declared, key):
    """A hyphen and an underscore are the same to the user, so they are to us."""
    assert words({key: "1"}, f"p.add_argument({declared!r})") == [declared, "1"]


@pytest.mark.parametrize("source", ["def broken(:", "\0", "parser.add_argument(*NAMES, **rest)"])
def test_unreadable_program_gets_the_default(words, source):
    """What can't be read changes nothing; Python will say what is wrong with it."""
    assert words({"a_b": "true"}, source) == ["--a_b", "True"]


def test_shell_program_gets_the_default(words):
    """Only Python source declares options."""
    assert words({"amp": "true"}, DECLARATIONS, "train.sh") == ["--amp", "True"]


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
