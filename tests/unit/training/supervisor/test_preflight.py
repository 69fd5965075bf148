"""`train --check` says what would keep a job from running, a line each, and starts nothing."""

from __future__ import annotations

import os

import pytest

from sagemaker_byoc.contract.gpu import Torch
from sagemaker_byoc.contract.training.job import Job
from sagemaker_byoc.training.supervisor import preflight
from sagemaker_byoc.training.supervisor.preflight import Level


def lines(result):
    """Level and text by what was looked at."""
    return {
        line[5:].partition(": ")[0]: (line[:4].strip(), line[5:].partition(": ")[2])
        for line in result.out.splitlines()
    }


@pytest.mark.parametrize("arguments", [["--check"], ["train", "--check"]])
def test_a_job_that_could_run(container, arguments):
    """One verdict a line, exit code 0, and the program did not run."""
    container.text("print('ran')")
    container.config("inputdataconfig", {"train": {}, "stream": {"TrainingInputMode": "Pipe"}})
    container.tree.channel("train").mkdir(parents=True)
    (container.tree.channel("train") / "a.csv").write_text("1")
    os.mkfifo(container.tree.pipe("stream", 0))
    result = container.run(*arguments)
    found = lines(result)
    assert result.code == 0, result.out
    assert found["channel 'train'"] == ("ok", "File, has data")
    assert found["channel 'stream'"] == ("ok", "Pipe, its FIFO is there")
    assert found["program"][0] == found["clock"][0] == "ok"
    assert {"GPU", "/dev/shm", str(container.tree.model)} <= found.keys()
    assert "ran" not in result.out.splitlines()


def test_a_job_that_could_not(container):
    """Each obstacle has its line and its hint."""
    container.config("hyperparameters", {})
    container.config("inputdataconfig", {"train": {}, "stream": {"TrainingInputMode": "Pipe"}})
    container.config("resourceconfig", {"current_host": "a.invalid", "hosts": ["a.invalid", "b"],
                                        "network_interface_name": "ethwe"})  # fmt: skip
    container.tree.channel("stream").mkdir(parents=True)
    container.tree.model.write_text("")
    container.environ["BYOC_DNS_SECONDS"] = "0.2"
    result = container.run("--check")
    found = lines(result)
    assert result.code == 1
    assert found["program"][0] == found["hosts"][0] == "fail"
    assert found[str(container.tree.model)][0] == "fail"
    assert found["channel 'train'"][0] == found["interface"][0] == "warn"
    assert "is a folder, and Pipe mode" in found["channel 'stream'"][1]
    assert "a.invalid" in found["hosts"][1]


def test_broken_configuration(container):
    """A file that can't be read is one of the verdicts."""
    container.text("")
    container.tree.hyperparameters_file.write_text("{")
    result = container.run("--check")
    assert result.code == 1
    assert "fail configuration: " in result.out


def test_channel_that_is_a_fifo(container):
    """A pipe in the place of declared files is named."""
    container.text("")
    container.config("inputdataconfig", {"train": {}})
    container.tree.data.mkdir(parents=True)
    os.mkfifo(container.tree.channel("train"))
    assert "is a FIFO, and File mode was declared" in container.run("--check").out


@pytest.mark.parametrize(
    ("version", "cuda", "level"),
    [
        ((580, 95), (13, 0), Level.OK),
        ((550, 54), (12, 8), Level.OK),
        (None, (12, 8), Level.WARN),
        ((999, 0), (99, 0), Level.WARN),
    ],
)
def test_driver(version, cuda, level):
    """What can't be compared with the needs of torch's CUDA is said."""
    assert preflight.driver(version, cuda).level is level


@pytest.mark.parametrize(
    ("gpus", "cuda", "level"),
    [(8, (13, 0), Level.OK), (0, (13, 0), Level.WARN), (0, None, Level.OK)],
)
def test_gpu(gpus, cuda, level):
    """A build for CUDA without a GPU is worth a look."""
    assert preflight.gpu(gpus, cuda).level is level


def test_disk_and_clock(tmp_path):
    """Little room and a clock of long ago are found."""
    assert preflight.disk(tmp_path / "absent").level is Level.FAIL
    assert preflight.clock(0.0).level is Level.FAIL
    assert preflight.shared_memory(tmp_path / "absent", 1).level is Level.FAIL


OLD = (470, 256)


@pytest.mark.parametrize(
    ("driver", "allowed", "words"),
    [
        (OLD, "", "fail GPU: the NVIDIA driver of ml.g5.xlarge is 470.256, and CUDA 12.8"),
        (OLD, "1", "warn GPU: the NVIDIA driver of ml.g5.xlarge is 470.256, and CUDA 12.8"),
        (None, "", "warn GPU: ml.g5.xlarge has NVIDIA GPUs, and none is"),
    ],
)
def test_gpus_that_the_job_can_not_use(container, monkeypatch, driver, allowed, words):
    """What the job pays for is compared with what is there, as at its start."""
    build = Torch("2.10.0+cu128", (12, 8))
    monkeypatch.setattr("sagemaker_byoc.contract.gpu.find_torch", lambda folders: build)
    monkeypatch.setattr("sagemaker_byoc.contract.gpu.driver_version", lambda root: driver)
    container.text("")
    container.config("resourceconfig", {"current_instance_type": "ml.g5.xlarge"})
    job = Job.read(container.tree)
    (finding,) = preflight.unused_gpus(job, {"BYOC_ALLOW_CPU": allowed})
    assert str(finding).startswith(words)
