"""What an instance type is on this machine."""

from __future__ import annotations

import pytest

from sagemaker_byoc.contract import machine
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.region.containers import specs
from sagemaker_byoc.region.containers.specs import describe, on_this_machine
from sagemaker_byoc.region.engines import docker, process
from sagemaker_byoc.region.engines.container import ContainerSpec, Limits

GIB = 2**30


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
    instance = describe(kind)
    assert (instance.gpus, instance.limits) == (gpus, limits)


def test_never_more_than_the_machine_has():
    """A larger type is this machine."""
    instance = on_this_machine("ml.m5.24xlarge", 0)
    assert instance.limits.cpus < 96
    assert on_this_machine("ml.p4d.24xlarge", 2).gpus == 2
    assert on_this_machine("local", 3).gpus is None


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
        wanted = spec(tmp_path, most)
        shown = ",".join(names[:most])
        found = process._own_variables(wanted).get("CUDA_VISIBLE_DEVICES")
        assert found == (shown if variables or most else None)
        arguments = docker._hardware(wanted)
        if "CUDA_VISIBLE_DEVICES" in variables:
            assert arguments == (["--gpus", f'"device={shown}"'] if shown else [])


def spec(folder, gpus):
    return ContainerSpec(name="c", argument="train", tree=Tree(folder), environment={}, gpus=gpus)
