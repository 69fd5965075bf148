"""What a job may say: BYOC_WATCH, debughookconfig.json, profilerconfig.json."""

from __future__ import annotations

import json

import pytest

from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.contract.training.debugger import HookConfig, ProfilerConfig
from sagemaker_byoc.training.library.watch.settings import read_settings


@pytest.fixture
def tree(tmp_path):
    made = Tree(tmp_path)
    made.config.mkdir(parents=True)
    return made


def write(tree, name, document):
    (tree.config / name).write_text(document if isinstance(document, str) else json.dumps(document))


def names(settings):
    return [rule.name for rule in settings.rules]


def test_defaults(tree):
    """Every rule but those over activations, every 500 steps."""
    settings = read_settings("1", tree, {})
    assert len(settings.rules) == 20
    assert "DeadRelu" not in names(settings)
    assert (settings.save_interval, settings.action) == (500, "warn")


def test_rules_by_name(tree):
    """With commas, or as an object with parameters."""
    assert names(read_settings("DeadRelu, AllZero", tree, {})) == ["DeadRelu", "AllZero"]
    text = '{"rules": {"DeadRelu": {"threshold_layer": 30}}, "save_interval": 9, "action": "stop"}'
    settings = read_settings(text, tree, {})
    assert settings.rules[0].threshold_layer == 30
    assert (settings.save_interval, settings.action) == (9, "stop")
    assert len(read_settings("all", tree, {}).rules) == 23


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("{rules}", "Write something like"),
        ('{"rule": "x"}', "Use rules, save_interval, action, webhook"),
        ('{"action": "explode"}', "warn or stop"),
        ('{"save_interval": 0}', "from 1"),
        ('{"webhook": "file:///etc"}', "https://"),
    ],
)
def test_wrong(tree, text, hint):
    """Each names its hint."""
    with pytest.raises(ContractError, match=hint):
        read_settings(text, tree, {})


def test_hook_config(tree):
    """AWS's shape: strings everywhere, null where nothing was asked."""
    write(
        tree,
        "debughookconfig.json",
        {
            "S3OutputPath": "s3://bucket/key",
            "LocalPath": "/opt/ml/output/tensors",
            "HookParameters": {
                "save_interval": "100",
                "train.save_interval": "50",
                "end_step": "9",
            },
            "CollectionConfigurations": [
                {"CollectionName": "relu_output", "CollectionParameters": None}
            ],
        },
    )
    settings = read_settings("1", tree, {})
    assert (settings.save_interval, settings.end_step) == (50, 9)
    assert "DeadRelu" in names(settings)
    write(tree, "debughookconfig.json", {"HookParameters": None})
    assert HookConfig.read(tree, {}) == HookConfig()
    write(tree, "debughookconfig.json", {"HookParameters": {"save_interval": "often"}})
    with pytest.raises(ContractError, match="save_interval: is 'often'"):
        read_settings("1", tree, {})


def test_profiler_config(tree):
    """Nested text is a Python literal with a trailing comma; nothing is ever executed."""
    document = {
        "DisableProfiler": False,
        "ProfilingIntervalInMilliseconds": 100,
        "ProfilingParameters": {
            "LocalPath": "/opt/ml/output/profiler",
            "DetailedProfilingConfig": '{"StartStep": 5, "NumSteps": 3, }',
        },
    }
    write(tree, "profilerconfig.json", document)
    found = ProfilerConfig.read(tree, {})
    assert (found.interval_ms, found.start_step, found.steps) == (100, 5, 3)
    document["ProfilingParameters"]["DetailedProfilingConfig"] = "__import__('os').abort()"
    write(tree, "profilerconfig.json", document)
    with pytest.raises(ContractError, match="is not a literal"):
        ProfilerConfig.read(tree, {})
    write(tree, "profilerconfig.json", "{")
    with pytest.raises(ContractError, match="is not JSON"):
        ProfilerConfig.read(tree, {})
