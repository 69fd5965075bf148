"""Images of the process engine: recorded programs, and what their names resolve to."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sagemaker_byoc.cli import main
from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.region.containers.images import Reference
from sagemaker_byoc.region.containers.recorded_images import RecordedImages, Recording, record
from sagemaker_byoc.region.wire.operations import AwsError

DIGEST = "sha256:" + "0f" * 32


@pytest.fixture
def program(tmp_path):
    folder = tmp_path / "program"
    folder.mkdir()
    (folder / "train.py").write_text("open('/opt/ml/model/m', 'w').write('first')")
    return folder


def build(program, tag="mine:1", **more):
    words = {"kind": "train", "program": program, "entry_point": None, "tag": tag}
    return Recording(**{**words, **more})


@pytest.mark.parametrize(
    ("uri", "host", "repository", "tag", "digest"),
    [
        ("mine", "", "mine", "latest", ""),
        ("team/mine:2", "", "team/mine", "2", ""),
        ("127.0.0.1:5000/a/b:c", "127.0.0.1:5000", "a/b", "c", ""),
        ("localhost/a", "localhost", "a", "latest", ""),
        (f"mine@{DIGEST}", "", "mine", "", DIGEST),
    ],
)
def test_references(uri, host, repository, tag, digest):
    """As docker reads them."""
    assert Reference.parse(uri) == Reference(host, repository, tag, digest)


@pytest.mark.slow
def test_a_recorded_program_runs_under_every_name_of_it(region, program):
    """ECR's, a local registry's, its own, and its digest's."""
    digest = record(build(program), region.state, Path(sys.executable))
    ecr = "000000000000.dkr.ecr.us-east-1.amazonaws.com/mine"
    images = RecordedImages(region.state)
    for uri in (f"{ecr}:1", f"{ecr}@{digest}", "127.0.0.1:1/mine:1", "mine:1"):
        assert images.resolve(uri).digest == digest
    assert images.resolve(f"{ecr}:1").resolved == f"{ecr}@{digest}"
    ended = region.run(algorithm={"TrainingImage": f"{ecr}:1"})
    assert ended["TrainingJobStatus"] == "Completed"
    assert region.objects("out/") == ["out/job-1/output/model.tar.gz"]


def test_a_name_moves_on_and_a_digest_stays(tmp_path, program):
    """As tags and digests do; what was recorded is a copy."""
    state = tmp_path / "state"
    first = record(build(program), state, Path(sys.executable))
    assert record(build(program), state, Path(sys.executable)) == first
    (program / "train.py").write_text("second")
    second = record(build(program), state, Path(sys.executable))
    images = RecordedImages(state)
    assert images.resolve("mine:1").digest == second != first
    assert "first" in (images.program(first) / "train.py").read_text()


def test_unknown_images_are_told_with_the_hint(tmp_path, program):
    """And with what there is."""
    record(build(program), tmp_path, Path(sys.executable))
    with pytest.raises(AwsError, match=r"has recorded mine:1\. Record it with: byoc build train"):
        RecordedImages(tmp_path).resolve("other:1")
    with pytest.raises(AwsError, match="is not an image"):
        RecordedImages(tmp_path).resolve("Not An Image")


def test_images_with_a_program_of_aws(tmp_path):
    """A hint to build one of that name would not help."""
    spark = "173754725891.dkr.ecr.us-east-1.amazonaws.com/sagemaker-spark-processing:3.1-cpu"
    with pytest.raises(AwsError, match=r"a program of AWS's.*ScriptProcessor") as refused:
        RecordedImages(tmp_path).resolve(spark)
    assert "byoc build" not in str(refused.value)


def test_the_toolkits_own_images_are_there(tmp_path):
    """Without a program: that comes with the job."""
    assert RecordedImages(tmp_path).resolve("byoc-train").interpreter == Path(sys.executable)


def test_a_python_without_the_toolkit_is_refused(tmp_path, program):
    """When the image is made, and not in the job."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'no module' >&2; exit 1\n")
    python.chmod(0o755)
    with pytest.raises(RequestError, match=r"can't import .*: no module"):
        record(build(program), tmp_path, python)


def test_the_command(tmp_path, program, capsys):
    """`byoc build train FILE` remembers the file; the digest is its result."""
    words = ["build", "train", str(program / "train.py"), "-t", "mine", "--state", str(tmp_path)]
    assert main.main(words) == 0
    image = RecordedImages(tmp_path).resolve("mine")
    assert capsys.readouterr().out.strip() == image.digest
    assert image.environment["SAGEMAKER_PROGRAM"] == "train.py"
    assert main.main([*words[:3], "-t", "Wrong", "--state", str(tmp_path)]) == 2
