"""The same jobs in real containers: the rules of their commands need images."""

from __future__ import annotations

import os
import subprocess

import pytest
from tests.support.waiting import wait_until
from tests.unit.region.services.sagemaker.processing_jobs.conftest import (
    PROCESSING,
    ProcessingRegion,
    given,
    taken,
)

from sagemaker_byoc.host.docker import client
from sagemaker_byoc.region.containers.images import DockerImages
from sagemaker_byoc.region.containers.leftovers import STATE_LABEL
from sagemaker_byoc.region.engines import docker
from sagemaker_byoc.region.engines.docker import DockerEngine

pytestmark = pytest.mark.docker

IMAGE = f"byoc-test-processing-{os.getpid()}"


@pytest.fixture(scope="module")
def image():
    """An image with an entrypoint and a default argument."""
    text = 'FROM byoc-train\nENTRYPOINT ["/bin/echo", "entrypoint"]\nCMD ["default"]\n'
    build = [client(), "build", "--quiet", "--tag", IMAGE, "-"]
    subprocess.run(build, input=text.encode(), check=True, timeout=120, capture_output=True)
    yield IMAGE
    subprocess.run([client(), "rmi", "--force", IMAGE], check=True, timeout=60)


@pytest.fixture
def region(tmp_path):
    made = ProcessingRegion(tmp_path / "state", DockerEngine(), DockerImages())
    yield made
    made.close()
    label = f"label={STATE_LABEL}={made.state.resolve()}"
    assert not docker.run("ps", "--all", "--quiet", "--filter", label)
    assert not docker.run("network", "ls", "--quiet", "--filter", label)


def test_the_command(region, image):
    """As docker has it, and no word is added."""
    entrypoint, arguments = ["/bin/echo", "ours"], ["a b", "c"]
    rules = {
        "neither": ({}, "entrypoint default"),
        "entrypoint": ({"ContainerEntrypoint": entrypoint}, "ours"),
        "arguments": ({"ContainerArguments": arguments}, "entrypoint a b c"),
        "both": (
            {"ContainerEntrypoint": entrypoint, "ContainerArguments": arguments},
            "ours a b c",
        ),
    }
    for name, (application, _) in rules.items():
        region.create(name=name, application={"ImageUri": image, **application})
    for name, (_, printed) in rules.items():
        assert region.end(name)["ProcessingJobStatus"] == "Completed"
        assert region.log(name) == [printed]


def test_files_hosts_and_the_message(region):
    """On the image of the toolkit; a folder within another one, and two hosts."""
    region.put("in/a.csv", b"1\n")
    region.put("code/s.py", b"import numpy; print(numpy.sum([1, 2]))")
    found = region.run(
        "cd /opt/ml/processing && python3 data/code/s.py && cp data/a.csv out/$(hostname)"
        " && echo x >> data/a.csv && ln -s $(hostname) out/link && ls empty"
        " && printf $(hostname) > /opt/ml/output/message",
        inputs=[
            given("data", "in/"),
            given("code", "code/s.py", f"{PROCESSING}/data/code"),
        ],
        outputs=[taken("out"), taken("empty")],
        hosts=2,
    )
    assert found["ProcessingJobStatus"] == "Completed", (found, region.log())
    assert found["ExitMessage"] == "algo-1algo-2"
    assert region.objects("out/") == ["out/algo-1", "out/algo-2"]
    assert region.read("in/a.csv") == b"1\n"
    assert "3" in region.log()


def test_folders_that_the_program_removed(region):
    """They are empty, whatever words the version of Docker has for them."""
    found = region.run(
        "rm -rf /opt/ml/processing/out /opt/ml/processing/in; echo x > /opt/ml/output/message",
        outputs=[taken("out"), taken("in", mode="Continuous")],
    )
    assert found["ProcessingJobStatus"] == "Completed", found
    assert found["ExitMessage"].strip() == "x"
    assert region.objects("out/") == region.objects("in/") == []


def test_a_pipe_and_continuous_output_beside_it(region):
    """The folder of the pipe is shared with this machine: nothing is copied twice."""
    region.put("in/a", b"one\n")
    region.create(
        "cd /opt/ml/processing && cat data_0 > out/x && cat out/x"
        " && while [ ! -e out/go ]; do sleep 0.1; done; echo late > out/late",
        inputs=[given("data", "in/", S3InputMode="Pipe")],
        outputs=[taken("out", mode="Continuous")],
    )
    wait_until(lambda: region.objects("out/") == ["out/x"], "the first file")
    tree = region.state / "work" / "processing-jobs" / "job-1" / "algo-1" / "ml"
    (tree / "processing" / "out" / "go").touch()
    assert region.end()["ProcessingJobStatus"] == "Completed"
    assert region.objects("out/") == ["out/go", "out/late", "out/x"]
    assert region.log()[0] == "one"


def test_stopped(region):
    region.create(
        "trap 'echo x > /opt/ml/processing/out/x; exit 0' TERM; echo ready;"
        " while :; do sleep 0.02; done",
        outputs=[taken("out")],
    )
    region.wait_for_line("ready")
    region.call("StopProcessingJob", ProcessingJobName="job-1")
    assert region.end()["ProcessingJobStatus"] == "Stopped"
    assert region.objects("out/") == ["out/x"]
