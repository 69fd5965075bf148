"""Check the settings of a launch before any call to AWS."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from sagemaker_byoc.contract import facts
from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.contract.masking import MASK, is_secret
from sagemaker_byoc.host.aws_calls import Call
from sagemaker_byoc.launch import endpoint, image, inputs, rules, train
from sagemaker_byoc.launch.inputs import check_name, is_name
from sagemaker_byoc.launch.rules import Finding
from sagemaker_byoc.launch.shared import Shared, missing, role_of
from sagemaker_byoc.launch.steps import Place, Plan, role_arn
from sagemaker_byoc.launch.table import Problems, SettingsError, Written

if TYPE_CHECKING:
    from botocore.model import Shape, StructureShape

Settings = train.TrainSettings | endpoint.EndpointSettings
_ACCOUNT, _REGION, _TYPE = "123456789012", "us-east-1", "ml.m5.large"
"""Stand-ins for what is missing or not known yet."""
_STAND_IN = "s3://bucket/model.tar.gz"
_NAMING = ("Name", "Key", "ChannelName")
"""Members that name the entry of a list."""
_SHOWN = 60
_FEW = 12
_UPGRADE = "a newer botocore may know it: pip install --upgrade botocore"
_MOST = {"integer": 2**31 - 1, "long": 2**63 - 1}
"""Largest values of the service's integer types."""
_UNSHOWN = frozenset({"HyperParameters", "Environment"})
"""Members whose values may hold secrets."""
_WRONG_TYPE = re.compile(r"Invalid type for parameter (\w+)")
_CLASS = re.compile(r"<class '(?:\w+\.)*(\w+)'>")
_RANGES = ("Invalid value for", "Invalid length for")
"""Botocore's words for some of what `_faults` finds too."""
_UNKNOWN = re.compile(r'Unknown parameter in ([^:]+): "([^"]*)", must be one of: (.*)')


class Models(Protocol):
    """AWS's service models, handed in by a room that has botocore."""

    def shape(self, service: str, operation: str, /) -> StructureShape | None:
        """Return what the operation takes."""

    def report(self, request: Mapping[str, Any], shape: StructureShape, /) -> list[str]:
        """Return botocore's own sentences about types and members."""

    def broken(self, shape: Shape, value: Any, /) -> Iterable[tuple[str, Any]]:
        """Yield `max`, `min`, `enum` or `pattern` with its bound, for each that `value` breaks."""


def check(
    settings: Settings,
    problems: Problems,
    models: Models,
    resolve_region: Callable[[str | None], str] | None,
) -> None:
    """Add every problem of the settings that can be known on this machine.

    `resolve_region` finds the region of AWS to launch in; None for a region on this machine.
    """
    shared = settings.shared
    local = resolve_region is None
    region = _REGION
    if resolve_region is not None:
        region = _region(shared, problems, resolve_region)
        _check_image(shared, region, problems, models)
    elif not shared.image:
        _add(problems, shared, "image", missing(shared.where, "image"))
    role = role_of(shared)
    if not role and not local:
        _add(problems, shared, "role", missing(shared.where, "role"))
    bucket = shared.bucket
    if bucket and not facts.is_bucket_name(bucket):
        problems.report(f"{shared.where}: bucket", f"is {bucket!r}", rules.BUCKET_HINT)
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
    settings = replace(settings, shared=_without_wrong_types(shared, problems, models))
    with _into(problems, shared, "plan"):
        check_plan(_draft(settings, place, problems), settings.shared, problems, models)


def check_plan(plan: Plan, shared: Shared, problems: Problems, models: Models) -> None:
    """Compare every call with AWS's model of it, and with what the documentation demands."""
    calls = plan.calls()
    for call in calls:
        for finding in _findings(call, models):
            _report_finding(call.operation, finding, shared, problems)
    for operation, finding in rules.check_together({c.operation: c.parameters for c in calls}):
        _report_finding(operation, finding, shared, problems)


def _report_finding(operation: str, finding: Finding, shared: Shared, problems: Problems) -> None:
    key = rules.key_of(operation, finding, shared.request.get(operation) or {})
    if finding.is_warning:
        problems.warn(f"warning: {key} {finding.what}. {finding.hint}")
    else:
        problems.report(f"{shared.where}: {key}", finding.what, finding.hint)


def _without_wrong_types(shared: Shared, problems: Problems, models: Models) -> Shared:
    """Report raw members of other types than the API's; return the settings without them."""
    request = {operation: dict(raw) for operation, raw in shared.request.items()}
    for operation, raw in shared.request.items():
        shape = models.shape("sagemaker", operation)
        for line in models.report(raw, shape) if shape is not None else ():
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
        _add(problems, shared, "instance-type", missing(shared.where, "instance-type"))
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
        what = f"is {settings.model!r}, and {job!r} is not the name of a job"
        hint = 'Write model = "job:NAME" with a job\'s name, or the beginning of one'
        problems.report(f"{shared.where}: model", what, hint)
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


def _region(shared: Shared, problems: Problems, resolve_region: Callable[[str | None], str]) -> str:
    try:
        return resolve_region(shared.region or None)
    except RequestError as error:
        unset = missing(shared.where, "region")
        wrong = SettingsError(f"{shared.where}: region: {error.what}", hint=unset.hint)
        _add(problems, shared, "region", wrong)
    return _REGION


def _check_image(shared: Shared, region: str, problems: Problems, models: Models) -> None:
    if not shared.image:
        _add(problems, shared, "image", missing(shared.where, "image"))
        return
    known = f"{shared.where}: region" not in problems.errors
    with _into(problems, shared, "image"):
        if not image.is_private(shared):
            found = image.in_ecr(shared, shared.image, region if known else "")
            asked = Call("ecr", "DescribeImages", image.request_of(*found))
            for finding in _findings(asked, models):
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


def _findings(call: Call, models: Models) -> Iterator[Finding]:
    shape = models.shape(call.service, call.operation)
    if shape is None:
        return
    lines = [line for line in models.report(call.parameters, shape) if not line.startswith(_RANGES)]
    unknown = [_UNKNOWN.fullmatch(line) for line in lines]
    for line, match in zip(lines, unknown, strict=True):
        yield _of_member(match) if match else _of_type(line)
    if not all(unknown):
        return  # what follows needs the right types
    yield from _broken(shape, dict(call.parameters), (), "", models)
    yield from rules.check(call.operation, call.parameters)


def _of_member(unknown: re.Match[str]) -> Finding:
    """Return the finding for a raw member that the API does not have."""
    where, name, known = unknown.groups()
    near = difflib.get_close_matches(name, known.split(", "), n=1)
    hint = f"Did you mean {near[0]}?" if near else f"Leave it out; {_UPGRADE}"
    parts = [part for part in re.findall(r"[^.\[\]]+", where) if not part.isdigit()]
    path = parts[1:] if parts[0] == "input" else parts
    return Finding((*path, name), "is not a member of the API", hint)


def _of_type(line: str) -> Finding:
    """Return the finding for a member of a wrong type, or for one that is missing beside it."""
    shown = re.sub(r"(, value: ).*?(, type: )", rf"\g<1>{MASK}\g<2>", line)
    shown = _CLASS.sub(r"\1", shown).replace(Written.__name__, float.__name__)
    return Finding((), f"would be refused: {shown}", "Correct it as the API has it")


def _broken(
    shape: Shape, value: Any, path: tuple[str, ...], label: str, models: Models
) -> Iterator[Finding]:
    """Yield each size, pattern and set of values that `value` or what is inside does not fit."""
    if value is None:
        return
    for what, hint in _faults(shape, value, path, label, models):
        yield Finding(path, what, hint, label)
    if shape.type_name == "structure":
        for name, member in shape.members.items():
            yield from _broken(member, value.get(name), (*path, name), label, models)
    elif shape.type_name == "list":
        for item in value:
            named = item if isinstance(item, Mapping) else {}
            below = next((str(named[name]) for name in _NAMING if name in named), "")
            yield from _broken(shape.member, item, path, below or label, models)
    elif shape.type_name == "map":
        for key, item in value.items():
            for what, hint in _faults(shape.key, key, (), "", models):
                yield Finding(path, f"has a name that {what}", hint, key)
            yield from _broken(shape.value, item, path, key, models)


def _faults(
    shape: Shape, value: Any, path: tuple[str, ...], label: str, models: Models
) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with `value` itself, and the hint."""
    if isinstance(value, bool) and shape.type_name != "boolean":  # botocore takes it for a number
        yield f"is {str(value).lower()}, not a number", "Correct it as the API has it"
        return
    broken = dict(models.broken(shape, value))
    most = _MOST.get(shape.type_name)
    if most is not None and "max" not in shape.metadata and value > most:
        broken["max"] = most
    if "max" in broken:
        yield (
            f"is {_size(shape, value)}; SageMaker takes {broken['max']} at most",
            "Make it smaller",
        )
    if "min" in broken:
        yield (
            f"is {_size(shape, value)}; SageMaker takes {broken['min']} at least",
            "Make it larger",
        )
    secret = is_secret(label) or not _UNSHOWN.isdisjoint(path) or is_secret("".join(path[-1:]))
    shown = MASK if secret else _show(value)
    if "enum" in broken:
        yield f"is {shown}, which SageMaker does not know", _nearest(str(value), broken["enum"])
    elif "pattern" in broken:
        hint = f"The pattern is {broken['pattern']}"
        if "\n" in str(value):
            hint += ", which a line break does not fit"
        yield f"is {shown}, which SageMaker does not take", hint


def _size(shape: Shape, value: Any) -> str:
    match shape.type_name:
        case "string" | "blob":
            return f"{len(value)} characters long"
        case "list" | "map":
            return f"{len(value)} entries"
    return str(value)


def _nearest(value: str, known: list[str]) -> str:
    plain = value.strip().lower()
    near = [each for each in (plain, f"ml.{plain}") if each in known]
    near = near or difflib.get_close_matches(value, known, n=1)
    start = f"Did you mean {near[0]}?" if near else "Correct it."
    return f"{start} Else {_UPGRADE}" if len(known) > _FEW else f"Use {' or '.join(known)}"


def _show(value: Any) -> str:
    text = str(value)
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")
