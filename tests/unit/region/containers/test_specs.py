"""`byoc train` and `byoc serve` specify the container that a region would, member by member."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest
from tests.unit.region.services.sagemaker.endpoints.conftest import archive
from tests.unit.region.services.sagemaker.endpoints.conftest import room as room  # noqa: PLC0414 - a fixture
from tests.unit.region.services.sagemaker.training_jobs.conftest import House

from sagemaker_byoc.contract.errors import MachineError
from sagemaker_byoc.host import owners
from sagemaker_byoc.region.containers import specs as instances
from sagemaker_byoc.region.engines.container import ContainerSpec
from sagemaker_byoc.region.engines.docker import DockerEngine
from sagemaker_byoc.standalone import endpoint
from sagemaker_byoc.standalone.training_job import StopSwitch, TrainingRequest, run_training_job

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
    region, alone = RecordingEngine(request.param), RecordingEngine(request.param)
    house = House(tmp_path / "region", region)
    try:
        resources = {"InstanceType": "local", "InstanceCount": 1, "VolumeSizeInGB": 1}
        house.store.create_bucket("data")
        house.store.put_bytes("data", "rows/part.csv", b"1")
        source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://data/rows/"}}
        house.run(
            ResourceConfig=resources,
            HyperParameters={"epochs": "3"},
            Environment={"A": "1", "SAGEMAKER_PROGRAM": "two.py"},
            InputDataConfig=[{"ChannelName": "train", "DataSource": source}],
        )
    finally:
        house.close()
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
    return region, alone


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
def served(room, tmp_path):
    """The specification of the region's endpoint, and that of `byoc serve`."""
    specs = []

    async def scene(room):
        room.store.create_bucket("bucket")
        room.store.put_bytes("bucket", "model.tar.gz", archive(weights=b"1"))
        container = {"Image": "serve:1", "ModelDataUrl": "s3://bucket/model.tar.gz"}
        await room.call("CreateModel", ModelName="model", PrimaryContainer=container)
        await room.config()
        await room.endpoint()
        specs.append(room.engine.started[0].spec)

    room(scene)
    (tmp_path / "model.tar.gz").write_bytes(archive(weights=b"1"))
    engine = RecordingEngine("lo")
    wanted = endpoint.EndpointRequest(
        name="one",
        work=tmp_path / "alone",
        model=tmp_path / "model.tar.gz",
        port=endpoint.free_port(),
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
    # The pretended images of the region have no Python of their own.
    assert members(replace(alone, interpreter=region.interpreter)) == members(region)
    assert alone.environment == {**region.environment, "SAGEMAKER_PROGRAM": "two.py"}
    assert alone.inputs.keys() == region.inputs.keys() == {"model"}
    assert without_owner(alone) <= region.labels.items()


def test_a_container_without_gpus_is_told_so(trained, monkeypatch):
    """The driver's files under /proc are seen in every container of a machine with GPUs."""
    _, alone = trained
    monkeypatch.setattr(instances, "gpus_here", lambda: 8)
    assert "CUDA_VISIBLE_DEVICES=\n" in DockerEngine().env_file(replace(alone.spec, gpus=0))
    assert "CUDA_VISIBLE_DEVICES" not in DockerEngine().env_file(replace(alone.spec, gpus=None))
