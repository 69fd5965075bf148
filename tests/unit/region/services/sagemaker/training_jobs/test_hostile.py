"""What a container writes is never a way to the host, and is never lost silently."""

from __future__ import annotations

import io
import tarfile

import pytest
from tests.support.waiting import wait_until
from tests.unit.region.services.sagemaker.training_jobs.conftest import BUCKET

pytestmark = pytest.mark.slow  # real processes

CHECKPOINTS = {"CheckpointConfig": {"S3Uri": f"s3://{BUCKET}/ckpt"}}
UNCOMPRESSED = {
    "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/out", "CompressionType": "NONE"}
}


@pytest.fixture
def secret(tmp_path):
    """A file of the host."""
    path = tmp_path / "secret"
    path.write_text("hunter2")
    return path


def bytes_of_all(region):
    return b"".join(region.read(key) for key in region.objects())


def left_out(region):
    return [line for line in region.log() if line.startswith("byoc: left out: ")]


def test_links_to_the_host_are_left_out_everywhere(region, secret):
    """Model, output, checkpoints, TensorBoard and the failure file; a line for each, once."""
    links = "".join(
        f"mkdir -p {folder}; ln -s {secret} {folder}/leak; echo kept > {folder}/mine; "
        for folder in (
            "/opt/ml/model",
            "/opt/ml/output/data",
            "/opt/ml/checkpoints",
            "/opt/ml/output/tensorboard",
        )
    )
    ended = region.run(
        f"{links} ln -s {secret} /opt/ml/output/failure; exit 3",
        TensorBoardOutputConfig={"S3OutputPath": f"s3://{BUCKET}/tb"},
        **CHECKPOINTS,
        **UNCOMPRESSED,
    )
    assert b"hunter2" not in bytes_of_all(region)
    assert ended["FailureReason"] == "AlgorithmError: , exit code: 3"
    assert [key for key in region.objects() if not key.endswith("tar.gz")] == [
        "ckpt/mine",
        "out/job-1/output/model/mine",
        "tb/job-1/tensorboard-output/mine",
    ]
    assert len(left_out(region)) == 5
    assert all(str(secret) in line for line in left_out(region))


def test_links_inside_are_resolved_in_the_containers_tree(region):
    """For what is sent file by file: an absolute link, and a link to a folder."""
    region.run(
        "cd /opt/ml/checkpoints; mkdir s1; echo one > s1/a; ln -s s1 latest; "
        "ln -s /opt/ml/checkpoints/s1/a best; ln -s /opt/ml/checkpoints/s1/a /opt/ml/model/m",
        **CHECKPOINTS,
        **UNCOMPRESSED,
    )
    found = {key: region.read(key) for key in region.objects()}
    assert found == dict.fromkeys(
        ("ckpt/best", "ckpt/latest/a", "ckpt/s1/a", "out/job-1/output/model/m"), b"one\n"
    )
    assert left_out(region) == []


def test_links_in_the_archive(region):
    """Inside they stay links, and the log warns; those to the outside are left out."""
    region.run(
        "cd /opt/ml/model; echo x > a; ln -s /opt/ml/model/a b; mkfifo d; "
        "ln -s /opt/ml/checkpoints c"
    )
    with tarfile.open(fileobj=io.BytesIO(region.read("out/job-1/output/model.tar.gz"))) as tar:
        assert [(member.name, member.linkname) for member in tar] == [("a", ""), ("b", "a")]
    assert any(
        "model.tar.gz holds 1 links, as b: hosting may refuse" in line for line in region.log()
    )
    assert [line.split()[3] for line in left_out(region)] == ["/opt/ml/model/c", "/opt/ml/model/d"]


def test_what_each_look_finds_again_costs_one_line(region, monkeypatch):
    """A FIFO among the checkpoints stays there for hours."""
    monkeypatch.setattr("sagemaker_byoc.region.services.sagemaker.jobs.outputs.INTERVAL", 0.02)
    region.create(
        "cd /opt/ml; mkfifo checkpoints/p; echo x > checkpoints/m; "
        "while [ ! -e input/go ]; do sleep 0.02; done",
        **CHECKPOINTS,
    )
    wait_until(lambda: "ckpt/m" in region.objects(), "what two looks found unchanged")
    (region.state / "work/training-jobs/job-1/algo-1/ml/input/go").touch()
    region.end()
    assert len(left_out(region)) == 1


def test_lines_are_bounded_and_the_others_still_written(region, monkeypatch):
    """A program can make any number of FIFOs."""
    monkeypatch.setattr("sagemaker_byoc.region.services.sagemaker.jobs.containers.MOST_LEFT_OUT", 2)
    region.run("cd /opt/ml/model; mkfifo a b c d")
    assert [line.split()[3] for line in left_out(region)] == [
        "/opt/ml/model/a",
        "/opt/ml/model/b",
        "more",
    ]
    assert "/opt/ml/model was left empty" in region.log()[-1]


def test_two_hosts_one_wrote_a_file_where_the_other_wrote_a_folder(region):
    """The first host's is kept; a line names the other."""
    region.run(
        "cd /opt/ml/model; [ $(hostname) = algo-1 ] && echo x > n || { mkdir n; echo y > n/m; }",
        hosts=2,
    )
    with tarfile.open(fileobj=io.BytesIO(region.read("out/job-1/output/model.tar.gz"))) as tar:
        assert tar.getnames() == ["n"]
    assert any("/opt/ml/model/n of algo-2" in line for line in left_out(region))


@pytest.mark.parametrize(
    "keys", [("a", "a/b"), ("x//b", "x/b"), ("/etc/leak",), ("a/../../b",), ("a/./b", "a/b")]
)
def test_checkpoint_keys_that_can_be_no_files_of_one_folder(region, keys, tmp_path):
    """Nothing is written elsewhere, and nothing over another: the job says which key."""
    for key in keys:
        region.put(f"ckpt/{key}")
    reason = region.run("true", **CHECKPOINTS)["FailureReason"]
    assert reason.startswith("ClientError: Data download failed: ")
    assert "ckpt" in reason
    assert not (tmp_path.parent / "b").exists()
