"""`byoc train` and `byoc serve` specify the container that a region would, member by member;
instance types.
"""

from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest
from tests.unit.region.services.sagemaker.endpoints.conftest import archive
from tests.unit.region.services.sagemaker.endpoints.conftest import play as play  # noqa: PLC0414 - a fixture
from tests.unit.region.services.sagemaker.training_jobs.conftest import TrainingRegion

from sagemaker_byoc.contract import machine
from sagemaker_byoc.contract.errors import MachineError
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.host import owners
from sagemaker_byoc.host.ports import free_port
from sagemaker_byoc.region.containers import specs
from sagemaker_byoc.region.containers.specs import describe_instance, instance_here
from sagemaker_byoc.region.engines import docker, process
from sagemaker_byoc.region.engines.container import ContainerSpec, Limits
from sagemaker_byoc.region.engines.docker import DockerEngine
from sagemaker_byoc.standalone import endpoint
from sagemaker_byoc.standalone.training_job import StopSwitch, TrainingRequest, run_training_job

GIB = 2**30
NOT_COMPARED = {
    "given_up", "name", "tree", "inputs", "environment", "labels", "network", "program", "port",
}  # fmt: skip
"""They differ by nature; the tests below look at the parts of them that must not."""


class RecordingEngine:
    """Start nothing, and keep the specification and the configuration files it came with."""

    name = "recording"
    shares_files = True
    protects_inputs = False

    def __init__(self, interface):
        self.interface = interface
        self.spec = None
        self.config = {}
        self.networks = []

    def start(self, spec):
        self.spec = spec
        folder = spec.tree.config
        self.config = {path.name: json.loads(path.read_text()) for path in folder.glob("*.json")}
        raise MachineError("recorded", hint="")

    def open_network(self, network):
        self.networks.append(network)

    def close_network(self, network):
        self.networks.remove(network)

    def sweep(self, labels, trees):
        return 0


def without_owner(spec):
    """What a command leaves is found by its process, what a region leaves by its state folder."""
    return spec.labels.items() - {(owners.LABEL, owners.me())}


@pytest.fixture(params=["lo", "eth0"])
def trained(request, tmp_path):
    """The engine of a job of the region, and that of the same job of `byoc train`."""
    engine, alone = RecordingEngine(request.param), RecordingEngine(request.param)
    region = TrainingRegion(tmp_path / "region", engine)
    try:
        resources = {"InstanceType": "local", "InstanceCount": 1, "VolumeSizeInGB": 1}
        region.store.create_bucket("data")
        region.store.put_bytes("data", "rows/part.csv", b"1")
        source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://data/rows/"}}
        region.run(
            ResourceConfig=resources,
            HyperParameters={"epochs": "3"},
            Environment={"A": "1", "SAGEMAKER_PROGRAM": "two.py"},
            InputDataConfig=[{"ChannelName": "train", "DataSource": source}],
        )
    finally:
        region.close()
    (rows := tmp_path / "rows").mkdir()
    wanted = TrainingRequest(
        name="job-1",
        output=tmp_path / "out",
        image="byoc-train:latest",
        channels={"train": rows},
        hyperparameters={"epochs": "3"},
        entry_point="one.py",
        environment={"A": "1", "SAGEMAKER_PROGRAM": "two.py"},
    )
    with pytest.raises(MachineError, match="recorded"):
        run_training_job(wanted, alone, lambda line: None, StopSwitch())
    assert not alone.networks
    return engine, alone


def members(spec):
    found = {field.name: getattr(spec, field.name) for field in fields(ContainerSpec)}
    return {name: value for name, value in found.items() if name not in NOT_COMPARED}


def test_training_containers_are_alike(trained):
    """Interpreter, host name, GPUs, limits, outputs and what else a container is made of."""
    region, alone = trained
    assert members(alone.spec) == members(region.spec)
    assert alone.spec.interpreter is not None


def test_training_networks_and_names_are_alike(trained):
    region, alone = trained
    assert alone.spec.network.hosts == region.spec.network.hosts == ("algo-1",)
    assert alone.spec.network.isolated == region.spec.network.isolated
    assert alone.spec.labels == alone.spec.network.labels
    assert without_owner(alone.spec) <= region.spec.labels.items()


def test_training_environments_and_files_are_alike(trained):
    """Only the image's digest is missing: without a region nothing has resolved the image."""
    region, alone = trained
    expected = dict(region.spec.environment)
    del expected["BYOC_IMAGE_DIGEST"]
    assert alone.spec.environment == expected
    assert alone.config == region.config
    assert alone.config["resourceconfig.json"]["network_interface_name"] == alone.interface


@pytest.fixture
def served(play, tmp_path):
    """The specification of the region's endpoint, and that of `byoc serve`."""
    specs = []

    async def scene(region):
        region.store.create_bucket("bucket")
        region.store.put_bytes("bucket", "model.tar.gz", archive(weights=b"1"))
        container = {"Image": "serve:1", "ModelDataUrl": "s3://bucket/model.tar.gz"}
        await region.call("CreateModel", ModelName="model", PrimaryContainer=container)
        await region.config()
        await region.endpoint()
        specs.append(region.engine.started[0].spec)

    play(scene)
    (tmp_path / "model.tar.gz").write_bytes(archive(weights=b"1"))
    engine = RecordingEngine("lo")
    wanted = endpoint.EndpointRequest(
        name="one",
        work=tmp_path / "alone",
        model=tmp_path / "model.tar.gz",
        port=free_port(),
        image=specs[0].image,
        entry_point="one.py",
        environment={"SAGEMAKER_PROGRAM": "two.py"},
    )
    with (
        pytest.raises(MachineError, match="recorded"),
        endpoint.open_endpoint(wanted, engine, lambda line: None),
    ):
        pass
    assert not wanted.work.exists()
    return specs[0], engine.spec


def test_serving_containers_are_alike(served):
    region, alone = served
    # The fake images of the region have no Python of their own.
    assert members(replace(alone, interpreter=region.interpreter)) == members(region)
    assert alone.environment == {**region.environment, "SAGEMAKER_PROGRAM": "two.py"}
    assert alone.inputs.keys() == region.inputs.keys() == {"model"}
    assert without_owner(alone) <= region.labels.items()


def test_a_container_without_gpus_is_told_so(trained, monkeypatch):
    """The driver's files under /proc are seen in every container of a machine with GPUs."""
    _, alone = trained
    monkeypatch.setattr(specs, "gpus_here", lambda: 8)
    assert "CUDA_VISIBLE_DEVICES=\n" in DockerEngine().env_file(replace(alone.spec, gpus=0))
    assert "CUDA_VISIBLE_DEVICES" not in DockerEngine().env_file(replace(alone.spec, gpus=None))


@pytest.mark.parametrize(
    ("kind", "gpus", "limits"),
    [
        ("ml.m5.large", 0, Limits(2, 8 * GIB)),
        ("ml.c5.4xlarge", 0, Limits(16, 32 * GIB)),
        ("ml.r7i.xlarge", 0, Limits(4, 32 * GIB)),
        ("ml.t3.medium", 0, Limits(2, 4 * GIB)),
        ("ml.g5.xlarge", 1, None),
        ("ml.g5.12xlarge", 4, None),
        ("ml.p4d.24xlarge", 8, None),
        ("ml.trn1.2xlarge", 0, None),
        ("ml.x9.xlarge", 0, None),
        ("local_gpu", None, None),
    ],
)
def test_types(kind, gpus, limits):
    """As AWS's pages list them; what is not known has no limits."""
    instance = describe_instance(kind)
    assert (instance.gpus, instance.limits) == (gpus, limits)


def test_never_more_than_the_machine_has():
    """A larger type is this machine."""
    instance = instance_here("ml.m5.24xlarge", 0)
    assert instance.limits.cpus < 96
    assert instance_here("ml.p4d.24xlarge", 2).gpus == 2
    assert instance_here("local", 3).gpus is None


@pytest.mark.parametrize(
    ("variables", "names"),
    [
        ({}, ["0", "1", "2", "3"]),
        ({"CUDA_VISIBLE_DEVICES": "2,3"}, ["2", "3"]),
        ({"CUDA_VISIBLE_DEVICES": "0,-1,1"}, ["0"]),
        ({"CUDA_VISIBLE_DEVICES": ""}, []),
        ({"NVIDIA_VISIBLE_DEVICES": "none"}, []),
    ],
)
def test_gpus_are_those_that_this_process_was_left(variables, names, monkeypatch, tmp_path):
    """On a machine that several people share; both engines, all of them and the first only."""
    for name in ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(machine, "_present", lambda *_: 4)
    monkeypatch.setattr(docker, "DRIVER", tmp_path)  # there is a driver
    assert specs.gpus_here() == len(names)
    for most in (None, 1):
        wanted = bare(tmp_path, most)
        shown = ",".join(names[:most])
        found = process._own_variables(wanted).get("CUDA_VISIBLE_DEVICES")
        assert found == (shown if variables or most else None)
        arguments = docker._hardware(wanted)
        if "CUDA_VISIBLE_DEVICES" in variables:
            assert arguments == (["--gpus", f'"device={shown}"'] if shown else [])


def bare(folder, gpus):
    return ContainerSpec(name="c", argument="train", tree=Tree(folder), environment={}, gpus=gpus)
