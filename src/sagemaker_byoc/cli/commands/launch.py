"""`byoc launch`: a training job or an endpoint, from the project's own table of settings."""

from __future__ import annotations

import argparse
import math
import re
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sagemaker_byoc.cli import target
from sagemaker_byoc.cli.terminal import arguments as parsing
from sagemaker_byoc.cli.terminal import console, failures
from sagemaker_byoc.cli.terminal.progress import Progress
from sagemaker_byoc.cloud import session
from sagemaker_byoc.contract.files import Json
from sagemaker_byoc.host.aws_calls import Caller
from sagemaker_byoc.images.build import labels
from sagemaker_byoc.launch import checks, endpoint, follow, image, train
from sagemaker_byoc.launch.checks import Settings
from sagemaker_byoc.launch.execute import execute
from sagemaker_byoc.launch.kubernetes import serving, training
from sagemaker_byoc.launch.shared import Shared, role_of
from sagemaker_byoc.launch.steps import Place, Plan, Step, role_arn
from sagemaker_byoc.launch.table import Problems, SettingsError, overlaid, parse_toml
from sagemaker_byoc.region.core.account import Account

if TYPE_CHECKING:
    from botocore.model import Shape, StructureShape

HELP = "Start a training job or an endpoint, in AWS or in the region on this machine."
TRAIN, ENDPOINT = "train", "endpoint"
PYTORCHJOB = "pytorchjob"
_FLAVOURS = {
    TRAIN: (PYTORCHJOB,),
    ENDPOINT: (serving.DEPLOYMENT, serving.KSERVE, serving.SERVERLESS),
}
_CONFIG = Path("pyproject.toml")
_MOST_SECONDS = 30 * 86400.0
_QUEUE_SECONDS = 3600.0
"""Beyond the job's own time: instances have to be found, data and image fetched."""
_ENDPOINT_SECONDS = 7200.0
_PAUSE_LOCAL, _PAUSE_AWS = 0.2, 5.0
_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9/._-]*(:[A-Za-z0-9/._-]+)*")
_WORDS = frozenset("y n yes no on off true false null nan inf".split())  # noqa: SIM905 - a row
"""Words that some reader of YAML takes for a boolean, a number or null."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", choices=[TRAIN, ENDPOINT])
    parser.add_argument(
        "--config",
        type=Path,
        default=_CONFIG,
        metavar="FILE",
        help="TOML with [tool.byoc.train] and [tool.byoc.endpoint] (default: pyproject.toml)",
    )
    parser.add_argument("--image", metavar="REF", help="override the configured image")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a key of the table, dotted if it is inside another; may be repeated",
    )
    parser.add_argument(
        "--print", action="store_true", help="print the plan as JSON, and do nothing"
    )
    parser.add_argument("--local", action="store_true", help="launch in the region on this machine")
    target.add_arguments(parser)
    parser.add_argument(
        "--kubernetes",
        nargs="?",
        const="",
        metavar="FLAVOUR",
        help="with --print: write manifests instead: pytorchjob to train; deployment (default), "
        "kserve or kserve-serverless to serve",
    )
    parser.add_argument(
        "--new",
        action="store_true",
        help="train: start a new job even if one with these settings exists",
    )
    parser.add_argument(
        "--wait", action="store_true", help="wait until it ends or serves, and show its log"
    )
    parser.add_argument(
        "--timeout",
        type=parsing.seconds(_MOST_SECONDS),
        metavar="SECONDS",
        help="longest time to --wait; then exit code 124",
    )
    parser.add_argument("-y", "--yes", action="store_true", help="skip the cost confirmation")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")


def run(arguments: argparse.Namespace) -> int:
    _check(arguments)
    where, table = _table(arguments)
    folder = arguments.config.resolve().parent
    problems = Problems()
    settings: Settings
    if arguments.kind == TRAIN:
        settings = train.read(where, table, folder, problems)
    else:
        settings = endpoint.read(where, table, folder, problems)
    if arguments.kubernetes is not None:
        return _print_manifests(arguments, settings, problems, table)
    models = ServiceModels()
    find_region = None if arguments.local else session.resolve_region
    checks.check(settings, problems, models, find_region)
    problems.check(where)
    shared = settings.shared
    here = in_region(arguments, shared) if arguments.local else in_aws(shared)
    plan = _plan(arguments, settings, here)
    checks.check_plan(plan, shared, problems, models)
    problems.check(where)
    plan = replace(plan, notes=(*plan.notes, *problems.warnings))
    if arguments.print:
        console.document(plan.document())
        return failures.DONE
    _confirm(arguments, plan)
    with Progress("upload") as sent:
        made = execute(plan, here.caller, console.detail, sent)
    result: dict[str, object] = {"kind": plan.kind, "name": plan.name, "made": made}
    if arguments.wait:
        try:
            ended = _wait(arguments, settings, plan, here.caller)
        except KeyboardInterrupt:
            console.detail(f"{plan.kind} {plan.name} continues; {_last(plan).undo} ends it")
            return failures.INTERRUPTED
        result |= {"status": ended.status, "arn": ended.arn, "model": ended.model}
    if arguments.json:
        console.document(result)
    else:
        console.result(plan.name)
    return failures.DONE


def _check(arguments: argparse.Namespace) -> None:
    """Raise SettingsError for flags that contradict each other."""
    kubernetes = arguments.kubernetes is not None
    refusals = (
        (kubernetes and not arguments.print, "--kubernetes needs --print",
         "Add --print, and hand what it prints to kubectl apply -f -"),
        (kubernetes and arguments.local, "--kubernetes and --local exclude each other",
         "Leave one of them out"),
        (kubernetes and arguments.kubernetes not in ("", *_FLAVOURS[arguments.kind]),
         f"--kubernetes {arguments.kubernetes} is not for {arguments.kind}",
         f"Use {' or '.join(_FLAVOURS[arguments.kind])}"),
        (arguments.print and arguments.wait, "--print launches nothing that --wait could wait for",
         "Leave one of them out"),
        (arguments.timeout is not None and not arguments.wait, "--timeout needs --wait",
         "Add --wait, or leave --timeout out"),
        (arguments.new and arguments.kind == ENDPOINT, "--new is for training jobs",
         "Leave it out: an endpoint is updated"),
        (not arguments.local and (arguments.url or arguments.state),
         "--url and --state name a region of this machine", "Add --local"),
    )  # fmt: skip
    for wrong, what, hint in refusals:
        if wrong:
            raise SettingsError(what, hint=hint)


def _table(arguments: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Return where the table is, and the table with the flags' settings in it."""
    path: Path = arguments.config
    where = f"{path}: [tool.byoc.{arguments.kind}]"
    try:
        document = parse_toml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if path != _CONFIG:
            raise SettingsError(f"there is no file {path}", hint="Correct --config") from None
        document = {}
        where = f"[tool.byoc.{arguments.kind}] (there is no {path} here)"
    except OSError as error:
        raise SettingsError(
            f"{path}: {error.strerror}", hint="Name a file that can be read"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not TOML: {error}", hint="Correct that line") from error
    project = _inner(_inner(document, "tool"), "byoc")
    found = project.get(arguments.kind, {})
    if not isinstance(found, dict):
        raise SettingsError(f"{where} is not a table", hint="Write KEY = VALUE below its head")
    name = {"name": project["name"]} if "name" in project else {}
    table = overlaid(name | found, arguments.set)
    return where, table | ({"image": arguments.image} if arguments.image else {})


def _inner(table: dict[str, Any], key: str) -> dict[str, Any]:
    found = table.get(key, {})
    return found if isinstance(found, dict) else {}


def _plan(
    arguments: argparse.Namespace,
    settings: Settings,
    here: Here,
) -> Plan:
    if isinstance(settings, train.TrainSettings):
        new = time.strftime("%Y%m%d-%H%M%S", time.gmtime()) if arguments.new else ""
        return train.plan(settings, here.place, new=new)
    job, uri = endpoint.wanted_job(settings), ""
    if job:
        name, uri = endpoint.artifact_of(settings.shared.where, job, here.caller)
        console.detail(f"model of training job {name}")
    return endpoint.plan(settings, here.place, artifact=uri)


def _confirm(arguments: argparse.Namespace, plan: Plan) -> None:
    """Ask before money is spent. Raise SettingsError if it is not confirmed."""
    where = "on this machine" if arguments.local else f"in {plan.region}"
    console.step(f"{plan.kind} {plan.name} {where}")
    for line in (plan.cost, *plan.notes):
        console.detail(line)
    if arguments.local or arguments.yes:
        return
    if sys.stdin.isatty() and console.is_interactive():
        sys.stderr.write("  This costs money in AWS. Continue? [y/N] ")
        sys.stderr.flush()
        if sys.stdin.readline().strip().lower() in {"y", "yes"}:
            return
        raise SettingsError(
            "nothing was done: it was not confirmed", hint="Answer y, or give --yes"
        )
    raise SettingsError(
        f"this costs money in AWS: {plan.cost}",
        hint="Give --yes to skip the confirmation; --print shows every call",
    )


def _wait(
    arguments: argparse.Namespace,
    settings: Settings,
    plan: Plan,
    caller: Caller,
) -> follow.Ended:
    if isinstance(settings, train.TrainSettings):
        seconds = (settings.max_wait or settings.max_runtime) + _QUEUE_SECONDS
    else:
        seconds = _ENDPOINT_SECONDS
    mask = plan.masker()
    watch = follow.Watch(
        caller=caller,
        say=lambda text: console.detail(mask(text)),
        line=lambda host, line: console.log_line(host, mask(line)),
        seconds=arguments.timeout or seconds,
        pause=_PAUSE_LOCAL if arguments.local else _PAUSE_AWS,
    )
    if plan.kind == TRAIN:
        return follow.wait_for_job(plan.name, watch)
    config = _last(plan).call.parameters["EndpointConfigName"]
    return follow.wait_for_endpoint(plan.name, str(config), watch)


def _last(plan: Plan) -> Step:
    return next(step for step in reversed(plan.steps) if isinstance(step, Step))


# ── where it goes ──


@dataclass(frozen=True, slots=True)
class Here:
    """The place that a launch goes to, and what makes its calls there."""

    caller: Caller
    place: Place


class ServiceModels:
    """AWS's service models, as the region has them."""

    def shape(self, service: str, operation: str) -> StructureShape | None:
        with target.explained_imports():
            from sagemaker_byoc.region.wire import models  # noqa: PLC0415 - needs botocore
        return models.service_model(service).operation_model(operation).input_shape

    def report(self, request: Mapping[str, Any], shape: StructureShape) -> list[str]:
        from botocore.validate import ParamValidator  # noqa: PLC0415 - slow

        return list(ParamValidator().validate(dict(request), shape).generate_report().splitlines())

    def broken(self, shape: Shape, value: Any) -> Iterator[tuple[str, Any]]:
        from sagemaker_byoc.region.wire import models  # noqa: PLC0415 - needs botocore

        return models.broken(shape, value)


def in_region(arguments: argparse.Namespace, shared: Shared) -> Here:
    """Return the region that runs on this machine."""
    found = target.find(arguments)
    status = found.status()
    account = Account(id=status["account"], region=status["region"])
    return Here(
        found.caller(account.region),
        Place(
            region=account.region,
            account=account.id,
            image=shared.image,
            digest=_local_digest(shared, status, account),
            role=role_arn(shared.role or account.role, account.region, account.id),
            commit=_revision(shared),
            bucket=shared.bucket,
            endpoint=found.url,
        ),
    )


def in_aws(shared: Shared) -> Here:
    """Return AWS, for settings that `checks.check` found nothing wrong with."""
    cloud = session.Cloud(session.resolve_region(shared.region or None))
    role = role_of(shared)
    pinned = image.pin(shared, shared.image, cloud)
    # Without credentials a plan can still be printed, if nothing in it needs the account.
    needs_account = not (shared.bucket and role.startswith("arn:"))
    account = session.resolve_account(cloud, None) if needs_account else ""
    return Here(
        cloud,
        Place(
            region=cloud.region,
            account=account,
            image=pinned.image,
            digest=pinned.digest,
            cuda=pinned.cuda,
            role=role_arn(role, cloud.region, account),
            commit=_revision(shared),
            bucket=shared.bucket,
        ),
    )


def _local_digest(shared: Shared, status: Mapping[str, Any], account: Account) -> str:
    """Raise SettingsError if neither the region's registry nor its engine has the image."""
    with target.explained_imports():
        from sagemaker_byoc.region.composition import make_images  # noqa: PLC0415
        from sagemaker_byoc.region.services.ecr.ecr import Registry  # noqa: PLC0415
        from sagemaker_byoc.region.wire.operations import AwsError  # noqa: PLC0415
    state = Path(status["state"])
    pushed = Registry(state=state, account=account, url=status["url"]).pushed
    try:
        return make_images(status["engine"], state, pushed).resolve(shared.image).digest
    except AwsError as error:
        raise SettingsError(
            f"{shared.where}: image: {error.message}",
            hint="Or name an image that the region has: --image",
        ) from error


def _revision(shared: Shared) -> str:
    return labels.read_commit(shared.folder).revision


# ── manifests ──


def _print_manifests(
    arguments: argparse.Namespace,
    settings: Settings,
    problems: Problems,
    table: Mapping[str, Any],
) -> int:
    found: list[dict[str, Json]]
    if isinstance(settings, train.TrainSettings):
        found = training.manifests(settings, problems)
    elif arguments.kubernetes in (serving.KSERVE, serving.SERVERLESS):
        serverless = arguments.kubernetes == serving.SERVERLESS
        found = serving.inference_service(settings, problems, serverless=serverless)
    else:
        found = serving.deployment(settings, problems)
    unused = training.UNUSED if arguments.kind == TRAIN else serving.UNUSED
    own = table.get("kubernetes", {})
    if left := sorted(table.keys() & {*unused} - own.keys()):
        problems.warn(f"warning: SageMaker alone has a use for {', '.join(left)}: left out")
    for warning in problems.warnings:
        console.detail(warning)
    if arguments.json:
        console.line({"apiVersion": "v1", "kind": "List", "items": found})
    else:
        console.result(as_yaml(found).rstrip("\n"))
    return failures.DONE


def as_yaml(documents: Sequence[Mapping[str, Json]]) -> str:
    """Return YAML in which no reader takes a text for anything else.

    PyYAML's own rule leaves `1e3` and `y` plain, which Kubernetes' reader takes for a number and
    a boolean: all but plain words are quoted here.
    """
    import yaml  # type: ignore[import-untyped] # noqa: PLC0415 - of --kubernetes alone

    class Dumper(yaml.SafeDumper):  # type: ignore[misc] # untyped
        def ignore_aliases(self, _data: object) -> bool:
            return True

    def text(dumper: Any, value: str) -> Any:
        is_plain = _PLAIN.fullmatch(value) and value.lower() not in _WORDS
        return dumper.represent_scalar(
            "tag:yaml.org,2002:str", value, style=None if is_plain else '"'
        )

    Dumper.add_representer(str, text)
    found: str = yaml.dump_all(documents, Dumper=Dumper, sort_keys=False, width=math.inf)
    return found
