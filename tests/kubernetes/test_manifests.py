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


def test_kserve_with_a_model_of_s3(printed):
    settings = FULL.replace('model = "pvc:models/digits"', 'model = "s3://b/digits/model.tar.gz"')
    assert problems(printed(settings, "endpoint", "kserve")) == []


@pytest.mark.parametrize(("kind", "flavour"), KINDS)
def test_yaml_and_json_say_the_same(printed, kind, flavour):
    """Through the YAML reader that the schemas' environment has."""
    reader = "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(sys.stdin))))"
    done = subprocess.run(
        [PYTHON, "-c", reader], input=printed(FULL, kind, flavour),
        capture_output=True, text=True, timeout=SECONDS, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == json.loads(printed(FULL, kind, flavour, "--json"))["items"]


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
        ("endpoint", "kserve", "tcpSocket:", "tcp:"),
    ],
)
def test_the_schemas_find_what_is_wrong(printed, kind, flavour, right, wrong):
    """Or they would not be worth asking."""
    text = printed(FULL, kind, flavour)
    assert right in text
    assert problems(re.sub(re.escape(right), wrong, text))
