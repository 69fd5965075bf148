"""The plan of a transform job: its CreateTransformJob request, checked and typed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sagemaker_byoc.contract import http as hosting
from sagemaker_byoc.contract.training.channels import Channel, Distribution, InputMode
from sagemaker_byoc.region.services.s3.store.objects import parse_s3_uri
from sagemaker_byoc.region.services.sagemaker.jobs.inputs import ChannelPlan, DataType
from sagemaker_byoc.region.services.sagemaker.jobs.outputs import location
from sagemaker_byoc.region.services.sagemaker.resources import invalid
from sagemaker_byoc.region.services.sagemaker.transform_jobs.data_processing import (
    Media,
    Processing,
)
from sagemaker_byoc.region.services.sagemaker.transform_jobs.json_paths import (
    JsonPath,
    JsonPathError,
    parse,
)
from sagemaker_byoc.region.services.sagemaker.transform_jobs.splitting import Split
from sagemaker_byoc.region.wire.operations import AwsError

MOST_INSTANCES = 16
"""A limit of this region: the instances are processes of one machine. SageMaker's is 100."""
MOST_MEGABYTES: int = hosting.TRANSFORM_PRODUCT.value
"""Largest MaxPayloadInMB, and its largest product with MaxConcurrentTransforms."""
MOST_CONCURRENT = 100
"""A limit of this region for the requests at a time to one instance."""
DEFAULT_TIMEOUT, DEFAULT_RETRIES = 600, 3
"""Source: service model, ModelClientConfig."""

Request = Mapping[str, Any]


class Strategy(StrEnum):
    MULTI = "MultiRecord"
    SINGLE = "SingleRecord"

    @property
    def variable(self) -> str:
        """The spelling of SAGEMAKER_BATCH_STRATEGY and of /execution-parameters."""
        return "SINGLE_RECORD" if self is Strategy.SINGLE else "MULTI_RECORD"


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits in the request. A member is None, or 0, if the request leaves it open."""

    concurrent: int | None
    megabytes: int | None
    strategy: Strategy | None


@dataclass(frozen=True, slots=True)
class CapturePlan:
    bucket: str
    prefix: str
    """Without slashes at its ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformPlan:
    name: str
    model: str
    source: ChannelPlan
    """Its hosts are the instances, as `algo-N`."""
    content_type: str | None
    accept: str | None
    gunzip: bool
    split: Split
    ends_lines: bool
    """Whether AssembleWith is Line."""
    bucket: str
    prefix: str
    """Where the output is put, without slashes at its ends."""
    instances: int
    instance_type: str
    environment: Mapping[str, str]
    limits: Limits
    seconds: float
    """Time for one invocation."""
    retries: int
    processing: Processing | None
    capture: CapturePlan | None
    gives_ids: bool

    @property
    def folder(self) -> str:
        """The start of the keys of its outputs: empty, or with a slash at its end."""
        return f"{self.prefix}/" if self.prefix else ""

    def output_key(self, relative: str) -> str:
        """Return the key of the output for the object of that name below the input's prefix."""
        return f"{self.folder}{relative}.out"


def plan_of(request: Request) -> TransformPlan:
    """Return the plan. Raise AwsError if the region can't run what is requested."""
    given, wanted = request["TransformInput"], request["TransformOutput"]
    split = Split(given.get("SplitType") or "None")
    ends_lines = wanted.get("AssembleWith") == "Line"
    instances = _instances(request["TransformResources"])
    bucket, prefix = location(wanted["S3OutputPath"])
    client = request.get("ModelClientConfig") or {}
    capture = request.get("DataCaptureConfig") or {}
    return TransformPlan(
        name=request["TransformJobName"],
        model=request["ModelName"],
        source=_source(given["DataSource"]["S3DataSource"], instances),
        content_type=_header(given.get("ContentType"), "TransformInput.ContentType"),
        accept=_header(wanted.get("Accept"), "TransformOutput.Accept"),
        gunzip=given.get("CompressionType") == "Gzip",
        split=split,
        ends_lines=ends_lines,
        bucket=bucket,
        prefix=prefix,
        instances=instances,
        instance_type=request["TransformResources"]["InstanceType"],
        environment=request.get("Environment") or {},
        limits=_limits(request),
        seconds=float(client.get("InvocationsTimeoutInSeconds", DEFAULT_TIMEOUT)),
        retries=client.get("InvocationsMaxRetries", DEFAULT_RETRIES),
        processing=_processing(request, split, ends_lines=ends_lines),
        capture=CapturePlan(*location(capture["DestinationS3Uri"])) if capture else None,
        gives_ids=bool(capture.get("GenerateInferenceId")),
    )


def _instances(resources: Request) -> int:
    count: int = resources["InstanceCount"]
    if count > MOST_INSTANCES:
        raise AwsError(
            "ResourceLimitExceeded",
            f"A transform job of this region has 1 to {MOST_INSTANCES} instances, all of them on "
            f"one machine, not {count}",
        )
    return count


def _source(source: Request, instances: int) -> ChannelPlan:
    """Return the input as a channel whose objects are shared among the instances by key."""
    data_type = source["S3DataType"]
    if data_type not in {DataType.PREFIX.value, DataType.MANIFEST.value}:
        raise invalid(
            f"S3DataType {data_type} is not supported for transform jobs: use S3Prefix or "
            "ManifestFile"
        )
    bucket, key = parse_s3_uri(source["S3Uri"])
    # Pipe: a key need not be the name of a file.
    channel = Channel("transform", mode=InputMode.PIPE, distribution=Distribution.SHARDED)
    return ChannelPlan(
        channel=channel,
        data_type=DataType(data_type),
        uri=source["S3Uri"],
        bucket=bucket,
        key=key,
        attributes=(),
        gunzip=False,
        seed=None,
        hosts=tuple(f"algo-{number}" for number in range(1, instances + 1)),
    )


def _limits(request: Request) -> Limits:
    megabytes: int | None = request.get("MaxPayloadInMB")
    concurrent: int | None = request.get("MaxConcurrentTransforms")
    if megabytes is not None and megabytes > MOST_MEGABYTES:
        raise invalid(
            f"1 validation error detected: Value '{megabytes}' at 'maxPayloadInMB' failed to "
            "satisfy constraint: Member must have value less than or equal to "
            f"{MOST_MEGABYTES}"
        )
    if concurrent is not None and concurrent > MOST_CONCURRENT:
        raise invalid(
            f"MaxConcurrentTransforms {concurrent} is more than the {MOST_CONCURRENT} requests "
            "that this region sends to an instance at a time"
        )
    if concurrent and megabytes and concurrent * megabytes > MOST_MEGABYTES:
        raise invalid(
            f"The product of MaxConcurrentTransforms ({concurrent}) and MaxPayloadInMB "
            f"({megabytes}) must not exceed {MOST_MEGABYTES} MB"
        )
    strategy = request.get("BatchStrategy")
    return Limits(concurrent or None, megabytes, Strategy(strategy) if strategy else None)


def _processing(request: Request, split: Split, *, ends_lines: bool) -> Processing | None:
    """Return how records are processed; None if they are passed on unchanged."""
    asked = request.get("DataProcessing") or {}
    capture = request.get("DataCaptureConfig") or {}
    given, wanted = request["TransformInput"], request["TransformOutput"]
    content, accept = Media.of(given.get("ContentType")), Media.of(wanted.get("Accept"))
    input_filter = _path(asked, "InputFilter")
    output_filter = _path(asked, "OutputFilter")
    joins = asked.get("JoinSource") == "Input"
    gives_ids = bool(capture.get("GenerateInferenceId"))
    changes_output = joins or gives_ids or not output_filter.is_root
    if input_filter.is_root and not changes_output:
        return None
    if split not in {Split.NONE, Split.LINE}:
        raise invalid(
            f"DataProcessing can't be used with SplitType {split.value}: use Line or None"
        )
    if not input_filter.is_root:
        kind = given.get("ContentType")
        _check_side("InputFilter", input_filter, content, "TransformInput.ContentType", kind)
    cause = "JoinSource Input" if joins else "GenerateInferenceId" if gives_ids else "OutputFilter"
    if changes_output:
        _check_side(cause, output_filter, accept, "TransformOutput.Accept", wanted.get("Accept"))
    if joins and content is not accept:
        raise invalid(
            "JoinSource Input needs TransformInput.ContentType and TransformOutput.Accept to be "
            f"the same, not {given.get('ContentType')!r} and {wanted.get('Accept')!r}"
        )
    reads_csv = content is Media.CSV and (joins or not input_filter.is_root)
    if reads_csv and split is not Split.LINE:
        first = "JoinSource Input" if joins else "InputFilter"
        raise invalid(f"{first} of text/csv needs TransformInput.SplitType Line")
    if changes_output and accept is Media.CSV and not ends_lines:
        raise invalid(f"{cause} of text/csv needs TransformOutput.AssembleWith Line")
    return Processing(
        input_filter=input_filter,
        output_filter=output_filter,
        joins=joins,
        content=content,
        accept=accept,
        is_split=split is Split.LINE,
        ends_lines=ends_lines or split is Split.LINE or accept is not Media.JSON,
    )


def _check_side(
    cause: str, path: JsonPath, media: Media | None, where: str, given: str | None
) -> None:
    """Raise AwsError if `cause`, a member of the request, can't process the type `given`."""
    if media is None:
        known = ", ".join(each.value for each in Media)
        raise invalid(f"{cause} needs {where} to be one of {known}, not {given!r}")
    if media is Media.CSV and not path.is_of_columns:
        raise invalid(
            f"Invalid JsonPath: {path.text}: only an index, a list of indexes or a range can be "
            "applied to text/csv, for example $[0], $[0,-1] or $[1:]"
        )


def _path(asked: Request, member: str) -> JsonPath:
    try:
        return parse(asked.get(member) or "$")
    except JsonPathError as error:
        raise invalid(f"DataProcessing.{member}: {error}") from error


def _header(value: str | None, where: str) -> str | None:
    """Return the value, None if it is empty. Raise AwsError if it can't be a header."""
    if value and not (value.isascii() and value.isprintable()):
        raise invalid(f"{where} {value!r} is not a media type")
    return value or None
