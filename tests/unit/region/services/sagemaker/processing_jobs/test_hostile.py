"""What a program may leave in place of a folder, and inputs that clash."""

from __future__ import annotations

import pytest
from tests.unit.region.services.sagemaker.jobs_region import BUCKET
from tests.unit.region.services.sagemaker.processing_jobs.conftest import (
    PROCESSING,
    ProcessingRegion,
    given,
    taken,
)

from sagemaker_byoc.region.engines.process import ProcessEngine

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("rmdir out && ln -s /etc out", "it is a link, and SageMaker follows none"),
        ("rmdir out && ln -s /opt/ml/config out", "it is a link, and SageMaker follows none"),
        ("rmdir out && mkfifo out", "processing/out because"),
        ("rmdir out && echo x > out", "it is not a folder"),
        ("ln -s /etc/passwd out/x", "out/x because"),
        ("ln -s /opt/ml/config/resourceconfig.json out/x", "out/x because"),
        ("echo a > out/.a; rm out/.a; mkfifo out/x", "out/x because"),
    ],
)
def test_an_output_that_is_no_folder(region, script, why):
    """Nothing is sent, and the log says so; the job has not failed."""
    found = region.run(f"cd /opt/ml/processing && {script}", outputs=[taken("out")])
    assert found["ProcessingJobStatus"] == "Completed", found
    assert not region.objects("out")
    assert any(line.startswith("byoc: left out: ") and why in line for line in region.log())


def test_an_output_folder_that_was_removed(region):
    found = region.run("rmdir /opt/ml/processing/out", outputs=[taken("out")])
    assert found["ProcessingJobStatus"] == "Completed"


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("head -c 5000000 /dev/zero | tr '\\0' x > message", "x" * 1024),
        ("printf '%01023d\\303\\244' 0 > message", "0" * 1023),
        ("mkfifo message", None),
        ("ln -s /etc/passwd message", None),
        ("mkdir message", None),
        (": > message", None),
    ],
)
def test_a_message_of_any_form(region, script, expected):
    """Its first KB; a character that the cut divides is left out."""
    found = region.run(f"cd /opt/ml/output && {script}")
    assert found["ProcessingJobStatus"] == "Completed", found
    assert found.get("ExitMessage") == expected


def test_a_message_that_is_not_utf_8_fails_the_job(region):
    found = region.run("printf '\\377' > /opt/ml/output/message")
    assert found["ProcessingJobStatus"] == "Failed"
    assert found["FailureReason"].startswith("ClientError: /opt/ml/output/message is not UTF-8")


@pytest.mark.parametrize(
    ("objects", "inputs", "outputs", "words"),
    [
        (["a/code"], [given("a", "a/"), given("b", "a/", f"{PROCESSING}/a/code")], [], "a/code"),
        (["a/out"], [given("a", "a/")], [taken("o", path=f"{PROCESSING}/a/out")], "a/out"),
        (["a/../x"], [given("a", "a/")], [], "leads outside the folder"),
    ],
)
def test_names_that_clash(region, objects, inputs, outputs, words):
    """A file where a folder is needed."""
    for name in objects:
        region.put(name)
    found = region.run("true", inputs=inputs, outputs=outputs)
    assert found["ProcessingJobStatus"] == "Failed"
    assert found["FailureReason"].startswith("ClientError: Data download failed: ")
    assert words in found["FailureReason"]


def test_a_file_of_two_inputs(region):
    """The later input's is kept, and the object stays as it was."""
    region.put("a/b/x", b"1\n")
    region.put("b/x", b"2\n")
    inputs = [given("a", "a/"), given("b", "b/", f"{PROCESSING}/a/b")]
    found = region.run("cat /opt/ml/processing/a/b/x", inputs=inputs)
    assert found["ProcessingJobStatus"] == "Completed"
    said, printed = region.log()
    assert said.startswith("byoc: /opt/ml/processing/a/b/x comes from")
    assert printed == "2"
    assert region.read("a/b/x") == b"1\n"


def test_many_names_of_two_hosts_are_not_all_listed(region):
    found = region.run(
        "cd /opt/ml/processing/out; i=0; while [ $i -lt 150 ]; do : > $i; i=$((i+1)); done",
        outputs=[taken("out")],
        hosts=2,
    )
    assert found["ProcessingJobStatus"] == "Completed"
    assert len(region.log()) == 101
    assert region.log()[-1].startswith("byoc: there are more than 100 such files")
    assert len(region.objects("out/")) == 150


def test_a_kernel_without_namespaces(tmp_path):
    """The log says where the folders are."""
    region = ProcessingRegion(tmp_path / "state", ProcessEngine(()))
    try:
        region.put("in/a", b"1\n")
        found = region.run(
            "cat $SAGEMAKER_BASE_DIR/processing/data/a", inputs=[given("data", "in/")]
        )
        assert found["ProcessingJobStatus"] == "Completed"
        said, printed = region.log()
        assert "this kernel forbids mount namespaces" in said
        assert printed == "1"
    finally:
        region.close()


@pytest.mark.parametrize("mode", ["EndOfJob", "Continuous"])
def test_a_bucket_that_is_gone(region, mode):
    """The job has failed; the message and the other output are kept."""
    region.store.create_bucket("gone-bucket")
    lost = taken("lost", mode=mode)
    lost["S3Output"]["S3Uri"] = "s3://gone-bucket/x"
    region.create(
        "cd /opt/ml/processing; echo x > lost/x; echo y > kept/y;"
        " echo -n m > ../output/message; echo ready; while [ ! -e go/go ]; do sleep 0.02; done",
        outputs=[lost, taken("kept"), taken("go")],
    )
    region.wait_for_line("ready")
    for info in [*region.store.list("gone-bucket", "")]:
        region.store.delete("gone-bucket", info.key)
    region.store.delete_bucket("gone-bucket")
    work = region.state / "work/processing-jobs/job-1/algo-1/ml"
    (work / "processing/go/go").touch()
    found = region.end()
    assert found["ProcessingJobStatus"] == "Failed"
    assert found["FailureReason"].startswith("ClientError: Artifact upload failed: ")
    assert found["ExitMessage"] == "m"
    assert region.read("kept/y") == b"y\n"
    assert region.store.has_bucket(BUCKET)
