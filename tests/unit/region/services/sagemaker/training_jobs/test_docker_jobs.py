"""The same jobs in real containers."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
from tests.support.waiting import wait_until
from tests.unit.region.services.sagemaker.training_jobs.conftest import (
    BUCKET,
    TrainingRegion,
    channel,
)

from sagemaker_byoc.cli.main import main
from sagemaker_byoc.host.docker import client
from sagemaker_byoc.region.containers.images import DockerImages
from sagemaker_byoc.region.containers.leftovers import STATE_LABEL
from sagemaker_byoc.region.engines import docker
from sagemaker_byoc.region.engines.container import Network
from sagemaker_byoc.region.engines.docker import DockerEngine

pytestmark = pytest.mark.docker


@pytest.fixture
def region(tmp_path):
    made = TrainingRegion(tmp_path / "state", DockerEngine(), DockerImages())
    yield made
    made.close()
    label = f"label={STATE_LABEL}={made.state.resolve()}"
    assert not docker.run("ps", "--all", "--quiet", "--filter", label)
    assert not docker.run("network", "ls", "--quiet", "--filter", label)


def test_file_and_fast_file(region):
    """Files of its own in File mode, a read-only mount in FastFile mode."""
    region.put("d/a", b"one\n")
    region.put("f/b", b"two\n")
    ended = region.run(
        "cd /opt/ml/input/data; cat t/a f/b; echo x > t/a && echo x > f/b || echo refused; "
        "hostname; hostname > /opt/ml/model/m",
        InputDataConfig=[channel("t", "d/"), channel("f", "f/", InputMode="FastFile")],
    )
    assert ended["TrainingJobStatus"] == "Completed"
    lines = region.log()
    said = [line for line in lines if "Read-only" not in line]  # sh's stderr, in any order
    assert said == ["one", "two", "refused", "algo-1"]
    assert region.read("d/a") + region.read("f/b") == b"one\ntwo\n"
    assert region.objects("out/") == ["out/job-1/output/model.tar.gz"]


def test_pipe(region):
    """FIFOs that the region feeds, beside files."""
    region.put("d/a", b"one\n")
    region.put("f/b", b"two\n")
    region.run(
        "cd /opt/ml/input/data; cat p_0; until [ -e p_1 ]; do sleep 0.01; done; cat p_1 f/b",
        InputDataConfig=[channel("p", "d/", InputMode="Pipe"), channel("f", "f/")],
    )
    assert region.log()[:3] == ["one", "one", "two"]


@pytest.mark.parametrize("isolated", [False, True])
def test_hosts_on_a_network_of_their_own(region, isolated):
    """Names resolve, and checkpoints meet."""
    region.put("ckpt/old", b"old\n")
    ended = region.run(
        "cat /opt/ml/checkpoints/old; hostname > /opt/ml/checkpoints/$(hostname); "
        "i=0; until getent hosts algo-1 && getent hosts algo-2; do i=$((i+1)); "
        "[ $i -lt 300 ] || exit 9; sleep 0.1; done > /dev/null; sleep 1",
        hosts=2,
        EnableNetworkIsolation=isolated,
        CheckpointConfig={"S3Uri": f"s3://{BUCKET}/ckpt"},
    )
    assert ended["TrainingJobStatus"] == "Completed", (ended, region.log())
    assert region.objects("ckpt/") == ["ckpt/algo-1", "ckpt/algo-2", "ckpt/old"]
    assert region.log()[0] == "old"


@pytest.mark.parametrize("isolated", [False, True])
def test_an_isolated_network_is_internal(region, isolated):
    """So the Docker engine lets nothing in or out of it."""
    hosts = ("algo-1", "algo-2")
    name = f"byoc-test-network-{os.getpid()}"
    network = Network(name=name, hosts=hosts, isolated=isolated)
    region.engine.open_network(network)
    try:
        form = "{{.Internal}}"
        assert docker.run("network", "inspect", "--format", form, network.name).strip() == (
            "true" if isolated else "false"
        )
    finally:
        region.engine.close_network(network)


def test_one_isolated_host(region):
    """No interface but lo, and its own name all the same."""
    region.run("ls /sys/class/net; getent hosts algo-1", EnableNetworkIsolation=True)
    assert region.log()[0] == "lo"
    assert region.log()[1].split() == ["127.0.0.1", "algo-1"]


def test_stop_reaches_the_program(region):
    """As on the other engine."""
    region.create(
        "trap 'echo saved > /opt/ml/model/m; exit 0' TERM; echo waiting; "
        "while :; do sleep 0.02; done"
    )
    region.wait_for_line("waiting")
    region.call("StopTrainingJob", TrainingJobName="job-1")
    assert region.end()["TrainingJobStatus"] == "Stopped"
    assert region.objects("out/") == ["out/job-1/output/model.tar.gz"]


def test_the_images_own_entrypoint(region):
    """The word `train` is its argument; the program comes as a channel."""
    region.put("code/train.py", b"import os; open('/opt/ml/model/m', 'w').write('x'); print('ran')")
    ended = region.run(InputDataConfig=[channel("code", "code/")])
    assert ended["TrainingJobStatus"] == "Completed"
    assert "ran" in region.log()


def test_uris_of_a_registry_are_the_local_images():
    """ECR's host is ours; a stranger's is not."""
    images = DockerImages()
    image = images.resolve("000000000000.dkr.ecr.us-east-1.amazonaws.com/byoc-train:latest")
    assert image.name == "byoc-train:latest"
    assert image.resolved == (
        f"000000000000.dkr.ecr.us-east-1.amazonaws.com/byoc-train@{image.digest}"
    )
    assert images.resolve("byoc-train").digest == image.digest
    with pytest.raises(Exception, match="no image of that name"):
        images.resolve("example.com/byoc-train:latest")


def test_leftovers_of_a_killed_region_are_removed(region):
    """By their labels, and nothing else is touched."""
    labels = {STATE_LABEL: str(region.state), "sagemaker-byoc.job": "lost"}
    words = [word for pair in labels.items() for word in ("--label", "=".join(pair))]
    elsewhere = f"{STATE_LABEL}={region.state}/elsewhere"
    other = docker.run("create", "--label", elsewhere, "byoc-train").strip()
    try:
        docker.run("create", *words, "byoc-train")
        assert region.engine.sweep({**labels, "sagemaker-byoc.job": ""}, []) == 1
        assert docker.run("container", "inspect", other)
    finally:
        subprocess.run([client(), "rm", "--force", other], check=True, capture_output=True)


def test_build_makes_an_image_of_the_program(region, tmp_path, capfd):
    """On top of the toolkit's: its entry point, this program, and nothing of the example's."""
    program = tmp_path / "program"
    program.mkdir()
    (program / "mine.py").write_text("import os; print('files:', sorted(os.listdir('.')))")
    tag = f"byoc-test-built:{os.getpid()}"
    try:
        words = ["build", "train", str(program / "mine.py"), "--tag", tag, "--json"]
        assert main(words) == 0
        image = json.loads(capfd.readouterr().out)["id"]
        ecr = f"000000000000.dkr.ecr.us-east-1.amazonaws.com/{tag}"
        ended = region.run(algorithm={"TrainingImage": ecr})
        assert ended["TrainingJobStatus"] == "Completed", region.log()
        assert "files: ['mine.py']" in region.log()
        assert DockerImages().resolve(ecr).digest == image
    finally:
        subprocess.run([client(), "image", "rm", tag], check=True, capture_output=True)


CHECKPOINTS = {"CheckpointConfig": {"S3Uri": f"s3://{BUCKET}/ckpt"}}


def test_checkpoints_behind_links_all_arrive(region, monkeypatch):
    """A link that becomes a folder between two looks, an absolute link, a hostile one, a FIFO."""
    monkeypatch.setattr("sagemaker_byoc.region.services.sagemaker.jobs.outputs.INTERVAL", 0.05)
    region.create(
        "cd /opt/ml/checkpoints; mkdir s1; echo one > s1/a; ln -s s1 latest; "
        "ln -s /opt/ml/checkpoints/s1/a best; ln -s /etc/passwd leak; mkfifo p; echo z > z; "
        "i=0; while [ ! -e /tmp/go ]; do i=$((i+1)); [ $i -lt 600 ] || exit 9; sleep 0.1; done; "
        "rm latest; mkdir latest; echo two > latest/b; echo last > zz",
        **CHECKPOINTS,
    )
    first = ["ckpt/best", "ckpt/latest/a", "ckpt/s1/a", "ckpt/z"]
    wait_until(lambda: region.objects("ckpt/") == first, "the first checkpoints")
    docker.run("exec", f"{region.jobs._context.prefix}-job-1-algo-1", "touch", "/tmp/go")
    assert region.end()["TrainingJobStatus"] == "Completed"
    assert region.objects("ckpt/") == sorted([*first, "ckpt/latest/b", "ckpt/zz"])
    assert region.read("ckpt/best") == b"one\n"
    told = [line.split()[3] for line in region.log() if line.startswith("byoc: left out")]
    assert sorted(told) == ["/opt/ml/checkpoints/leak", "/opt/ml/checkpoints/p"]


def test_a_container_reads_no_host_file(region, tmp_path):
    """Links in every folder that is brought out; folders that are gone, or are files."""
    (tmp_path / "secret").write_text("hunter2")
    ended = region.run(
        f"cd /opt/ml; for d in model output/data checkpoints; do ln -s {tmp_path}/secret $d/leak; "
        f"ln -s {tmp_path} $d/all; done; ln -s {tmp_path}/secret output/failure; echo x > model/m; "
        "rm -rf checkpoints; echo x > checkpoints; exit 3",
        OutputDataConfig={"S3OutputPath": f"s3://{BUCKET}/out", "CompressionType": "NONE"},
        **CHECKPOINTS,
    )
    assert ended["FailureReason"] == "AlgorithmError: , exit code: 3"
    assert region.objects() == ["out/job-1/output/model/m"]
    assert len([line for line in region.log() if line.startswith("byoc: left out")]) == 6


def test_tensorboard_outside_of_opt_ml(region):
    """Accepted, and uploaded."""
    region.run(
        "mkdir -p /opt/tensorboard/run; echo x > /opt/tensorboard/run/events",
        TensorBoardOutputConfig={
            "LocalPath": "/opt/tensorboard",
            "S3OutputPath": f"s3://{BUCKET}/tb",
        },
    )
    assert region.objects("tb/") == ["tb/job-1/tensorboard-output/run/events"]


WRAPPER = """#!/bin/sh
case "$*" in *{pattern}*) [ ! -e {switch} ] || {{ echo "{words}" >&2; exit 1; }};; esac
exec docker "$@"
"""


@pytest.fixture
def breakable(tmp_path, monkeypatch):
    """Make docker commands that hold a pattern fail, once the switch is there."""
    switch = tmp_path / "switch"

    def prepare(pattern, words):
        client = tmp_path / "docker"
        client.write_text(WRAPPER.format(pattern=pattern, switch=switch, words=words))
        client.chmod(0o755)
        monkeypatch.setenv("DOCKER", str(client))
        return switch

    yield prepare
    switch.unlink(missing_ok=True)


def test_a_failed_copy_keeps_the_container_until_the_job_is_deleted(region, breakable):
    """Failed with docker's words; the model is still to be had, as the reason says."""
    switch = breakable(":/opt/ml/model/.", "no space left on device")
    switch.touch()
    ended = region.run("echo precious > /opt/ml/model/m")
    name = f"{region.jobs._context.prefix}-job-1-algo-1"
    assert ended["TrainingJobStatus"] == "Failed"
    assert ended["FailureReason"].startswith(
        "InternalServerError: `docker cp` failed: no space left on device"
    )
    assert f"docker cp {name}:/opt/ml/model ." in ended["FailureReason"]
    switch.unlink()
    assert "precious" in docker.run("cp", f"{name}:/opt/ml/model/m", "-")
    region.call("DeleteTrainingJob", TrainingJobName="job-1")
    assert name not in docker.run("ps", "--all", "--format", "{{.Names}}")


def test_a_command_that_the_image_does_not_have(region):
    """The request's fault, in Docker's words; nothing is left."""
    ended = region.run(algorithm={"ContainerEntrypoint": ["/no/such/command"]})
    assert ended["FailureReason"].startswith("ClientError: `docker start` failed: ")
    assert "/no/such/command" in ended["FailureReason"]


def test_an_engine_that_dies_under_a_job(region, breakable):
    """InternalServerError; what it could not remove is removed later."""
    switch = breakable("", "Cannot connect to the Docker daemon")
    region.create("echo waiting; sleep 600")
    region.wait_for_line("waiting")
    name = f"{region.jobs._context.prefix}-job-1-algo-1"
    switch.touch()
    subprocess.run(["docker", "kill", name], check=True, capture_output=True)
    reason = region.end()["FailureReason"]
    assert reason.startswith("InternalServerError: algo-1 was lost: `docker wait` failed: Cannot")
    switch.unlink()
    region.call("DeleteTrainingJob", TrainingJobName="job-1")
