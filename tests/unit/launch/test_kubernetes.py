"""Manifests: that what SageMaker gives a container, a cluster gives it too.

That they have the shapes which Kubernetes, Kubeflow and KServe take is tests/kubernetes' business.
"""

from __future__ import annotations

import json

import pytest
from tests.unit.launch.conftest import WHERE, hyphened

from sagemaker_byoc.launch import endpoint, train
from sagemaker_byoc.launch.errors import SettingsError
from sagemaker_byoc.launch.kubernetes import serving, training


@pytest.fixture
def job(folder):
    def make(**keys):
        table = {"name": "digits", "image": "byoc-train", **hyphened(keys)}
        return training.manifests(train.read(WHERE, table, folder))

    return make


@pytest.fixture
def served(folder):
    def make(flavour=serving.deployment, **keys):
        table = {"name": "digits", "image": "byoc-serve", **hyphened(keys)}
        return flavour(endpoint.read(WHERE, table, folder))

    return make


def pod_of(replica):
    return replica["template"]["spec"]


def test_a_job_over_three_hosts(job):
    config, made = job(
        instance_count=3,
        max_runtime="1h",
        channels={"train": "s3://b/p"},
        hyperparameters={"epochs": 3},
        environment={"HF_TOKEN": "topsecret", "MODE": "fast"},
        kubernetes={
            "channels": {"train": "pvc:data/digits"},
            "model": "pvc:data/out",
            "gpus": 2,
            "memory": "8Gi",
            "namespace": "ml",
        },
    )
    assert json.loads(config["data"]["hyperparameters.json"]) == {"epochs": "3"}
    assert list(json.loads(config["data"]["inputdataconfig.json"])) == ["train"]
    replicas = made["spec"]["pytorchReplicaSpecs"]
    assert [(name, each["replicas"]) for name, each in replicas.items()] == [
        ("Master", 1),
        ("Worker", 2),
    ]
    assert made["spec"]["runPolicy"]["activeDeadlineSeconds"] == 3600
    for name, replica in replicas.items():
        pod = pod_of(replica)
        (container,) = pod["containers"]
        assert (container["name"], container["args"]) == ("pytorch", ["train"])
        assert container["ports"] == [{"name": "pytorchjob-port", "containerPort": 23456}]
        assert container["resources"]["limits"] == {"memory": "8Gi", "nvidia.com/gpu": "2"}
        mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
        assert mounts["/opt/ml/input/data/train"]["readOnly"]
        assert mounts["/opt/ml/input/config"]["name"] == "config"
        assert ("subPath" in mounts["/opt/ml/model"]) == (name == "Master")
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes.keys()
        assert volumes["config"]["configMap"]["name"] == config["metadata"]["name"]
        assert volumes["shared-memory"]["emptyDir"] == {"medium": "Memory"}
        assert pod["terminationGracePeriodSeconds"] == 120
    assert "topsecret" not in json.dumps([config, made])
    env = pod_of(replicas["Master"])["containers"][0]["env"]
    assert {"name": "MODE", "value": "fast"} in env
    reference = {"secretKeyRef": {"name": "digits-secrets", "key": "HF_TOKEN"}}
    assert {"name": "HF_TOKEN", "valueFrom": reference} in env


def test_a_changed_job_is_another(job):
    """A PyTorchJob can't be changed once it is made."""
    names = {job(hyperparameters={"epochs": n})[1]["metadata"]["name"] for n in (1, 1, 2)}
    assert len(names) == 2


def test_a_deployment_is_drained(served):
    """Routes go first, then SIGTERM, then SageMaker's thirty seconds."""
    made, service = served(
        instance_count=2,
        startup_timeout="10m",
        model="job:digits",
        kubernetes={"model": "pvc:models/digits"},
    )
    pod = pod_of(made["spec"])
    (container,) = pod["containers"]
    assert container["args"] == ["serve"]
    assert container["lifecycle"]["preStop"]["exec"]["command"] == ["sleep", "5"]
    assert pod["terminationGracePeriodSeconds"] == 35
    startup = container["startupProbe"]
    assert startup["failureThreshold"] * startup["periodSeconds"] == 600
    assert startup["httpGet"] == {"path": "/ping", "port": 8080}
    annotations = made["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/path"] == "/metrics"
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert service["spec"]["selector"] == made["spec"]["selector"]["matchLabels"]
    assert service["spec"]["ports"][0]["targetPort"] == container["ports"][0]["name"]


def test_kserve_fetches_the_model(served):
    """Into /opt/ml/model, where the image looks for it."""
    (made,) = served(serving.inference_service, kubernetes={"model": "s3://b/digits/model.tar.gz"})
    predictor = made["spec"]["predictor"]
    assert predictor["storageUris"] == [
        {"uri": "s3://b/digits/model.tar.gz", "mountPath": "/opt/ml/model"}
    ]
    (container,) = predictor["containers"]
    assert container["name"] == "kserve-container"
    assert container["readinessProbe"]["httpGet"]["path"] == "/ping"
    # In KServe's serverless mode Knative refuses these.
    assert not {"lifecycle", "startupProbe"} & container.keys()
    assert "terminationGracePeriodSeconds" not in predictor


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"name": "Digits_1"}, "Kubernetes would not take"),
        ({"name": "d" * 40}, "Kubernetes would not take"),
        ({"image": ""}, "image is missing"),
        ({"channels": {"train": "data/train"}}, "channels.train is missing"),
        ({"hyperparameters": {"api_token": "x"}}, "would stand in a ConfigMap"),
        ({"kubernetes": {"model": "s3://b/p"}}, "model is 's3://b/p'"),
        ({"kubernetes": {"model": "pvc:a/../../b"}}, "model is 'pvc:a/../../b'"),
        ({"kubernetes": {"cpu": 1}}, "there is no key cpu"),
        ({"kubernetes": {"cpus": 1.5}}, "cpus is '1.5'"),
        ({"kubernetes": {"processes": 0}}, "processes is '0'"),
    ],
)
def test_what_no_job_is_made_of(job, keys, words):
    with pytest.raises(SettingsError) as caught:
        job(**keys)
    assert words in caught.value.what
    assert caught.value.cure


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"model": "job:digits"}, "model is missing"),
        ({"kubernetes": {"model": "s3://b/p"}}, "nobody to fetch"),
        ({"kubernetes": {"model": "/data"}}, "model is '/data'"),
        ({"kubernetes": {"channels": {}}}, "there is no key channels"),
    ],
)
def test_what_no_deployment_is_made_of(served, keys, words):
    with pytest.raises(SettingsError) as caught:
        served(**keys)
    assert words in caught.value.what
