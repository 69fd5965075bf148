"""Hyperparameters become a dataclass, or one error that says all that is wrong."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagemaker_byoc.training.library.schema import Choices, HyperparameterError, Range, parse


class Precision(Enum):
    FULL = "fp32"
    HALF = "bf16"


@dataclass
class Settings:
    epochs: Annotated[int, Range(1)]
    learning_rate: Annotated[float, Range(0, 1)] = 0.1
    version: str = "1"
    optimizer: Literal["adam", "sgd"] = "adam"
    precision: Precision = Precision.FULL
    shuffle: bool = True
    warmup: int | None = None
    out: Path = Path("out")
    layers: list[int] = field(default_factory=list)
    betas: tuple[float, float] = (0.9, 0.99)
    extra: dict[str, float] = field(default_factory=dict)
    anything: Any = None
    size: Annotated[str, Choices("s", "m")] = "s"
    limit: float = field(default=1.0, metadata={"range": Range(high=2)})
    api_token: int = 0


@pytest.mark.parametrize(
    ("key", "raw", "value"),
    [
        ("epochs", "3", 3),
        ("epochs", '"3"', 3),
        ("epochs", "3.0", 3),
        ("epochs", "1e2", 100),
        ("learning_rate", "1", 1.0),
        ("learning-rate", "1e-3", 0.001),
        ("learning_rate", '"0.5"', 0.5),
        ("version", "1.10", "1.10"),
        ("version", "0123", "0123"),
        ("version", '"1.10"', "1.10"),
        ("version", "true", "true"),
        ("version", "null", "null"),
        ("version", "", ""),
        ("version", "[1, 2]", "[1, 2]"),
        ("optimizer", '"sgd"', "sgd"),
        ("precision", "bf16", Precision.HALF),
        ("precision", "HALF", Precision.HALF),
        ("shuffle", "no", False),
        ("shuffle", "0", False),
        ("shuffle", '"False"', False),
        ("shuffle", "true", True),
        ("shuffle", "YES", True),
        ("warmup", "7", 7),
        ("warmup", "null", None),
        ("warmup", "", None),
        ("out", "/tmp/x", Path("/tmp/x")),
        ("layers", "[3, 4]", [3, 4]),
        ("layers", '["3"]', [3]),
        ("betas", "[0.5, 1]", (0.5, 1.0)),
        ("extra", '{"a": 1}', {"a": 1.0}),
        ("anything", '{"a": [1]}', {"a": [1]}),
        ("size", "m", "m"),
        ("limit", "2", 2.0),
    ],
)
def test_value(key, raw, value):
    """Each type takes the spellings of all clients."""
    found = getattr(parse(Settings, {"epochs": "1", key: raw}), key.replace("-", "_"))
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("key", "raw", "expected"),
    [
        ("epochs", "0", "an int from 1"),
        ("epochs", "true", "an int from 1"),
        ("epochs", "2.5", "an int from 1"),
        ("learning_rate", "2", "a float from 0 up to 1"),
        ("learning_rate", "NaN", "a float from 0 up to 1"),
        ("learning_rate", "fast", "a float from 0 up to 1"),
        ("optimizer", "adm", "one of adam, sgd"),
        ("precision", "fp8", "one of fp32, bf16"),
        ("shuffle", "2", "true or false"),
        ("warmup", "soon", "an int or null"),
        ("layers", "3", "a JSON list of an int"),
        ("layers", "[3, true]", "a JSON list of an int"),
        ("betas", "[1]", "a JSON list of a float, a float"),
        ("extra", '{"a": "b"}', "a JSON object of a text, a float"),
        ("size", "l", "a text among s, m"),
        ("limit", "3", "a float up to 2"),
    ],
)
def test_wrong_value(key, raw, expected):
    """The error names the key, the value and what is expected."""
    with pytest.raises(HyperparameterError) as caught:
        parse(Settings, {"epochs": "1", key: raw})
    [problem] = caught.value.problems
    assert str(problem) == f"{key} = {raw!r}: expected {expected}"


def test_everything_wrong_at_once():
    """One error for all: wrong, unknown, missing and given twice."""
    raw = {
        "lerning-rate": "0.1",
        "shuffle": "maybe",
        "version": "1",
        "api_token": "very secret",
        "layers": "[1]",
        "zzz": "1",
        "betas": json.dumps("x" * 100),
    }
    with pytest.raises(HyperparameterError) as caught:
        parse(Settings, raw)
    text = str(caught.value)
    assert "lerning-rate = '0.1': expected a known name, perhaps learning_rate" in text
    assert "shuffle = 'maybe': expected true or false" in text
    assert "zzz = '1': expected a known name: epochs, learning_rate, " in text
    assert "epochs is missing: expected an int from 1" in text
    assert "very secret" not in text
    assert "x" * 70 not in text
    assert len(caught.value.problems) == 6


def test_both_spellings():
    """`a-b` beside `a_b` is a mistake and not a race."""
    with pytest.raises(HyperparameterError, match="one spelling only"):
        parse(Settings, {"epochs": "1", "learning-rate": "0.1", "learning_rate": "0.2"})


def test_reserved_and_ignored_names():
    """The toolkit's keys are never unknown; others may be let pass."""
    raw = {"epochs": "1", "sagemaker_program": '"train.py"', "_tuning_objective_metric": "loss"}
    assert parse(Settings, raw).epochs == 1
    assert parse(Settings, {**raw, "other": "1"}, ignore_unknown=True).epochs == 1


@pytest.mark.parametrize("kind", [object, bytes, complex, list[bytes]])
def test_type_that_no_text_fits(kind):
    """A schema that can't be filled says so before any value is looked at."""
    schema = dataclass(type("Schema", (), {"__annotations__": {"a": kind}, "a": None}))
    with pytest.raises(TypeError, match="not a type for a hyperparameter"):
        parse(schema, {})


def test_schema_that_is_none():
    """Neither a class without fields nor one whose types can't be found is taken."""

    @dataclass
    class Local:
        a: Unknown  # noqa: F821

    with pytest.raises(TypeError, match="top level of a module"):
        parse(Local, {})
    with pytest.raises(TypeError, match="not a dataclass"):
        parse(dict, {})


@dataclass
class Types:
    number: float = 0.0
    count: int = 0
    text: str = ""
    flag: bool = False
    items: list[str] = field(default_factory=list)


@given(
    st.builds(
        Types, st.floats(allow_nan=False), st.integers(), st.text(), st.booleans(),
        st.lists(st.text()),
    )
)  # fmt: skip
def test_what_a_client_encodes_as_json_comes_back(settings):
    """The SDK's own way to send values."""
    raw = {name: json.dumps(value) for name, value in vars(settings).items()}
    if math.isinf(settings.number):
        raw["number"] = str(settings.number)
    assert parse(Types, raw) == settings


@given(st.text())
def test_raw_text_stays(text):
    """A str field gets what boto3 sent, unless that is a JSON string."""
    is_quoted = text.strip().startswith('"')
    assert is_quoted or parse(Types, {"text": text}).text == text
