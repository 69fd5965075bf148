"""Manifests: that what SageMaker gives a container, a cluster gives it too.

That they have the shapes which Kubernetes, Kubeflow and KServe take is tests/kubernetes' business.
"""

from __future__ import annotations

import json
import re

import pytest
from tests.unit.launch.conftest import WHERE, hyphened

from sagemaker_byoc.launch import endpoint, train
from sagemaker_byoc.launch.kubernetes import serving, training
from sagemaker_byoc.launch.table import Problems, SettingsError


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
    assert container["startupProbe"]["httpGet"]["path"] == "/ping"
    assert predictor["terminationGracePeriodSeconds"] == 35
    assert made["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == "RawDeployment"


KNATIVE_POD = {"containers", "volumes", "serviceAccountName", "imagePullSecrets"}
KNATIVE_CONTAINER = {
    "name", "image", "args", "env", "ports", "resources", "securityContext", "readinessProbe",
    "livenessProbe", "terminationMessagePolicy", "volumeMounts",
}  # fmt: skip
KNATIVE_SECURITY = {
    "allowPrivilegeEscalation", "capabilities", "readOnlyRootFilesystem", "runAsNonRoot",
    "runAsUser", "runAsGroup", "seccompProfile",
}  # fmt: skip
KSERVE_PREDICTOR = {"minReplicas", "maxReplicas", "timeout", "storageUris"}


def test_kserves_serverless_mode_gets_what_knative_takes(served):
    """Members as knative/serving's fieldmask.go lets them through, its features off."""
    (made,) = served(
        serverless,
        environment={"A": "1"},
        kubernetes={
            "model": "s3://bucket/digits/model.tar.gz",
            "service-account": "server",
            "image-pull-secrets": ["registry"],
            "memory": "1Gi",
        },
    )
    predictor = made["spec"]["predictor"]
    assert predictor.keys() <= KNATIVE_POD | KSERVE_PREDICTOR
    (container,) = predictor["containers"]
    assert container.keys() <= KNATIVE_CONTAINER
    assert container["securityContext"].keys() <= KNATIVE_SECURITY
    assert container["securityContext"]["runAsNonRoot"]
    assert container["ports"][0]["name"] in {"http1", "h2c"}
    assert {kind for volume in predictor["volumes"] for kind in volume} == {"name", "emptyDir"}
    assert made["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == "Serverless"


@pytest.mark.parametrize(
    ("keys", "flag"),
    [
        ({"kubernetes": {"node-selector": {"a": "b"}}}, "kubernetes.podspec-nodeselector"),
        ({"kubernetes": {"model": "pvc:a/b"}}, "kubernetes.podspec-persistent-volume-claim"),
        ({"environment": {"PORT": "80"}}, "Set it in the image"),
        ({"environment": {"STORAGE_URI": "s3://b/m"}}, "kubernetes.model"),
        ({"environment": {"PYTHONPATH": "/x"}}, "Set it in the image"),
    ],
)
def test_what_kserves_serverless_mode_refuses(served, keys, flag):
    with pytest.raises(SettingsError) as caught:
        served(serverless, **keys)
    assert flag in caught.value.hint


def test_a_gpu_in_serverless_mode_is_warned_about(served):
    problems = Problems()
    (made,) = served(lambda each: serverless(each, problems), kubernetes={"gpus": 1})
    assert "tolerations" not in made["spec"]["predictor"]
    assert "kubernetes.podspec-tolerations" in problems.warnings[0]


def serverless(settings, problems=None):
    return serving.inference_service(settings, problems, serverless=True)


def test_kserve_refuses_a_variable(served):
    """kserve: pkg/validation/env_policy.go."""
    with pytest.raises(SettingsError, match=r"environment\.PYTHONPATH"):
        served(serving.inference_service, environment={"PYTHONPATH": "/x"})


def expanded(text, variables):
    """As the kubelet expands a value (kubernetes: third_party/forked/golang/expansion)."""
    return re.sub(
        r"\$(\$|\(([^)]*)\))",
        lambda part: "$" if part[1] == "$" else variables.get(part[2], part[0]),
        text,
    )


@pytest.mark.parametrize(
    "text", ["$(A)", "$$", "$$(A)", "$", "a$b", "$é", "loss=([0-9.]+)$", "$(missing)", "${A}", "$("]
)
def test_a_value_is_what_was_written(job, served, text):
    """Also after the kubelet has expanded it."""
    values = {"A": "wrong", "B": text}
    pods = [
        pod_of(job(environment=values)[1]["spec"]["pytorchReplicaSpecs"]["Master"]),
        pod_of(served(environment=values)[0]["spec"]),
        served(serving.inference_service, environment=values)[0]["spec"]["predictor"],
    ]
    for pod in pods:
        env = {each["name"]: each["value"] for each in pod["containers"][0]["env"]}
        assert expanded(env["B"], env) == text


DNS_1035 = r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?"


@pytest.mark.parametrize("name", ["digits", "Digits", "d" * 63, f"{'d' * 29}-x{'y' * 30}", "a"])
def test_names_that_kubernetes_takes(job, served, name):
    """Each object and its pods get a valid name; two long names stay two."""
    made = [*job(name=name), *served(name=name), *served(serving.inference_service, name=name)]
    for each in made:
        assert re.fullmatch(DNS_1035, each["metadata"]["name"])
        assert len(each["metadata"]["labels"]["app.kubernetes.io/name"]) <= 63
    assert len(f"{made[1]['metadata']['name']}-worker-999") <= 63
    assert served(name=name)[0]["metadata"] == made[2]["metadata"]
    if len(name) > 39:
        other = served(name=f"{name[:-1]}z")[0]["metadata"]["name"]
        assert other != made[2]["metadata"]["name"]


def test_the_count_is_left_to_what_scales(served):
    """A manifest that is applied again would undo what a HorizontalPodAutoscaler did."""
    assert "replicas" not in served()[0]["spec"]
    assert served(instance_count=1)[0]["spec"]["replicas"] == 1


@pytest.mark.parametrize(
    ("keys", "amounts"),
    [
        ({"cpus": 2, "memory": "4Gi"}, {"cpu": "2", "memory": "4Gi"}),
        ({"cpus": "500m", "memory": "1.5Gi"}, {"cpu": "500m", "memory": "1.5Gi"}),
        ({"cpus": 1.5, "memory": 17179869184}, {"cpu": "1.5", "memory": "17179869184"}),
        ({"memory": "1e10"}, {"memory": "1e10"}),
        ({"gpus": 2}, {"nvidia.com/gpu": "2"}),
    ],
)
def test_amounts(served, keys, amounts):
    (container,) = pod_of(served(kubernetes=keys)[0]["spec"])["containers"]
    assert container["resources"]["limits"] == amounts


@pytest.mark.parametrize(
    ("keys", "words", "hint"),
    [
        ({"memory": "16GB"}, "memory is '16GB'", '"16Gi" (1024s) or "16G"'),
        ({"memory": "16gib"}, "memory is '16gib'", '"16Gi"'),
        ({"memory": "512 MB"}, "memory is '512 MB'", '"512Mi"'),
        ({"memory": "lots"}, "memory is 'lots'", "16Gi"),
        ({"memory": "-1Gi"}, "memory is '-1Gi'", "16Gi"),
        ({"memory": 16}, "memory is '16'", "16 bytes"),
        ({"memory": "500m"}, "memory is '500m'", "less than a byte"),
        ({"memory": "0"}, "memory is '0'", "too little"),
        ({"memory": True}, "memory is 'true'", "memory"),
        ({"cpus": "2 cores"}, "cpus is '2 cores'", "500m"),
        ({"cpus": "0"}, "cpus is '0'", "1m"),
        ({"cpus": "2Gi"}, "cpus is '2Gi'", "500m"),
        ({"memory": "9999999Ti"}, "memory is '9999999Ti'", "no node"),
        ({"memory": "1e99"}, "memory is '1e99'", "no node"),
        ({"cpus": "100000"}, "cpus is '100000'", "no node"),
        ({"cpus": "2.5m"}, "cpus is '2.5m'", '"3m"'),
        ({"cpus": 0.0015}, "cpus is '0.0015'", '"2m"'),
        ({"gpus": 2**40}, "gpus is '1099511627776'", "No node"),
        ({"gpus": 0.5}, "gpus is '0.5'", "whole number"),
        ({"gpus": -1}, "gpus is '-1'", "whole number"),
        ({"user": 2**31}, "user is '2147483648'", "2147483647"),
        ({"namespace": "My_Space"}, "namespace is 'My_Space'", "63"),
        ({"service-account": "a/b"}, "service-account is 'a/b'", "lower-case"),
        ({"secret": "A"}, "secret is 'A'", "lower-case"),
        ({"image-pull-secrets": ["a b"]}, "image-pull-secrets is", "names of Secrets"),
        ({"node-selector": {"gpu type": "x"}}, "node-selector is", "A label"),
        ({"node-selector": {"a": "x" * 64}}, "node-selector is", "A label"),
        ({"node-selector": {"a/b/c": "x"}}, "node-selector is", "A label"),
        ({"model": "pvc:Claim/x"}, "model is 'pvc:Claim/x'", "PersistentVolumeClaim"),
        ({"model": "pvc:a/b\nc"}, "model is 'pvc:a/b", "PersistentVolumeClaim"),
    ],
)
def test_values_that_kubernetes_refuses(served, keys, words, hint):
    with pytest.raises(SettingsError) as caught:
        served(kubernetes=keys)
    assert words in caught.value.what
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    "uri",
    ["s3://", "s3:///k", "s3://My/k", "s3://b/a b", "s3://b/a\nb", "s3://b/a?b", "s3://b/a#b"],
)
def test_a_model_that_kserve_would_not_find(served, uri):
    with pytest.raises(SettingsError, match="model is ") as caught:
        served(serving.inference_service, kubernetes={"model": uri})
    assert "s3://BUCKET/PREFIX" in caught.value.hint


def test_all_that_is_wrong_is_reported_at_once(job):
    with pytest.raises(SettingsError) as caught:
        job(
            name="3d_model",
            image="Upper/Case",
            instance_count=2000,
            channels={"train": "data/train"},
            hyperparameters={"api_token": "x"},
            environment={"A B": "x"},
            kubernetes={"memory": "16GB", "cpu": 1},
        )
    for words in ("name is '3d_model'", 'name = "n-3d-model"', "is not an image name", "instance-",
                  "channels.train is missing", "api_token is a secret",
                  "environment.A B is not a variable", "memory is '16GB'",
                  "there is no key cpu"):  # fmt: skip
        assert words in caught.value.what


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"name": "Digits_1"}, "Kubernetes does not accept"),
        ({"name": "3d-model"}, "Kubernetes does not accept"),
        ({"name": "digits-"}, "Kubernetes does not accept"),
        ({"name": "a.b"}, "Kubernetes does not accept"),
        ({"image": ""}, "image is missing"),
        ({"channels": {"train": "data/train"}}, "channels.train is missing"),
        ({"kubernetes": {"channels": {"..": "pvc:a"}}}, "channels... is not a channel's name"),
        ({"kubernetes": {"channels": {"c" * 65: "pvc:a"}}}, "ccc is not a channel's name"),
        ({"channels": {"c" * 65: "data/train"}}, "ccc is not a channel's name"),
        ({"max_runtime": 2**31}, "max-runtime is 2147483648 seconds"),
        ({"environment": {"RANK": "0"}}, "environment.RANK is set by the training operator"),
        ({"environment": {"PET_NNODES": "2"}}, "environment.PET_NNODES is set by"),
        ({"hyperparameters": {f"h{n}": "\U0001f600" * 2500 for n in range(40)}}, "a ConfigMap"),
        ({"hyperparameters": {"api_token": "x"}}, "would be readable in a ConfigMap"),
        ({"kubernetes": {"model": "s3://b/p"}}, "model is 's3://b/p'"),
        ({"kubernetes": {"model": "pvc:a/../../b"}}, "model is 'pvc:a/../../b'"),
        ({"kubernetes": {"cpu": 1}}, "there is no key cpu"),
        ({"kubernetes": {"cpus": [1]}}, "cpus is '[1]'"),
        ({"kubernetes": {"processes": 0}}, "processes is '0'"),
    ],
)
def test_what_no_job_is_made_of(job, keys, words):
    with pytest.raises(SettingsError) as caught:
        job(**keys)
    assert words in caught.value.what
    assert caught.value.hint


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"model": "job:digits"}, "model is missing"),
        ({"startup_timeout": "2d"}, "startup-timeout is 172800 seconds"),
        ({"kubernetes": {"model": "s3://b/p"}}, "model is 's3://b/p'"),
        ({"kubernetes": {"model": "/data"}}, "model is '/data'"),
        ({"kubernetes": {"channels": {}}}, "there is no key channels"),
    ],
)
def test_what_no_deployment_is_made_of(served, keys, words):
    with pytest.raises(SettingsError) as caught:
        served(**keys)
    assert words in caught.value.what
