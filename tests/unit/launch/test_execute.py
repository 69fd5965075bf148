"""The calls of a plan: what is made, what is kept, what is said when one fails."""

from __future__ import annotations

import pytest
from tests.unit.launch.conftest import Service

from sagemaker_byoc.host.aws_calls import RefusedError
from sagemaker_byoc.launch import execute as executing
from sagemaker_byoc.launch.execute import UnfinishedError, execute
from sagemaker_byoc.launch.table import SettingsError


@pytest.fixture
def said():
    return []


def bodies(kept):
    """A PutObject or UploadPart that keeps what it is given."""

    def put(parameters):
        body = parameters["Body"]
        data = body if isinstance(body, bytes) else body.read()
        kept.append((parameters["Key"], parameters.get("PartNumber"), data))
        return {"ETag": f"tag-{len(kept)}"}

    return put


def test_a_job_is_made_with_its_data(make_train, said):
    kept = []
    service = Service(PutObject=bodies(kept), HeadBucket={})
    plan = make_train(channels={"train": "data/train"})
    made = execute(plan, service, said.append)
    assert service.calls == [
        "HeadBucket",
        "ListObjectsV2",
        "PutObject",
        "PutObject",
        "DescribeTrainingJob",
        "CreateTrainingJob",
    ]
    prefix = plan.steps[1].prefix
    assert [(key.removeprefix(prefix), data) for key, _, data in kept] == [
        ("deep/more.csv", b"more\n"),
        ("rows.csv", b"train\n"),
    ]
    assert made[-1] == f"training job {plan.name}"


def test_a_second_time_nothing_is_made(make_train, said):
    plan = make_train(channels={"train": "data/train"})
    files = [{"Key": file.key, "Size": file.size} for file in plan.steps[1].files]
    pages = iter(
        [
            {"Contents": files[:1], "IsTruncated": True, "NextContinuationToken": "x"},
            {"Contents": files[1:]},
        ]
    )
    service = Service(
        HeadBucket={},
        ListObjectsV2=lambda _: next(pages),
        DescribeTrainingJob={"TrainingJobStatus": "InProgress"},
    )
    assert execute(plan, service, said.append) == []
    assert not [call for call in service.calls if call.startswith(("Create", "Put"))]
    assert said[-1].endswith("exists already, InProgress")


def test_a_job_that_failed_is_not_taken_for_a_new_one(make_train, said):
    service = Service(HeadBucket={}, DescribeTrainingJob={"TrainingJobStatus": "Failed"})
    with pytest.raises(SettingsError, match="exists and is Failed") as caught:
        execute(make_train(), service, said.append)
    assert "--new" in caught.value.hint


@pytest.mark.parametrize(
    ("described", "calls"),
    [
        (None, ["CreateEndpoint"]),
        ({"EndpointStatus": "InService", "EndpointConfigName": "old"}, ["UpdateEndpoint"]),
        ({"EndpointStatus": "InService"}, []),
        ({"EndpointStatus": "Updating"}, []),
    ],
)
def test_an_endpoint_is_created_updated_or_kept(make_endpoint, described, calls, said):
    plan = make_endpoint()
    wanted = plan.steps[-1].same["EndpointConfigName"]
    answer = None if described is None else {"EndpointConfigName": wanted, **described}
    service = Service(DescribeModel={}, DescribeEndpointConfig={}, DescribeEndpoint=answer)
    execute(plan, service, said.append)
    assert [call for call in service.calls if "Describe" not in call] == calls


@pytest.mark.parametrize("status", ["Failed", "Creating", "Deleting"])
def test_an_endpoint_that_can_not_be_updated(make_endpoint, status, said):
    answer = {"EndpointStatus": status, "EndpointConfigName": "old"}
    service = Service(DescribeModel={}, DescribeEndpointConfig={}, DescribeEndpoint=answer)
    with pytest.raises(SettingsError, match=f"exists and is {status}"):
        execute(make_endpoint(), service, said.append)


def test_what_was_made_before_a_failure_is_named_with_its_undo(make_endpoint, said):
    """In the order in which it can be undone, and without the secret that the service repeats."""
    refusal = RefusedError("ResourceLimitExceeded", "No quota for topsecret", hint="Ask for more")
    service = Service(CreateEndpoint=refusal)
    plan = make_endpoint(environment={"API_KEY": "topsecret"})
    with pytest.raises(UnfinishedError) as caught:
        execute(plan, service, said.append)
    error = caught.value
    assert "endpoint digits could not be made: No quota for ***" in error.what
    assert plan.steps[0].makes in error.what
    undo = error.hint.partition("undo it: ")[2]
    assert undo == f"{plan.steps[1].undo} && {plan.steps[0].undo}"
    assert error.exit_code == 1


def test_the_first_refusal_is_the_services_own(make_train, said):
    refusal = RefusedError("AccessDenied", "no: topsecret", hint="ask")
    plan = make_train(environment={"API_KEY": "topsecret"})
    with pytest.raises(RefusedError) as caught:
        execute(plan, Service(HeadBucket=refusal), said.append)
    assert caught.value.what == "no: ***"
    assert "topsecret" not in str(caught.value)


def test_a_large_file_goes_in_parts(make_train, said, monkeypatch):
    monkeypatch.setattr(executing, "PART_BYTES", 4)
    kept, completed = [], []
    service = Service(
        HeadBucket={},
        PutObject=bodies(kept),
        CreateMultipartUpload={"UploadId": "u"},
        UploadPart=bodies(kept),
        CompleteMultipartUpload=completed.append,
    )
    execute(make_train(channels={"train": "data/train/rows.csv"}), service, said.append)
    assert [(part, data) for _, part, data in kept] == [(1, b"trai"), (2, b"n\n")]
    assert completed[0]["MultipartUpload"]["Parts"] == [
        {"PartNumber": 1, "ETag": "tag-1"},
        {"PartNumber": 2, "ETag": "tag-2"},
    ]


def test_the_parts_of_a_broken_upload_are_not_left_to_be_paid_for(make_train, said, monkeypatch):
    monkeypatch.setattr(executing, "PART_BYTES", 4)
    service = Service(
        HeadBucket={},
        CreateMultipartUpload={"UploadId": "u"},
        UploadPart=RefusedError("SlowDown", "slow down", hint="later"),
    )
    with pytest.raises(UnfinishedError):
        execute(make_train(channels={"train": "data/train/rows.csv"}), service, said.append)
    assert service.calls[-1] == "AbortMultipartUpload"


def test_a_model_folder_is_packed(make_endpoint, said):
    import gzip

    kept = []
    service = Service(HeadBucket={}, PutObject=bodies(kept))
    execute(make_endpoint(model="model"), service, said.append)
    ((key, _, data),) = kept
    assert key.endswith("/model.tar.gz")
    assert b"weights" in gzip.decompress(data)


def test_a_file_that_goes_away_meanwhile(make_train, folder, said):
    plan = make_train(channels={"train": "data/train"})
    (folder / "data/train/rows.csv").unlink()
    with pytest.raises(UnfinishedError, match=r"rows\.csv"):
        execute(plan, Service(HeadBucket={}), said.append)
