"""The built images, run as the manifests say: user, limits, volumes, probes, end."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest
from tests.images.conftest import NAMES
from tests.images.containers import LABEL, ZOO, Container, docker, wait_until

from sagemaker_byoc.launch import endpoint, train
from sagemaker_byoc.launch.kubernetes import serving, training

pytestmark = pytest.mark.docker
PATIENCE = 180
CODE = "/opt/ml/model/code"
TRAINER = """
import json, os
import torch.distributed as dist
dist.init_process_group("gloo")
dist.barrier()  # one that leaves at once breaks the connections that others still make
names = ("RANK", "WORLD_SIZE", "SM_HOSTS", "SM_CURRENT_HOST", "SM_MASTER_ADDR", "SM_HP_EPOCHS")
print(json.dumps({name: os.environ[name] for name in names} | {"world": dist.get_world_size()}))
dist.destroy_process_group()
"""


@pytest.fixture
def network():
    """A network of its own for one test; its name, which marks the containers too."""
    name = f"byoc-{uuid.uuid4().hex[:12]}"
    made = docker("network", "create", "--label", f"{LABEL}={name}", name, check=False)
    if made.returncode:
        pytest.skip(f"no docker network: {made.stderr.decode().strip()}")
    yield name
    docker("network", "rm", name, check=False)


@pytest.fixture
def pod(network):
    """Makes the container of a pod's specification; removed afterwards."""
    made = []

    def make(spec, name, environ=None, files=None, mounted=()):
        """`mounted`: folders of this machine at paths inside, as volumes bring them."""
        (container,) = spec["containers"]
        user = spec.get("securityContext", {}).get("runAsUser", 0)
        options = ["--network", network, "--network-alias", name, "--hostname", name]
        options += options_of(spec, container)
        for source, path in mounted:
            options += ["--mount", f"type=bind,source={source},target={path},readonly"]
        for variable in [*container["env"], *as_variables(environ or {})]:
            options += ["--env", f"{variable['name']}={variable['value']}"]
        image, command = container["image"], container["args"]
        made.append(
            Container.create(image, *command, run=network, options=options, files=files, user=user)
        )
        return made[-1].start()

    yield make
    for container in made:
        print(f"--- log of {container.id[:12]}\n{container.log}")
        container.remove()


def options_of(spec, container):
    """Docker's words for the security and the empty volumes of a pod."""
    limits = container["securityContext"]
    options = ["--read-only"] if limits.get("readOnlyRootFilesystem") else []
    options += ["--security-opt", "no-new-privileges"]
    for capability in limits.get("capabilities", {}).get("drop", ()):
        options += ["--cap-drop", capability]
    empty = {volume["name"] for volume in spec["volumes"] if "emptyDir" in volume}
    for mount in container["volumeMounts"]:
        if mount["name"] in empty:
            options += ["--tmpfs", f"{mount['mountPath']}:mode=1777,exec"]
    return options


def as_variables(values):
    return [{"name": name, "value": value} for name, value in values.items()]


def test_a_deployments_container(pod):
    """Answers its probes, can run its preStop hook, and ends by itself within its grace."""
    settings = endpoint.read("x", {"name": "digits", "image": NAMES["serve"]}, Path())
    made, _ = serving.deployment(settings)
    spec = made["spec"]["template"]["spec"]
    (specified,) = spec["containers"]
    container = pod(spec, "digits", mounted=[(ZOO / "models" / "echo", CODE)])
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        place = specified[probe]["httpGet"]
        wait_until(lambda place=place: status(container, place) == 200, probe)
    annotations = made["spec"]["template"]["metadata"]["annotations"]
    metrics = {"path": annotations["prometheus.io/path"], "port": annotations["prometheus.io/port"]}
    assert status(container, metrics) == 200
    container.execute(*specified["lifecycle"]["preStop"]["exec"]["command"])
    grace = spec["terminationGracePeriodSeconds"] - serving.LEAVE_SECONDS
    assert container.stop(grace) == 0


def status(container, place):
    """The status that a probe would get; 0 where nothing answers."""
    program = (
        "import sys, urllib.request as r, urllib.error as e\n"
        "try: print(r.urlopen(sys.argv[1], timeout=2).status)\n"
        "except e.HTTPError as error: print(error.code)\n"
        "except OSError: print(0)\n"
    )
    url = f"http://127.0.0.1:{place['port']}{place['path']}"
    done = container.execute("/opt/venv/bin/python", "-c", program, url)
    return int(done.stdout)


def test_the_pods_of_a_pytorchjob(pod):
    """With the files of the ConfigMap and the variables that the operator adds, and no others."""
    table = {
        "name": "digits",
        "image": NAMES["train"],
        "instance-count": 2,
        "hyperparameters": {"epochs": 3},
        "kubernetes": {"processes": 2},
    }
    config, job = training.manifests(train.read("x", table, Path()))
    files = {f"/opt/ml/input/config/{name}": text.encode() for name, text in config["data"].items()}
    files["/opt/ml/code/train.py"] = TRAINER.encode()
    replicas = job["spec"]["pytorchReplicaSpecs"]
    master = f"{job['metadata']['name']}-master-0"
    made = []
    for rank, (role, replica) in enumerate(replicas.items()):
        environ = {
            "MASTER_ADDR": master,
            "PET_MASTER_ADDR": master,
            "MASTER_PORT": str(training.PORT),
            "PET_MASTER_PORT": str(training.PORT),
            "WORLD_SIZE": "4",
            "RANK": str(rank),
            "PET_NODE_RANK": str(rank),
            "PET_NNODES": "2",
            "PET_NPROC_PER_NODE": job["spec"]["nprocPerNode"],
        }
        name = f"{job['metadata']['name']}-{role.lower()}-0"
        made.append(pod(replica["template"]["spec"], name, environ, files))
    assert [container.wait(PATIENCE) for container in made] == [0, 0]
    lines = [line for container in made for line in container.log.splitlines() if "{" in line]
    found = [json.loads(line[line.index("{") :]) for line in lines if '"world"' in line]
    assert sorted(given["RANK"] for given in found) == ["0", "1", "2", "3"]
    for given in found:
        assert given["world"] == 4
        assert given["SM_HOSTS"] == '["node-0","node-1"]'
        assert given["SM_MASTER_ADDR"] == master
        assert given["SM_HP_EPOCHS"] == "3"
