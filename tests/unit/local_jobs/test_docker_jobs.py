"""The same jobs in real containers."""

from __future__ import annotations

import json
import subprocess

import pytest
from tests.unit.local_jobs.conftest import BUCKET, House, channel

from sagemaker_byoc.cli.main import main
from sagemaker_byoc.local.engines import docker
from sagemaker_byoc.local.engines.container import Network
from sagemaker_byoc.local.engines.docker import DockerEngine
from sagemaker_byoc.local.images import DockerImages
from sagemaker_byoc.local.leftovers import STATE_LABEL

pytestmark = pytest.mark.docker


@pytest.fixture
def house(tmp_path):
    made = House(tmp_path / "state", DockerEngine(), DockerImages())
    yield made
    made.close()
    label = f"label={STATE_LABEL}={made.state.resolve()}"
    assert not docker.run(["ps", "--all", "--quiet", "--filter", label])
    assert not docker.run(["network", "ls", "--quiet", "--filter", label])


def test_file_and_fast_file(house):
    """Files of its own in File mode, a read-only mount in FastFile mode."""
    house.put("d/a", b"one\n")
    house.put("f/b", b"two\n")
    ended = house.run(
        "cd /opt/ml/input/data; cat t/a f/b; echo x > t/a && echo x > f/b || echo refused; "
        "hostname; hostname > /opt/ml/model/m",
        InputDataConfig=[channel("t", "d/"), channel("f", "f/", InputMode="FastFile")],
    )
    assert ended["TrainingJobStatus"] == "Completed"
    lines = house.log()
    assert lines[:2] == ["one", "two"]
    assert lines[-2:] == ["refused", "algo-1"]
    assert house.read("d/a") + house.read("f/b") == b"one\ntwo\n"
    assert house.objects("out/") == ["out/job-1/output/model.tar.gz"]


def test_pipe(house):
    """FIFOs that the region feeds, beside files."""
    house.put("d/a", b"one\n")
    house.put("f/b", b"two\n")
    house.run(
        "cd /opt/ml/input/data; cat p_0; until [ -e p_1 ]; do sleep 0.01; done; cat p_1 f/b",
        InputDataConfig=[channel("p", "d/", InputMode="Pipe"), channel("f", "f/")],
    )
    assert house.log()[:3] == ["one", "one", "two"]


@pytest.mark.parametrize("isolated", [False, True])
def test_hosts_on_a_network_of_their_own(house, isolated):
    """Names resolve, and checkpoints meet."""
    house.put("ckpt/old", b"old\n")
    ended = house.run(
        "cat /opt/ml/checkpoints/old; hostname > /opt/ml/checkpoints/$(hostname); "
        "i=0; until getent hosts algo-1 && getent hosts algo-2; do i=$((i+1)); "
        "[ $i -lt 300 ] || exit 9; sleep 0.1; done > /dev/null; sleep 1",
        hosts=2,
        EnableNetworkIsolation=isolated,
        CheckpointConfig={"S3Uri": f"s3://{BUCKET}/ckpt"},
    )
    assert ended["TrainingJobStatus"] == "Completed", (ended, house.log())
    assert house.objects("ckpt/") == ["ckpt/algo-1", "ckpt/algo-2", "ckpt/old"]
    assert house.log()[0] == "old"


@pytest.mark.parametrize("isolated", [False, True])
def test_an_isolated_network_is_internal(house, isolated):
    """So the Docker engine lets nothing in or out of it."""
    hosts = ("algo-1", "algo-2")
    network = Network(name="byoc-test-network", hosts=hosts, isolated=isolated)
    house.engine.open_network(network)
    try:
        form = "{{.Internal}}"
        assert docker.run(["network", "inspect", "--format", form, network.name]).strip() == (
            "true" if isolated else "false"
        )
    finally:
        house.engine.close_network(network)


def test_one_isolated_host(house):
    """No interface but lo, and its own name all the same."""
    house.run("ls /sys/class/net; getent hosts algo-1", EnableNetworkIsolation=True)
    assert house.log()[0] == "lo"
    assert house.log()[1].split() == ["127.0.0.1", "algo-1"]


def test_stop_reaches_the_program(house):
    """As on the other engine."""
    house.create(
        "trap 'echo saved > /opt/ml/model/m; exit 0' TERM; echo waiting; "
        "while :; do sleep 0.02; done"
    )
    house.wait_for_line("waiting")
    house.call("StopTrainingJob", TrainingJobName="job-1")
    assert house.end()["TrainingJobStatus"] == "Stopped"
    assert house.objects("out/") == ["out/job-1/output/model.tar.gz"]


def test_the_images_own_entrypoint(house):
    """The word `train` is its argument; the program comes as a channel."""
    house.put("code/train.py", b"import os; open('/opt/ml/model/m', 'w').write('x'); print('ran')")
    ended = house.run(InputDataConfig=[channel("code", "code/")])
    assert ended["TrainingJobStatus"] == "Completed"
    assert "ran" in house.log()


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


def test_leftovers_of_a_killed_region_are_removed(house):
    """By their labels, and nothing else is touched."""
    labels = {STATE_LABEL: str(house.state), "sagemaker-byoc.job": "lost"}
    words = [word for pair in labels.items() for word in ("--label", "=".join(pair))]
    other = docker.run(["create", "--label", f"{STATE_LABEL}=/elsewhere", "byoc-train"]).strip()
    try:
        docker.run(["create", *words, "byoc-train"])
        assert house.engine.sweep({**labels, "sagemaker-byoc.job": ""}, []) == 1
        assert docker.run(["container", "inspect", other])
    finally:
        subprocess.run([docker.client(), "rm", "--force", other], check=True, capture_output=True)


def test_build_makes_an_image_of_the_program(house, tmp_path, capfd):
    """On top of the toolkit's: its entry point, this program, and nothing of the example's."""
    program = tmp_path / "program"
    program.mkdir()
    (program / "mine.py").write_text("import os; print('files:', sorted(os.listdir('.')))")
    tag = "byoc-test-built:1"
    try:
        words = ["build", "train", str(program / "mine.py"), "--tag", tag, "--json"]
        assert main(words) == 0
        image = json.loads(capfd.readouterr().out)["id"]
        ecr = f"000000000000.dkr.ecr.us-east-1.amazonaws.com/{tag}"
        ended = house.run(algorithm={"TrainingImage": ecr})
        assert ended["TrainingJobStatus"] == "Completed", house.log()
        assert "files: ['mine.py']" in house.log()
        assert DockerImages().resolve(ecr).digest == image
    finally:
        subprocess.run([docker.client(), "image", "rm", tag], check=True, capture_output=True)
