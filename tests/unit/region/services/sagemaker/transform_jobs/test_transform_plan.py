"""CreateTransformJob requests: what is accepted, with which defaults, and what is refused."""

from __future__ import annotations

import pytest

from sagemaker_byoc.region.services.sagemaker.transform_jobs.data_processing import Media
from sagemaker_byoc.region.services.sagemaker.transform_jobs.splitting import Split
from sagemaker_byoc.region.services.sagemaker.transform_jobs.transform_plan import (
    CapturePlan,
    Limits,
    Strategy,
    plan_of,
)
from sagemaker_byoc.region.wire.operations import AwsError


def request(**more):
    """A request as SDK 2 sends it; the name of a member's member is `Member__Member`."""
    found = {
        "TransformJobName": "job-1",
        "ModelName": "model",
        "TransformInput": {
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://in/data/x"}}
        },
        "TransformOutput": {"S3OutputPath": "s3://out/some/where/"},
        "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
    }
    for name, value in more.items():
        *outer, inner = name.split("__")
        target = found
        for member in outer:
            target = target.setdefault(member, {})
        target[inner] = value
    return found


def csv(**more):
    sides = {
        "TransformInput__ContentType": "text/csv",
        "TransformInput__SplitType": "Line",
        "TransformOutput__Accept": "text/csv",
        "TransformOutput__AssembleWith": "Line",
    }
    return request(**{**sides, **more})


def refusal(asked):
    with pytest.raises(AwsError) as caught:
        plan_of(asked)
    assert caught.value.code in {"ValidationException", "ResourceLimitExceeded"}
    return caught.value.message


def test_defaults():
    plan = plan_of(request())
    assert (plan.split, plan.ends_lines, plan.gunzip) == (Split.NONE, False, False)
    assert (plan.content_type, plan.accept, plan.processing) == (None, None, None)
    assert plan.limits == Limits(None, None, None)
    assert (plan.seconds, plan.retries) == (600.0, 3)
    assert plan.output_key("a/b.csv") == "some/where/a/b.csv.out"
    assert plan_of(request(TransformOutput__S3OutputPath="s3://out")).output_key("b") == "b.out"


def test_everything():
    plan = plan_of(
        csv(
            TransformInput__CompressionType="Gzip",
            TransformResources__InstanceCount=3,
            MaxConcurrentTransforms=4,
            MaxPayloadInMB=25,
            BatchStrategy="SingleRecord",
            Environment={"A": "b"},
            ModelClientConfig={"InvocationsTimeoutInSeconds": 5, "InvocationsMaxRetries": 0},
            DataProcessing={"InputFilter": "$[1:]", "JoinSource": "Input", "OutputFilter": "$[0]"},
            DataCaptureConfig={"DestinationS3Uri": "s3://c/at/", "GenerateInferenceId": True},
        )
    )
    assert plan.limits == Limits(4, 25, Strategy.SINGLE)
    assert (plan.seconds, plan.retries, plan.gunzip) == (5.0, 0, True)
    assert plan.source.hosts == ("algo-1", "algo-2", "algo-3")
    assert plan.processing.joins
    assert plan.processing.accept is Media.CSV
    assert (plan.capture, plan.gives_ids) == (CapturePlan("c", "at"), True)


def test_zero_asks_the_container_and_streams():
    assert plan_of(request(MaxConcurrentTransforms=0)).limits.concurrent is None
    assert plan_of(request(MaxPayloadInMB=0, MaxConcurrentTransforms=50)).limits.megabytes == 0


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (request(MaxPayloadInMB=101), "Value '101' at 'maxPayloadInMB' failed to satisfy"),
        (request(MaxPayloadInMB=51, MaxConcurrentTransforms=2), "(2) and MaxPayloadInMB (51) must"),
        (request(MaxConcurrentTransforms=101), "more than the 100 requests"),
        (request(TransformResources__InstanceCount=17), "has 1 to 16 instances"),
        (request(TransformInput__ContentType="a\r\nb"), "is not a media type"),
        (request(TransformOutput__S3OutputPath="https://x/y"), "is not an S3 URI"),
        *(
            (
                request(TransformInput__DataSource__S3DataSource__S3DataType=kind),
                f"S3DataType {kind} is not supported for transform jobs",
            )
            for kind in ("AugmentedManifestFile", "Converse")
        ),
    ],
)
def test_refusals(asked, words):
    assert words in refusal(asked)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (csv(DataProcessing={"InputFilter": "$.a"}), "only an index, a list of indexes or a range"),
        (csv(DataProcessing={"InputFilter": "$[0:2,4:]"}), "InputFilter: Invalid JsonPath: $[0:2"),
        (csv(DataProcessing={"OutputFilter": "a"}), "OutputFilter: Invalid JsonPath: a: it must"),
        (
            csv(DataProcessing={"JoinSource": "Input"}, TransformOutput__Accept="application/json"),
            "to be the same, not 'text/csv' and 'application/json'",
        ),
        (
            csv(DataProcessing={"JoinSource": "Input"}, TransformOutput__Accept=None),
            "JoinSource Input needs TransformOutput.Accept to be one of text/csv, application/",
        ),
        (
            csv(DataProcessing={"InputFilter": "$[0]"}, TransformInput__ContentType="image/png"),
            "InputFilter needs TransformInput.ContentType to be one of",
        ),
        (
            csv(DataProcessing={"InputFilter": "$[0]"}, TransformInput__SplitType="None"),
            "InputFilter of text/csv needs TransformInput.SplitType Line",
        ),
        (
            csv(DataProcessing={"JoinSource": "Input"}, TransformOutput__AssembleWith="None"),
            "JoinSource Input of text/csv needs TransformOutput.AssembleWith Line",
        ),
        (
            csv(DataProcessing={"JoinSource": "Input"}, TransformInput__SplitType="RecordIO"),
            "can't be used with SplitType RecordIO",
        ),
        (
            request(DataCaptureConfig={"DestinationS3Uri": "s3://c", "GenerateInferenceId": True}),
            "GenerateInferenceId needs TransformOutput.Accept to be one of",
        ),
    ],
)
def test_refusals_of_processing(asked, words):
    assert words in refusal(asked)


@pytest.mark.parametrize(
    "processing",
    [
        None,
        {},
        {"InputFilter": "$", "JoinSource": "None", "OutputFilter": "$"},
    ],
)
def test_nothing_to_process(processing):
    """The developer guide's default; the types need not be known then."""
    asked = request(TransformInput__ContentType="image/png", DataProcessing=processing)
    assert plan_of(asked).processing is None


def test_types_that_differ_without_a_join():
    asked = csv(
        DataProcessing={"InputFilter": "$[1:]", "OutputFilter": "$.class"},
        TransformInput__ContentType="text/csv; charset=utf-8",
        TransformOutput__Accept="application/json",
    )
    assert plan_of(asked).processing.accept is Media.JSON
