"""What can be said of the settings of a launch before anything is asked of AWS."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sagemaker_byoc.cli import launch_places, target
from sagemaker_byoc.cloud import session
from sagemaker_byoc.contract import limits
from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.contract.masking import MASK, is_secret
from sagemaker_byoc.launch import endpoint, image, inputs, rules, train
from sagemaker_byoc.launch.content_names import check_name, is_name
from sagemaker_byoc.launch.errors import SettingsError
from sagemaker_byoc.launch.place import Place, role_arn
from sagemaker_byoc.launch.problems import Problems
from sagemaker_byoc.launch.rules import Finding
from sagemaker_byoc.launch.shared import Shared, missing
from sagemaker_byoc.launch.steps import Plan
from sagemaker_byoc.launch.table import Written

if TYPE_CHECKING:
    from botocore.model import Shape, StructureShape

Settings = train.TrainSettings | endpoint.EndpointSettings
_ACCOUNT, _REGION, _TYPE = "123456789012", "us-east-1", "ml.m5.large"
"""Stand in for what is missing or not known yet."""
_STAND_IN = "s3://bucket/model.tar.gz"
_NAMING = ("Name", "Key", "ChannelName")
"""Members by which the entry of a list is known."""
_SHOWN = 60
_FEW = 12
_UPGRADE = "a newer botocore may know it: pip install --upgrade botocore"
_MOST = {"integer": 2**31 - 1, "long": 2**63 - 1}
"""What the types of the service's own language hold."""
_UNSHOWN = frozenset({"HyperParameters", "Environment"})
"""Members in whose values secrets may be."""
_WRONG_TYPE = re.compile(r"Invalid type for parameter (\w+)")
_CLASS = re.compile(r"<class '(?:\w+\.)*(\w+)'>")
_RANGES = ("Invalid value for", "Invalid length for")
"""Botocore's words for some of what `_constraints` finds too."""
_UNKNOWN = re.compile(r'Unknown parameter in ([^:]+): "([^"]*)", must be one of: (.*)')


def check(settings: Settings, problems: Problems, *, local: bool) -> None:
    """Add every problem of the settings that can be known on this machine."""
    shared = settings.shared
    region = _REGION if local else _region(shared, problems)
    _check_image(shared, region, problems, local=local)
    role = launch_places.role_of(shared)
    if not role and not local:
        _add(problems, shared, "role", missing(shared.where, "role"))
    bucket = shared.bucket
    if bucket and not limits.is_bucket_name(bucket):
        wrong = SettingsError(f"{shared.where}: bucket is {bucket!r}", hint=rules.BUCKET_HINT)
        _add(problems, shared, "bucket", wrong)
        bucket = ""
    place = Place(
        region=region,
        account=_ACCOUNT,
        image=shared.image or "image",
        digest=f"sha256:{'0' * 64}",
        role=role_arn(role or "role", region, _ACCOUNT),
        commit="0" * 40,
        bucket=bucket,
    )
    settings = replace(settings, shared=_without_wrong_types(shared, problems))
    with _into(problems, shared, "plan"):
        check_plan(_draft(settings, place, problems), settings.shared, problems)


def check_plan(plan: Plan, shared: Shared, problems: Problems) -> None:
    """Hold every call against AWS's model of it, and against what the documentation says."""
    calls = plan.calls()
    for call in calls:
        for finding in _findings(call.service, call.operation, call.parameters):
            _report_finding(call.operation, finding, shared, problems)
    for operation, finding in rules.check_together({c.operation: c.parameters for c in calls}):
        _report_finding(operation, finding, shared, problems)


def _report_finding(operation: str, finding: Finding, shared: Shared, problems: Problems) -> None:
    key = rules.key_of(operation, finding, shared.request.get(operation) or {})
    if finding.is_warning:
        problems.warn(f"warning: {key} {finding.what}. {finding.hint}")
    else:
        error = SettingsError(f"{shared.where}: {key} {finding.what}", hint=finding.hint)
        _add(problems, shared, key, error)


def _without_wrong_types(shared: Shared, problems: Problems) -> Shared:
    """Report raw members of other types than the API's; return the settings without them."""
    request = {operation: dict(raw) for operation, raw in shared.request.items()}
    for operation, raw in shared.request.items():
        shape = _shape_of("sagemaker", operation)
        for line in _report(raw, shape) if shape is not None else ():
            if match := _WRONG_TYPE.match(line):
                request[operation].pop(match[1], None)
                finding = _of_type(line)
                key = rules.key_of(operation, finding, raw)
                error = SettingsError(f"{shared.where}: {key} {finding.what}", hint=finding.hint)
                _add(problems, shared, f"{key} {line}", error)
    hosts = shared.instance_type
    if request != shared.request:
        hosts = hosts or _TYPE  # what was left out may have named the instances
    return replace(shared, request=request, instance_type=hosts)


def _draft(settings: Settings, place: Place, problems: Problems) -> Plan:
    """Return the plan with stand-ins for what is missing, without reading the data."""
    shared = settings.shared
    with _into(problems, shared, "name"):
        check_name(shared.where, shared.name)
    if not is_name(shared.name):
        shared = replace(shared, name="name")
    if not shared.instance_type and _needs_type(settings):
        error = missing(shared.where, "instance-type")
        _add(problems, shared, "instance-type", error)
        shared = replace(shared, instance_type=_TYPE)
    if isinstance(settings, train.TrainSettings):
        channels = {
            name: replace(
                channel, source=_remote(f"channels.{name}", channel.source, shared, problems)
            )
            for name, channel in settings.channels.items()
        }
        return train.plan(replace(settings, shared=shared, channels=channels), place)
    job = endpoint.wanted_job(settings)
    if settings.model.startswith(endpoint.JOB) and not is_name(job):
        error = SettingsError(
            f"{shared.where}: model is {settings.model!r}, and {job!r} is not the name of a job",
            hint='Write model = "job:NAME" with a job\'s name, or the beginning of one',
        )
        _add(problems, shared, "model", error)
    model = (
        _STAND_IN
        if settings.model.startswith(endpoint.JOB)
        else settings.model and _remote("model", settings.model, shared, problems)
    )
    return endpoint.plan(replace(settings, shared=shared, model=model), place)


def _remote(key: str, source: str, shared: Shared, problems: Problems) -> str:
    if inputs.is_remote(source):
        return source
    if source:
        with _into(problems, shared, f"{key} (path)"):
            check = inputs.require_model if key == "model" else inputs.require
            check(f"{shared.where}: {key}", shared.folder / source)
    return _STAND_IN


def _needs_type(settings: Settings) -> bool:
    request = settings.shared.request
    if isinstance(settings, train.TrainSettings):
        return not request[train.OPERATION].get("ResourceConfig", {}).get("InstanceGroups")
    return (
        settings.serverless is None and "ProductionVariants" not in request["CreateEndpointConfig"]
    )


def _region(shared: Shared, problems: Problems) -> str:
    try:
        return session.resolve_region(shared.region or None)
    except RequestError as error:
        unset = missing(shared.where, "region")
        wrong = SettingsError(f"{shared.where}: region: {error.what}", hint=unset.hint)
        _add(problems, shared, "region", wrong)
    return _REGION


def _check_image(shared: Shared, region: str, problems: Problems, *, local: bool) -> None:
    if not shared.image:
        _add(problems, shared, "image", missing(shared.where, "image"))
    elif not local:
        known = f"{shared.where}: region" not in problems.errors
        with _into(problems, shared, "image"):
            if not image.is_private(shared):
                found = image.in_ecr(shared, shared.image, region if known else "")
                _check_ecr(image.request_of(*found), shared, problems)


def _check_ecr(request: Mapping[str, Any], shared: Shared, problems: Problems) -> None:
    for finding in _findings("ecr", "DescribeImages", request):
        what = f"{shared.where}: image: its {finding.path[-1]} {finding.what}"
        _add(problems, shared, "image", SettingsError(what, hint=finding.hint))


def _add(problems: Problems, shared: Shared, key: str, error: SettingsError) -> None:
    problems.add(f"{shared.where}: {key}", error)


@contextmanager
def _into(problems: Problems, shared: Shared, key: str) -> Iterator[None]:
    try:
        yield
    except SettingsError as error:
        _add(problems, shared, key, error)


# ── AWS's model ──


def _findings(service: str, operation: str, request: Mapping[str, Any]) -> Iterator[Finding]:
    shape = _shape_of(service, operation)
    if shape is None:
        return
    lines = [line for line in _report(request, shape) if not line.startswith(_RANGES)]
    unknown = [_UNKNOWN.fullmatch(line) for line in lines]
    for line, match in zip(lines, unknown, strict=True):
        yield _of_member(match) if match else _of_type(line)
    if not all(unknown):
        return  # the rest would stumble over wrong types
    yield from _broken(shape, dict(request), (), "")
    yield from rules.check(operation, request)


def _shape_of(service: str, operation: str) -> StructureShape | None:
    with target.explained_imports():
        from sagemaker_byoc.region.wire import models  # noqa: PLC0415 - needs botocore
    return models.service_model(service).operation_model(operation).input_shape


def _report(request: Mapping[str, Any], shape: StructureShape) -> list[str]:
    """Return botocore's own sentences about types and members."""
    from botocore.validate import ParamValidator  # noqa: PLC0415 - takes long

    return list(ParamValidator().validate(dict(request), shape).generate_report().splitlines())


def _of_member(unknown: re.Match[str]) -> Finding:
    """A raw member that the API does not have."""
    where, name, known = unknown.groups()
    near = difflib.get_close_matches(name, known.split(", "), n=1)
    hint = f"Did you mean {near[0]}?" if near else f"Leave it out; {_UPGRADE}"
    parts = [part for part in re.findall(r"[^.\[\]]+", where) if not part.isdigit()]
    path = parts[1:] if parts[0] == "input" else parts
    return Finding((*path, name), "is not a member of the API", hint)


def _of_type(line: str) -> Finding:
    """A raw member of another type than the API's, or one that is missing beside it."""
    shown = re.sub(r"(, value: ).*?(, type: )", rf"\g<1>{MASK}\g<2>", line)
    shown = _CLASS.sub(r"\1", shown).replace(Written.__name__, float.__name__)
    return Finding((), f"would be refused: {shown}", "Correct it as the API has it")


def _broken(shape: Shape, value: Any, path: tuple[str, ...], label: str) -> Iterator[Finding]:
    """Each size, pattern and set of values that `value` or what is inside does not fit."""
    if value is None:
        return
    for what, hint in _constraints(shape, value, path, label):
        yield Finding(path, what, hint, label)
    if shape.type_name == "structure":
        for name, member in shape.members.items():
            yield from _broken(member, value.get(name), (*path, name), label)
    elif shape.type_name == "list":
        for item in value:
            named = item if isinstance(item, Mapping) else {}
            below = next((str(named[name]) for name in _NAMING if name in named), "")
            yield from _broken(shape.member, item, path, below or label)
    elif shape.type_name == "map":
        for key, item in value.items():
            for what, hint in _constraints(shape.key, key, (), ""):
                yield Finding(path, f"has a name that {what}", hint, key)
            yield from _broken(shape.value, item, path, key)


def _constraints(
    shape: Shape, value: Any, path: tuple[str, ...], label: str
) -> Iterator[tuple[str, str]]:
    from sagemaker_byoc.region.wire import models  # noqa: PLC0415 - needs botocore

    facts = shape.metadata
    if isinstance(value, bool) and shape.type_name != "boolean":  # botocore takes it for a number
        yield f"is {str(value).lower()}, not a number", "Correct it as the API has it"
        return
    size, unit = _size(shape, value)
    least, most = facts.get("min"), facts.get("max", _MOST.get(shape.type_name))
    if size is not None and most is not None and size > most:
        yield f"is {size} {unit}".rstrip() + f"; SageMaker takes {most} at most", "Make it smaller"
    if size is not None and least is not None and size < least:
        yield f"is {size} {unit}".rstrip() + f"; SageMaker takes {least} at least", "Make it larger"
    secret = is_secret(label) or not _UNSHOWN.isdisjoint(path) or is_secret("".join(path[-1:]))
    shown = MASK if secret else _show(value)
    if facts.get("enum") and value not in facts["enum"]:
        yield f"is {shown}, which SageMaker does not know", _nearest(str(value), facts["enum"])
    elif facts.get("pattern") and not models.matches(facts["pattern"], value):
        hint = f"The pattern is {facts['pattern']}"
        if "\n" in str(value):
            hint += ", which a line break does not fit"
        yield f"is {shown}, which SageMaker does not take", hint


def _size(shape: Shape, value: Any) -> tuple[int | float | None, str]:
    match shape.type_name:
        case "string" | "blob":
            return len(value), "characters long"
        case "list" | "map":
            return len(value), "entries"
        case "integer" | "long" | "float" | "double":
            return value, ""
    return None, ""


def _nearest(value: str, known: list[str]) -> str:
    plain = value.strip().lower()
    near = [each for each in (plain, f"ml.{plain}") if each in known]
    near = near or difflib.get_close_matches(value, known, n=1)
    start = f"Did you mean {near[0]}?" if near else "Correct it."
    return f"{start} Else {_UPGRADE}" if len(known) > _FEW else f"Use {' or '.join(known)}"


def _show(value: Any) -> str:
    text = str(value)
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")
