"""JSON 1.1 and query: requests to typed parameters, results and errors to bytes."""

from __future__ import annotations

import asyncio
import gzip
import json
from datetime import UTC, datetime
from xml.etree import ElementTree as ET

import cbor2
import pytest
from tests.unit.region.wire.requests import answer, request

from sagemaker_byoc.region.wire import cbor, json11, models, query
from sagemaker_byoc.region.wire.cbor import CborService
from sagemaker_byoc.region.wire.models import Service
from sagemaker_byoc.region.wire.operations import AwsError, EntityTooLargeError

TIME = datetime(2024, 5, 6, 7, 8, 9, 123000, tzinfo=UTC)


class Recorder:
    """An operation that keeps what it was given."""

    def __init__(self, result):
        self.result = result
        self.given = None

    async def __call__(self, parameters):
        self.given = parameters
        return self.result


def json_call(operation, result, body, service="sagemaker"):
    recorder = Recorder(result)
    handler = json11.JsonService(Service(service, {operation: recorder}))
    asked = request(
        body=body, x_amz_target=f"X.{operation}", content_type="application/x-amz-json-1.1"
    )
    return recorder, answer(handler, asked)


def cloudwatch(operation, **headers):
    handler = json11.JsonService(Service("cloudwatch", {"ListMetrics": operation}))
    return handler, request(x_amz_target="G.ListMetrics", **headers)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (gzip.compress(b"{")[:-4], "not one whole gzip stream"),
        (b"{}", "is not gzip"),
        (gzip.compress(b"{}") + b"more", "not one whole gzip stream"),
    ],
)
def test_a_compressed_body_that_is_not_whole(body, words):
    handler, asked = cloudwatch(Recorder({}), body=body, content_encoding="gzip")
    with pytest.raises(AwsError, match=words) as refused:
        answer(handler, asked)
    assert refused.value.code == "SerializationException"


def test_compressed_bodies_are_read_up_to_the_same_limit():
    recorder = Recorder({})
    body = gzip.compress(b'{"MetricName": "a"}')
    answer(*cloudwatch(recorder, body=body, content_encoding="gzip"))
    assert recorder.given == {"MetricName": "a"}
    bomb = gzip.compress(b" " * (json11.BODY_LIMIT + 1))
    handler, asked = cloudwatch(recorder, body=bomb, content_encoding="gzip")
    with pytest.raises(EntityTooLargeError):
        answer(handler, asked)


@pytest.mark.parametrize(("status", "side"), [(400, "Sender"), (500, "Receiver")])
def test_a_service_of_the_query_protocol_keeps_its_codes_in_json(status, side):
    async def fail(_parameters):
        raise AwsError("InvalidParameterValue", "words", status=status)

    handler, asked = cloudwatch(fail, content_type="application/x-amz-json-1.0", body=b"{}")
    with pytest.raises(AwsError) as refused:
        answer(handler, asked)
    response = json11.render_error(asked, refused.value)
    assert response.headers["x-amzn-query-error"] == f"InvalidParameterValue;{side}"
    assert response.headers["Content-Type"] == "application/x-amz-json-1.0"


def test_times_are_seconds_and_nulls_are_left_out():
    recorder, response = json_call(
        "ListEndpoints",
        {
            "Endpoints": [
                {
                    "EndpointName": "e",
                    "EndpointArn": "arn",
                    "CreationTime": TIME,
                    "LastModifiedTime": TIME,
                    "EndpointStatus": "InService",
                }
            ],
            "NextToken": None,
        },
        b'{"CreationTimeAfter": 1714979289.123, "NameContains": null, "Unknown": 1}',
    )
    assert recorder.given == {"CreationTimeAfter": TIME}
    document = json.loads(response.body)
    assert document["Endpoints"][0]["CreationTime"] == 1714979289.123
    assert "NextToken" not in document
    assert response.headers["x-amzn-RequestId"] == "request-1"
    assert response.headers["Content-Type"] == "application/x-amz-json-1.1"


def test_blobs_are_base64():
    shape = models.service_model("ecr").operation_model("UploadLayerPart").input_shape
    decoded = json11.decode(shape, {"layerPartBlob": "YWJj"})
    assert decoded == {"layerPartBlob": b"abc"}
    assert json11.encode(shape, decoded) == {"layerPartBlob": "YWJj"}


def test_an_empty_body_is_no_parameters():
    recorder, _ = json_call("ListTrainingJobs", {"TrainingJobSummaries": []}, b"")
    assert recorder.given == {}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "not JSON"),
        (b"[]", "START_ARRAY can not be converted to Structure"),
        (b'{"MaxResults": "1"}', "STRING_VALUE can not be converted to Integer at 'MaxResults'"),
        (b'{"MaxResults": true}', "TRUE_VALUE can not be converted to Integer"),
        (b'{"NameContains": 1}', "NUMBER_VALUE can not be converted to String"),
        (b'{"CreationTimeAfter": "soon"}', "not a time"),
        (b'{"CreationTimeAfter": 1e30}', "not a time"),
    ],
)
def test_a_body_of_another_type_is_a_serialization_exception(body, words):
    with pytest.raises(AwsError) as found:
        json_call("ListTrainingJobs", {}, body)
    assert found.value.code == "SerializationException"
    assert words in found.value.message


def test_a_result_that_the_model_does_not_have_is_our_mistake():
    with pytest.raises(TypeError, match="ListTrainingJobsResponse has no Jobs"):
        json_call("ListTrainingJobs", {"Jobs": []}, b"{}")


def test_an_operation_that_is_not_there_is_named_with_those_that_are():
    handler = json11.JsonService(Service("ecr", {"B": Recorder({}), "A": Recorder({})}))
    with pytest.raises(AwsError) as found:
        asyncio.run(handler(request(x_amz_target="X.DeleteRepository")))
    assert found.value.code == "UnknownOperationException"
    assert "ecr:DeleteRepository" in found.value.message
    assert found.value.message.endswith("A, B")


def query_call(operation, result, body, service="iam"):
    recorder = Recorder(result)
    handler = query.QueryService(Service(service, {operation: recorder}))
    response = answer(handler, request(body=body, content_type="application/x-www-form-urlencoded"))
    return recorder, ET.fromstring(response.body)


def test_a_form_is_read_by_the_model():
    recorder, _ = query_call(
        "SimulatePrincipalPolicy",
        {},
        b"Action=SimulatePrincipalPolicy&PolicySourceArn=arn:aws:iam::1:role/abcdefgh"
        b"&ActionNames.member.1=s3:a&ActionNames.member.2=s3:b&MaxItems=5"
        b"&ContextEntries.member.1.ContextKeyName=abcde"
        b"&ContextEntries.member.1.ContextKeyValues.member.1=v",
    )
    assert recorder.given == {
        "PolicySourceArn": "arn:aws:iam::1:role/abcdefgh",
        "ActionNames": ["s3:a", "s3:b"],
        "MaxItems": 5,
        "ContextEntries": [{"ContextKeyName": "abcde", "ContextKeyValues": ["v"]}],
    }


def test_a_result_is_wrapped_and_has_the_request_id():
    _, root = query_call(
        "ListRolePolicies",
        {"PolicyNames": ["a<b", "c"], "IsTruncated": False},
        b"Action=ListRolePolicies&RoleName=r",
    )
    space = "{https://iam.amazonaws.com/doc/2010-05-08/}"
    assert root.tag == f"{space}ListRolePoliciesResponse"
    result = root.find(f"{space}ListRolePoliciesResult")
    assert [found.text for found in result.iter(f"{space}member")] == ["a<b", "c"]
    assert result.find(f"{space}IsTruncated").text == "false"
    assert root.find(f".//{space}RequestId").text == "request-1"


def test_a_number_that_is_none_is_malformed():
    with pytest.raises(AwsError) as found:
        query_call("ListRoles", {}, b"Action=ListRoles&MaxItems=many")
    assert found.value.code == "MalformedInput"


def test_an_error_says_whose_fault_it_is():
    for status, kind in ((400, "Sender"), (500, "Receiver")):
        response = query.render_error(request(), AwsError("Code", "a & b", status=status))
        root = ET.fromstring(response.body)
        assert root.findtext("Error/Type") == kind
        assert root.findtext("Error/Message") == "a & b"
        assert response.status == status


def cbor_call(operation, body, method="ListMetrics"):
    handler = CborService(Service("cloudwatch", {method: operation}))
    target = f"/service/GraniteServiceVersion20100801/operation/{method}"
    return answer(handler, request("POST", target, body=body, content_type="application/cbor"))


def test_cbor_both_ways():
    """Times are tagged, as CBOR has them."""
    recorder = Recorder({"Label": "m", "Datapoints": [{"Timestamp": TIME, "Sum": 1.5}]})
    asked = {
        "Namespace": "n", "MetricName": "m", "StartTime": TIME, "EndTime": TIME, "Period": 60,
        "Statistics": ["Sum"], "Unit": None, "Unknown": 1,
    }  # fmt: skip
    body = cbor2.dumps(asked, datetime_as_timestamp=True)
    response = cbor_call(recorder, body, "GetMetricStatistics")
    assert response.headers["smithy-protocol"] == "rpc-v2-cbor"
    assert recorder.given == {
        name: value for name, value in asked.items() if name not in {"Unit", "Unknown"}
    }
    assert cbor2.loads(response.body) == recorder.result
    assert b"\xc1\xfb" in response.body  # tag 1, a double


def test_cbor_blobs_are_bytes():
    shape = models.service_model("kms").shape_for("CiphertextType")
    assert json11.decode(shape, b"\xff") == b"\xff"


@pytest.mark.parametrize(
    "body",
    [
        b"\xff", b"\xa1", b"\x1c", cbor2.dumps([1]), cbor2.dumps({"Namespace": 1}),
        b"\xc1" * 2000, b"\x81" * 100_000, b"\xc2\x41\x01", b"\xd8\x1d\x00", b"\xc0\x61x",
        b"\xc1\xfb\x7f\xf0\x00\x00\x00\x00\x00\x00", cbor2.dumps({"Namespace": b"n"}),
        b"\x9b" + b"\x7f" * 8, b"\x5b" + b"\x7f" * 8,
    ],
)  # fmt: skip
def test_cbor_that_is_broken(body):
    with pytest.raises((AwsError, RecursionError)) as refused:
        cbor_call(Recorder({}), body)
    assert getattr(refused.value, "code", "SerializationException") == "SerializationException"


@pytest.mark.parametrize(
    "document",
    [
        b"\x82\xd8\x1c\x81\x01\xd8\x1d\x00",  # a shared list, twice
        cbor2.dumps(cbor2.CBORTag(35, "(a+)+")),
        cbor2.dumps(cbor2.CBORTag(70_000, "x")),
        cbor2.dumps(TIME),  # a text with tag 0
    ],
)
def test_cbor_of_other_tags_is_refused(document):
    """Shared references would let a small body stand for millions of values."""
    body = b"\xa1" + cbor2.dumps("Dimensions") + document
    with pytest.raises(AwsError, match="the only tag of this protocol is 1") as refused:
        cbor_call(Recorder({}), body)
    assert refused.value.code == "SerializationException"


def test_numbers_and_times_beyond_all_ranges():
    early = datetime.fromisoformat("0001-01-01T00:00:00+01:00")
    shape = models.service_model("cloudwatch").shape_for("Timestamp")
    for value in (early, early.isoformat(), 10**400):
        with pytest.raises(AwsError) as refused:
            json11.decode(shape, value, "StartTime")
        assert refused.value.code == "SerializationException"
    shape = models.service_model("cloudwatch").shape_for("DatapointValue")
    with pytest.raises(AwsError, match="'Value' is not a number of 64 bits") as refused:
        json11.decode(shape, 10**400, "Value")
    assert refused.value.code == "SerializationException"


def test_a_cbor_error_has_its_code_twice():
    async def fail(_parameters):
        raise AwsError("InvalidParameterValue", "words")

    with pytest.raises(AwsError) as refused:
        cbor_call(fail, b"")
    response = cbor.render_error(request(), refused.value)
    assert cbor2.loads(response.body) == {"__type": "InvalidParameterValue", "message": "words"}
    assert response.headers["x-amzn-query-error"] == "InvalidParameterValue;Sender"
