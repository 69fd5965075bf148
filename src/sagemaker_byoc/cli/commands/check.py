"""`byoc check`: will SageMaker accept this image?"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from sagemaker_byoc.cli import programs
from sagemaker_byoc.cli.terminal import arguments as types
from sagemaker_byoc.cli.terminal import console
from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.images.check import findings
from sagemaker_byoc.images.check.check import RULES, CheckRequest, check
from sagemaker_byoc.images.check.findings import SERVE, TRAIN, Finding

HELP = "Find out whether SageMaker will accept an image, any image."
_CONFIG = Path("pyproject.toml")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "image",
        metavar="IMAGE",
        help="of the engine; an archive or OCI layout; or docker://HOST/NAME:TAG in a registry",
    )
    parser.add_argument("--train", action="store_true", help="it should train (default: detected)")
    parser.add_argument("--serve", action="store_true", help="it should serve (default: detected)")
    parser.add_argument("--static", action="store_true", help="start no container")
    parser.add_argument("--no-layers", action="store_true", help="don't look into the layers")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="the report as JSON")
    form.add_argument("--junit", action="store_true", help="the report as JUnit XML")
    serving = parser.add_argument_group("for serving")
    serving.add_argument("--model", type=Path, metavar="DIR|model.tar.gz")
    serving.add_argument("--payload", type=Path, metavar="FILE", help="a body for /invocations")
    serving.add_argument("--content-type", default="application/json", help="of the payload")
    serving.add_argument(
        "--startup-timeout",
        type=types.seconds(3600),
        default=240.0,
        metavar="SECONDS",
        help="for the endpoint to become healthy (default: 240)",
    )
    training = parser.add_argument_group("for training")
    training.add_argument(
        "--channel", type=types.pair, action="append", default=[], metavar="NAME=DIR"
    )
    training.add_argument(
        "--hp", type=types.pair, nargs="+", action="extend", default=[], metavar="KEY=VALUE"
    )
    training.add_argument(
        "--train-timeout",
        type=types.seconds(3600),
        default=120.0,
        metavar="SECONDS",
        help="for all jobs together; a job that still runs is then stopped (default: 120)",
    )
    parser.add_argument("--env", type=types.pair, action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument(
        "--config",
        type=Path,
        default=_CONFIG,
        metavar="FILE",
        help="with [tool.byoc.check] ignore = {ID = reason} (default: pyproject.toml, if there)",
    )


def run(arguments: argparse.Namespace) -> int:
    roles = {
        role for role, wanted in ((TRAIN, arguments.train), (SERVE, arguments.serve)) if wanted
    }
    settings = programs.read_settings("train", None)
    request = CheckRequest(
        image=arguments.image,
        roles=frozenset(roles),
        try_it=not arguments.static,
        layers=not arguments.no_layers,
        ignored=read_ignored(arguments.config),
        model=_existing(arguments.model, "--model"),
        payload=_read(arguments.payload),
        content_type=arguments.content_type,
        channels=programs.channels(settings, arguments),
        hyperparameters=programs.hyperparameters(settings, arguments),
        environment=programs.parse_pairs("--env", arguments.env),
        train_seconds=arguments.train_timeout,
        startup_seconds=arguments.startup_timeout,
    )
    is_document = arguments.json or arguments.junit
    found = check(request, console.step, _show_briefly if is_document else _show)
    if arguments.json:
        console.result(findings.as_json(found))
    elif arguments.junit:
        console.result(findings.as_junit(found))
    else:
        console.result(findings.summary_as_text(found))
    return found.exit_code


def _show(finding: Finding) -> None:
    console.result(f"{findings.finding_as_text(finding)}\n")


def _show_briefly(finding: Finding) -> None:
    """Print a finding to stderr: stdout is for the one document at the end."""
    console.detail(f"{findings.headline(finding)}: {finding.what}")


def read_ignored(path: Path) -> Mapping[str, str]:
    """Return the rules that the project ignores, and why.

    Raise RequestError for a rule that does not exist or has no reason.
    """
    if path != _CONFIG and not path.exists():
        raise RequestError(f"there is no file {path}", hint="Correct --config")
    ignored = programs.section(path, programs.read_table(path), "check").value("ignore", {})
    known = {rule.id for rule in RULES}
    where = f"{path}: [tool.byoc.check] ignore"
    if not isinstance(ignored, dict):
        raise RequestError(f"{where} is not a table", hint='Write ignore = {IMG012 = "reason"}')
    for key, reason in ignored.items():
        if findings.rule_of(key) not in known:
            raise RequestError(f"{where}: there is no rule {key}", hint="See byoc check's report")
        if not isinstance(reason, str) or not reason.strip():
            raise RequestError(f"{where}: {key} has no reason", hint=f'Write {key} = "the reason"')
    return ignored


def _existing(path: Path | None, option: str) -> Path | None:
    if path is not None and not path.exists():
        raise RequestError(f"{option}: there is no {path}", hint="Check the path")
    return path


def _read(path: Path | None) -> bytes | None:
    found = _existing(path, "--payload")
    try:
        return None if found is None else found.read_bytes()
    except OSError as error:
        raise RequestError(f"--payload {path}: {error.strerror}", hint="Name a file") from error
