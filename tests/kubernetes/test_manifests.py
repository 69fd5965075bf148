"""What `byoc launch --kubernetes --print` says, held against the schemas of those who read it.

Needs BYOC_KUBERNETES_PYTHON, the Python of an environment that scripts/kubernetes-env makes.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from sagemaker_byoc.cli.main import main

PYTHON = os.environ.get("BYOC_KUBERNETES_PYTHON")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON, reason="no BYOC_KUBERNETES_PYTHON: scripts/kubernetes-env"),
]
SECONDS = 120
FULL = """
[tool.byoc]
name = "digits"
[tool.byoc.train]
image = "registry.example.com/digits-train:1"
instance-count = 3
max-runtime = "2h"
channels = {train = "data", test = "s3://b/p"}
hyperparameters = {epochs = 3, name = "yes", shape = [1, 2]}
environment = {HF_TOKEN = "topsecret", MODE = "on", EMPTY = ""}
[tool.byoc.train.kubernetes]
namespace = "ml"
cpus = 4
memory = "16Gi"
gpus = 2
user = 1000
service-account = "trainer"
image-pull-secrets = ["registry"]
node-selector = {"node.kubernetes.io/instance-type" = "g5.xlarge"}
channels = {train = "pvc:data/train", test = "pvc:data/test"}
model = "pvc:models/digits"
checkpoints = "pvc:models"
[tool.byoc.endpoint]
image = "registry.example.com/digits-serve:1"
instance-count = 2
model = "job:digits"
environment = {HF_TOKEN = "topsecret", BYOC_BATCH = "8"}
[tool.byoc.endpoint.kubernetes]
cpus = "2"
memory = "4Gi"
model = "pvc:models/digits"
"""
SMALL = """
[tool.byoc]
name = "digits"
[tool.byoc.train]
image = "byoc-train"
[tool.byoc.endpoint]
image = "byoc-serve"
"""
KINDS = [("train", ""), ("endpoint", ""), ("endpoint", "kserve")]
HOSTILE = [
    "",
    " ",
    "yes",
    "no",
    "on",
    "Off",
    "null",
    "~",
    "true",
    "1",
    "1.0",
    "0x1f",
    "1e3",
    "0o7",
    "012",
    "1_000",
    "2026-01-01",
    "2026-01-01T00:00:00Z",
    "12:30",
    "190:20:30",
    ".inf",
    "-.INF",
    ".nan",
    "- a",
    "a: b",
    "a:",
    "a #b",
    "#",
    "*x",
    "&x",
    "!x",
    "!!binary x",
    "%x",
    "@x",
    "`x`",
    "{a}",
    "[a]",
    "'a'",
    '"a"',
    "|",
    ">",
    "?",
    "=",
    "<<",
    "---",
    "...",
    "a\nb",
    "\n",
    "a\tb",
    "\t",
    "a\r\nb",
    " a",
    "a ",
    "\u2028",
    "\u00e9",
    "\U0001f600",
    "\x07",
    "\x7f",
    "\x85",
    "\ufeff",
    "\ufffe",
    "\\",
    "\\n",
    "$",
    "$$",
    "$(A)",
    "$$(A)",
    "${A}",
    "$(",
    "x" * 2500,
    "*",
    "key: |\n  block",
    "a\n---\nkind: Pod",
]


def problems(manifests):
    done = subprocess.run(
        [PYTHON, str(Path(__file__).with_name("schemas.py"))],
        input=manifests, capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def printed(tmp_path, capsys):
    def printed(settings, kind, flavour, *more):
        file = tmp_path / "launch.toml"
        file.write_text(settings)
        words = ["launch", kind, "--config", str(file), "--print", *more, "--kubernetes"]
        assert main([*words, *([flavour] if flavour else [])]) == 0
        return capsys.readouterr().out

    return printed


@pytest.mark.parametrize(("kind", "flavour"), KINDS)
@pytest.mark.parametrize("settings", [FULL, SMALL])
def test_manifests_are_what_a_cluster_takes(printed, settings, kind, flavour):
    text = printed(settings, kind, flavour)
    assert problems(text) == []
    assert "topsecret" not in text


@pytest.mark.parametrize("flavour", ["kserve", "kserve-serverless"])
def test_kserve_with_a_model_of_s3(printed, flavour):
    settings = FULL.replace('model = "pvc:models/digits"', 'model = "s3://b/digits/model.tar.gz"')
    assert problems(printed(settings, "endpoint", flavour)) == []


def test_hostile_names_and_values(printed):
    """Each is either taken by the schemas and read back as it was written, or refused before."""
    values = {f"V{number}": text for number, text in enumerate(HOSTILE)}
    table = {
        "name": "d" * 63,
        "image": "registry.example.com/digits:1",
        "environment": values,
        "hyperparameters": values,
    }
    settings = "".join(
        f"[tool.byoc.{kind}]\n{toml(table | more)}" for kind, more in
        (("train", {}), ("endpoint", {"hyperparameters": None}))
    )  # fmt: skip
    texts = [printed(settings, *each) for each in [*KINDS, ("endpoint", "kserve-serverless")]]
    assert problems("---\n".join(texts)) == []
    for manifest in (each for text in texts for each in read(text)):
        for name, text in environment(manifest).items():
            if name in values:
                assert text == values[name].replace("$", "$$"), name
        if manifest["kind"] == "ConfigMap":
            assert json.loads(manifest["data"]["hyperparameters.json"]) == values


def toml(table):
    """JSON's text is TOML's, but for DEL and the halves of large characters."""
    lines = []
    for key, value in table.items():
        if isinstance(value, dict):
            inner = ", ".join(f"{name} = {quoted(text)}" for name, text in value.items())
            lines.append(f"{key} = {{{inner}}}\n")
        elif value is not None:
            lines.append(f"{key} = {quoted(value)}\n")
    return "".join(lines)


def quoted(text):
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def read(text):
    """The documents of a YAML text, by the reader that the schemas' environment has."""
    reader = "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(sys.stdin))))"
    done = subprocess.run(
        [PYTHON, "-c", reader], input=text,
        capture_output=True, text=True, timeout=SECONDS, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


def environment(value):
    """The variables of every container in a manifest."""
    found = {}
    if isinstance(value, dict):
        for entry in value.get("env", ()):
            if "value" in entry:
                found[entry["name"]] = entry["value"]
        value = [*value.values()]
    if isinstance(value, list):
        for each in value:
            found |= environment(each)
    return found


@pytest.mark.parametrize(("kind", "flavour"), KINDS)
def test_yaml_and_json_say_the_same(printed, kind, flavour):
    assert (
        read(printed(FULL, kind, flavour))
        == json.loads(printed(FULL, kind, flavour, "--json"))["items"]
    )


@pytest.mark.parametrize(
    ("kind", "flavour", "right", "wrong"),
    [
        ("train", "", "nprocPerNode: auto", "nprocPerNode: 2"),
        ("train", "", "pytorchReplicaSpecs:", "replicaSpecs:"),
        ("train", "", "restartPolicy:", "restart:"),
        ("train", "", "containerPort: 23456", "containerPort: many"),
        ("train", "", "claimName:", "claim:"),
        ("endpoint", "", "failureThreshold: 2", "failureThresholds: 2"),
        ("endpoint", "", "targetPort:", "target:"),
        ("endpoint", "kserve", "minReplicas: 2", "minReplicas: two"),
        ("endpoint", "kserve", "containers:", "container:"),
        ("endpoint", "kserve", "startupProbe:", "startProbe:"),
    ],
)
def test_the_schemas_find_what_is_wrong(printed, kind, flavour, right, wrong):
    """Or they would not be worth asking."""
    text = printed(FULL, kind, flavour)
    assert right in text
    assert problems(re.sub(re.escape(right), wrong, text))
