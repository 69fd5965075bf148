"""Settings: what is read, and how each mistake is answered."""

from __future__ import annotations

import pytest
from tests.unit.launch.conftest import WHERE

from sagemaker_byoc.launch import endpoint, train
from sagemaker_byoc.launch.table import SettingsError, overlaid, parse_toml


def test_numbers_stay_as_they_were_written(folder):
    """1.10 may be a version, and a container is only given text."""
    text = "[h]\nversion = 1.10\nrate = 1e-3\nmany = 10\nfast = true\nname = 'x'\nshape = [1, 2]"
    table = {"hyperparameters": parse_toml(text)["h"]}
    found = train.read(WHERE, table, folder).hyperparameters
    assert found == {
        "version": "1.10",
        "rate": "1e-3",
        "many": "10",
        "fast": "true",
        "name": "x",
        "shape": "[1, 2]",
    }


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("instance-type=ml.g5.xlarge", {"instance-type": "ml.g5.xlarge"}),
        ("instance-count=2", {"instance-count": 2}),
        ("hyperparameters.epochs=3", {"hyperparameters": {"epochs": 3, "lr": "1"}}),
        ('hyperparameters."a.b"=x=y', {"hyperparameters": {"a.b": "x=y", "lr": "1"}}),
        ("spot=true", {"spot": True}),
        ('subnets=["a", "b"]', {"subnets": ["a", "b"]}),
    ],
)
def test_set(setting, expected):
    """A key of the table, or of a table in it; the value is TOML, or else text."""
    base = {"hyperparameters": {"lr": "1"}}
    assert overlaid(base, [setting]) == base | expected
    assert base == {"hyperparameters": {"lr": "1"}}


@pytest.mark.parametrize("setting", ["epochs", "=3", "a b=3"])
def test_set_that_is_none(setting):
    with pytest.raises(SettingsError, match="is not KEY=VALUE") as caught:
        overlaid({}, [setting])
    assert "3" not in caught.value.what  # the value may be a secret


@pytest.mark.parametrize(
    ("table", "what", "hint"),
    [
        ({"instance_type": "ml.m5.large"}, "there is no key instance_type", "instance-type"),
        ({"hyperparameter": {}}, "no key hyperparameter", "Did you mean hyperparameters"),
        ({"zzz": 1}, "there is no key zzz", "Use bucket, channels"),
        ({"max-runtime": "soon"}, "max-runtime is 'soon'", "2h30m"),
        ({"max-runtime": 0}, "max-runtime is '0'", "2h30m"),
        ({"instance-count": 0}, "instance-count is '0'", "1 or more"),
        ({"instance-count": True}, "instance-count is 'true'", "1 or more"),
        ({"spot": "yes"}, "spot is 'yes'", "spot = true"),
        ({"max-wait": "1h"}, "max-wait is '1h'", "spot = true"),
        ({"channels": "data"}, "channels is 'data'", "channels = {"),
        (
            {"channels": {"train": {"sauce": "x"}}},
            "channels.train: there is no key sauce",
            "source",
        ),
        ({"channels": {"train": {}}}, "channels.train: source is missing", "source ="),
        ({"channels": {"train": 3}}, "channels.train is '3', not a table", "KEY = VALUE"),
        ({"output": "out"}, "output is 'out'", "s3://BUCKET"),
        ({"checkpoints": "out"}, "checkpoints is 'out'", "checkpoints = true"),
        ({"subnets": ["subnet-1"]}, "security-groups is missing", "both"),
        ({"environment": "API_KEY=topsecret"}, "environment is a str", "environment ="),
        ({"image": 3}, "image is '3'", 'image = "TEXT"'),
        ({"request": {"CreateModel": {}}}, "there is no key CreateModel", "CreateTrainingJob"),
    ],
)
def test_a_mistake_is_named_with_its_hint(table, what, hint, folder):
    with pytest.raises(SettingsError) as caught:
        train.read(WHERE, table, folder)
    assert what in caught.value.what
    assert hint in caught.value.hint
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("table", "what"),
    [
        ({"hyperparameters": {}}, "no key hyperparameters"),
        ({"serverless": {"memory": 1}}, "serverless: there is no key memory"),
        ({"serverless": {}, "instance-type": "ml.m5.large"}, "instance-type is 'ml.m5.large'"),
        ({"serverless": {}, "ami-version": "al2-ami-x"}, "ami-version is 'al2-ami-x'"),
        ({"serverless": {}, "startup-timeout": "10m"}, "startup-timeout is '10m'"),
    ],
)
def test_a_mistake_in_an_endpoint(table, what, folder):
    with pytest.raises(SettingsError) as caught:
        endpoint.read(WHERE, table, folder)
    assert what in caught.value.what


@pytest.mark.parametrize(
    ("written", "seconds"), [(90, 90), ("90s", 90), ("2h30m", 9000), ("1d 1h", 90000)]
)
def test_durations(written, seconds, folder):
    assert train.read(WHERE, {"max-runtime": written}, folder).max_runtime == seconds
