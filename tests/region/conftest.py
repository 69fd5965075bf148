"""A region for each test module, and clients that check every answer against AWS's own model."""

from __future__ import annotations

from pathlib import Path

import pytest
from botocore.validate import ParamValidator

from sagemaker_byoc.region.region import Region
from sagemaker_byoc.region.wire import models
from sagemaker_byoc.region.wire.operations import AwsError

UNNAMED = {"DescribeModelPackage": {"ModelPackageName"}}
"""Required members that AWS's own answers lack: the versions of a group have no name."""


class CheckedRegion(Region):
    """`client` gives clients whose answers must have the shape that the service model gives."""

    def client(self, service):
        client = super().client(service)
        client.meta.events.register("after-call.*", check_answer)
        return client


@pytest.fixture(scope="module")
def region():
    """On the process engine, with a temporary state."""
    with CheckedRegion() as region:
        yield region


def check_answer(http_response, parsed, model, **_):
    """Types, required members, enums, lengths and patterns of the output; a code and words of an
    error. To be registered for botocore's `after-call`."""
    assert parsed["ResponseMetadata"].get("RequestId") or http_response.headers, model.name
    if http_response.status_code >= 300:
        error = parsed["Error"]
        assert error["Code"], (model.name, parsed)
        assert error["Message"] or not http_response.content, (model.name, parsed)
        return
    shape = model.output_shape
    if shape is None:
        return
    streams = {
        name
        for name, member in shape.members.items()
        if member.serialization.get("streaming") or member.serialization.get("eventstream")
    }
    values = {
        name: value
        for name, value in parsed.items()
        if name not in streams and name != "ResponseMetadata"
    }
    streams |= UNNAMED.get(model.name, set())
    missing = set(shape.required_members) - set(values) - streams
    assert not missing, f"{model.name}: {missing} missing"
    problems = ParamValidator().validate(values, _without(shape, streams))
    assert not problems.has_errors(), f"{model.name}: {problems.generate_report()}"
    try:
        models.check(model.service_model.service_name, _without(shape, streams), values)
    except AwsError as error:
        pytest.fail(f"{model.name}: {error.message}")


def _without(shape, names):
    """The shape, no longer demanding what is not a value: a stream."""
    if names:
        shape.metadata["required"] = [n for n in shape.required_members if n not in names]
        shape.__dict__.pop("required_members")  # as botocore has cached it
    return shape


def peak_memory():
    """Return the most bytes that this process has had in memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("VmHWM:"))
    return int(line.split()[1]) << 10
