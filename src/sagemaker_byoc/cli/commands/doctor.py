"""`byoc doctor`: what this machine and its way to AWS have, what is missing, and the fix for each.

No key is shown, and nothing is asked of AWS.
"""

from __future__ import annotations

import argparse
import configparser
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from sagemaker_byoc.cli import programs, target
from sagemaker_byoc.cli.terminal import console, failures
from sagemaker_byoc.contract import http, installation
from sagemaker_byoc.contract.errors import ByocError
from sagemaker_byoc.contract.machine import DRIVER
from sagemaker_byoc.host import docker as docker_client
from sagemaker_byoc.host.ports import is_free
from sagemaker_byoc.images.build import builders, contexts

HELP = "Check this machine: Python, extras, engine, builder, GPUs, disk, ports, AWS."
OK, WARNING, ERROR = "ok", "warning", "error"
_PYTHON = (3, 11, 4)
_REGION_PORT = 8321
_EXTRAS = (
    ("DOC002", "local", "`byoc local` and what asks its region, and `byoc serve`"),
    ("DOC015", "serve", "`byoc serve`"),
    ("DOC016", "monitor", "`byoc monitor`"),
    ("DOC017", "cloud", "`byoc push` and `byoc launch` in AWS"),
    ("DOC018", "train", "checkpoints, metrics and the watch in a training script"),
)
"""`byoc train` needs none; the script brings its own packages."""
_TIGHT, _FULL = 20 * 10**9, 3 * 10**9
"""Free bytes: two images and their layers while they are built; one training image."""


@dataclass(frozen=True, slots=True)
class Check:
    id: str
    title: str
    state: str
    found: str
    fix: str = ""
    """Empty if there is nothing to fix."""


@dataclass(slots=True)
class Machine:
    """What the checks ask, in one place that a test can replace."""

    environment: Mapping[str, str]
    ask: builders.Ask = builders.ask
    explain: builders.Explain = docker_client.explain
    home: Path = field(default_factory=Path.home)
    needs_docker: bool = False
    driver: Path = DRIVER

    def client(self) -> str:
        return docker_client.client(self.environment)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--engine",
        choices=programs.ENGINES,
        default="process",
        help="docker: a missing Docker engine is an error (default: a warning)",
    )
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")


def run(arguments: argparse.Namespace) -> int:
    needs_docker = arguments.engine == "docker"
    here = Machine(environment=os.environ, needs_docker=needs_docker)
    checks = [*examine(here)]
    broken = [check for check in checks if check.state == ERROR]
    if arguments.json:
        console.document({"ok": not broken, "checks": [asdict(check) for check in checks]})
    else:
        console.result(_report(checks))
        lacking = sum(check.state == WARNING for check in checks)
        console.step(
            f"{_count(len(broken), 'error')}, {_count(lacking, 'warning')} in {len(checks)} checks"
        )
    return failures.FAILED if broken else failures.DONE


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _report(checks: Sequence[Check]) -> str:
    width = max(len(check.title) for check in checks)
    lines: list[str] = []
    for check in checks:
        start = f"{check.state:7}  {check.id}  {check.title.ljust(width)}  "
        lines.append(f"{start}{check.found}")
        if check.fix:
            lines.append(f"{' ' * len(start)}fix: {check.fix}")
    return "\n".join(lines)


# ── this machine ──


def examine(machine: Machine) -> Iterator[Check]:
    """Yield the checks in the order of ids, without those of an engine if none answers."""
    yield python()
    yield from extras()
    yield namespaces()
    engine, information = docker(machine)
    yield engine
    if information is not None:
        yield platform(information)
        yield builder(machine)
        yield toolkit(machine)
    yield gpu(machine, information)
    yield disk(information)
    yield from ports()
    yield from aws(machine)


def python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:3] < _PYTHON:
        fix = "Use 3.11.4 or newer: earlier ones can't unpack an archive safely"
        return Check("DOC001", "Python", ERROR, version, fix)
    return Check("DOC001", "Python", OK, f"{version} at {sys.executable}")


def extras() -> Iterator[Check]:
    """Look at each extra of this package by itself."""
    for name, extra, purpose in _EXTRAS:
        check = partial(Check, name, f"extra {extra}")
        missing = installation.missing(extra)
        if missing:
            found = f"for {purpose}: {', '.join(missing)} missing"
            yield check(WARNING, found, installation.add_extra(extra))
        else:
            yield check(OK, f"for {purpose}")


def namespaces() -> Check:
    from sagemaker_byoc.region.engines import process  # noqa: PLC0415 - POSIX only

    check = partial(Check, "DOC003", "the process engine")
    with tempfile.TemporaryDirectory(prefix="byoc-") as scratch:
        engine = process.make_engine(Path(scratch))
    if engine.unshare:
        return check(OK, f"each job gets an /opt/ml of its own ({' '.join(engine.unshare)})")
    return check(
        WARNING,
        f"{process.lacking()}: /opt/ml is moved with SAGEMAKER_BASE_DIR, which "
        "programs that write /opt/ml literally do not follow",
        "Install unshare, allow unprivileged user namespaces (sysctl "
        "kernel.unprivileged_userns_clone=1), run as root, or use --engine docker",
    )


def docker(machine: Machine) -> tuple[Check, dict[str, Any] | None]:
    """Return the check, and what the engine reports about itself, if it answers."""
    check, client = partial(Check, "DOC004", "the Docker engine"), machine.client()
    said = machine.ask([client, "--version"])
    is_wanted = machine.needs_docker or docker_client.VARIABLE in machine.environment
    state = ERROR if is_wanted else WARNING
    if said is None:
        cause = machine.explain([client, "--version"])
        found = f"{cause.what}: `byoc build` and what uses --engine docker need one"
        return check(state, found, cause.hint), None
    information = _object(machine.ask([client, "info", "--format", "{{json .}}"]))
    if information is None or information.get("ServerErrors"):
        cause = machine.explain([client, "version"])
        return check(state, f"{said.strip()}: {cause.what}", cause.hint), None
    version = information.get("ServerVersion") or (information.get("version") or {}).get("Version")
    return check(OK, f"{version}; {said.strip()}"), information


def platform(information: Mapping[str, Any]) -> Check:
    check = partial(Check, "DOC005", "the engine's processor")
    name = information.get("Architecture") or (information.get("host") or {}).get("arch", "")
    if name in {"x86_64", "amd64"}:
        return check(OK, name)
    return check(
        WARNING,
        f"{name}: linux/amd64 images, which SageMaker wants, are emulated here, and slow",
        "Let the kernel run them: docker run --privileged --rm tonistiigi/binfmt --install amd64",
    )


def builder(machine: Machine) -> Check:
    check = partial(Check, "DOC006", "the builder")
    try:
        chosen = builders.choose(None, machine.environment, machine.ask)
    except ByocError as error:
        return check(ERROR, error.sentence, error.hint)
    if chosen.name == builders.LEGACY:
        fix = "apt-get install docker-buildx; docker before 23: DOCKER_BUILDKIT=1"
        return check(WARNING, f"{chosen.title}: no RUN --mount, and slower", fix)
    return check(OK, chosen.title)


def toolkit(machine: Machine) -> Check:
    check = partial(Check, "DOC007", "the toolkit's images")
    client, names = machine.client(), contexts.BASES.values()
    missing = [name for name in names if machine.ask([client, "image", "inspect", name]) is None]
    if missing:
        return check(
            WARNING,
            f"no {' and no '.join(missing)}: a program without a Dockerfile can't be built",
            "scripts/build-images of a checkout makes them; a project of `byoc init` needs none",
        )
    return check(OK, ", ".join(names))


def gpu(machine: Machine, information: Mapping[str, Any] | None) -> Check:
    check = partial(Check, "DOC008", "GPUs")
    if not machine.driver.exists():
        return check(OK, "no NVIDIA driver: programs run on the CPU")
    version = re.search(r"\b(\d{3}\.\d+(\.\d+)?)\b", machine.driver.read_text(errors="replace"))
    driver = f"NVIDIA driver {version[1] if version else 'of unknown version'}"
    if information is None:
        return check(OK, f"{driver}; for the process engine")
    if "nvidia" in (information.get("Runtimes") or {}) or information.get("CDISpecDirs"):
        return check(OK, f"{driver}; containers get them")
    return check(
        WARNING,
        f"{driver}, and the engine has no runtime that gives GPUs to containers",
        "Install nvidia-container-toolkit; nvidia-ctk runtime configure --runtime=docker; "
        "restart docker",
    )


def disk(information: Mapping[str, Any] | None) -> Check:
    check = partial(Check, "DOC009", "disk space")
    places = [Path(tempfile.gettempdir()), Path.cwd()]
    root = (information or {}).get("DockerRootDir")
    if isinstance(root, str) and Path(root).is_dir():
        places.append(Path(root))
    free, place = min((shutil.disk_usage(place).free, str(place)) for place in places)
    found = f"{free / 1e9:.0f} GB free at {place}"
    if free >= _TIGHT:
        return check(OK, found)
    return check(
        ERROR if free < _FULL else WARNING,
        f"{found}; a build of both images wants {_TIGHT / 1e9:.0f} GB",
        "docker system prune; byoc local gc; or another TMPDIR",
    )


def ports() -> Iterator[Check]:
    for name, number, command in (
        ("DOC010", http.PORT.value, "byoc serve"),
        ("DOC011", _REGION_PORT, "byoc local up"),
    ):
        check = partial(Check, name, f"port {number}")
        if is_free(number):
            yield check(OK, "free")
        else:
            yield check(WARNING, "in use by another process", f"`{command}` elsewhere: --port 0")


def _object(text: str | None) -> dict[str, Any] | None:
    try:
        found = json.loads(text or "null")
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


# ── the way to AWS ──

_ELSEWHERE = {
    "AWS_WEB_IDENTITY_TOKEN_FILE": "a web identity token",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI": "the container's role",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "the container's role",
}
_ENDPOINT = "AWS_ENDPOINT_URL"
_UNTRIED = "not tried: aws sts get-caller-identity"


def aws(machine: Machine) -> Iterator[Check]:
    yield credentials(machine)
    yield region(machine)
    yield endpoint(machine)


def credentials(machine: Machine) -> Check:
    check, variables = partial(Check, "DOC012", "AWS credentials"), machine.environment
    if variables.get("AWS_ACCESS_KEY_ID"):
        return check(*_keys(variables))
    profile = variables.get("AWS_PROFILE") or variables.get("AWS_DEFAULT_PROFILE")
    known = _profiles(machine)
    if profile and profile not in known:
        fix = f"aws configure --profile {profile}, or unset AWS_PROFILE"
        return check(ERROR, f"there is no profile {profile!r}", fix)
    if profile or "default" in known:
        return check(OK, f"the profile {profile or 'default'!r} ({_UNTRIED})")
    for name, meaning in _ELSEWHERE.items():
        if variables.get(name):
            return check(OK, f"{meaning} ({_UNTRIED})")
    return check(
        WARNING,
        "none; on an instance of AWS its role would do. The local region needs none",
        "aws configure, aws sso login, or set AWS_PROFILE",
    )


def _keys(variables: Mapping[str, str]) -> tuple[str, str, str]:
    """Return the state, what was found, and the fix."""
    if not variables.get("AWS_SECRET_ACCESS_KEY"):
        return ERROR, "AWS_ACCESS_KEY_ID without AWS_SECRET_ACCESS_KEY", "Set both, or neither"
    if variables.get("AWS_PROFILE"):
        found = "AWS_PROFILE and keys in the environment: clients differ on which wins"
        return WARNING, found, "Unset one of the two"
    return OK, f"keys in the environment ({_UNTRIED})", ""


def region(machine: Machine) -> Check:
    check = partial(Check, "DOC013", "AWS region")
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        if machine.environment.get(name):
            return check(OK, f"{machine.environment[name]} (${name})")
    profile = machine.environment.get("AWS_PROFILE") or "default"
    found = _profiles(machine).get(profile, {}).get("region")
    if found:
        return check(OK, f"{found} (profile {profile!r})")
    return check(WARNING, "none is set", "Set AWS_REGION, or: aws configure set region us-east-1")


def endpoint(machine: Machine) -> Check:
    """Check whether clients talk to AWS or to a region on this machine, and whether it answers."""
    check = partial(Check, "DOC014", "where AWS clients go")
    url = machine.environment.get(_ENDPOINT)
    if not url:
        return check(OK, "to AWS: AWS_ENDPOINT_URL is not set")
    try:
        status = target.Target(url.rstrip("/"), f"${_ENDPOINT}").status()
    except ByocError as error:
        fix = 'byoc local up --detach; eval "$(byoc local env)"; or unset AWS_ENDPOINT_URL'
        return check(ERROR, error.what, fix)
    if machine.environment.get("AWS_PROFILE"):
        found = f"to the local region at {url}, but AWS_PROFILE may name another endpoint"
        return check(WARNING, found, 'eval "$(byoc local env)" unsets it')
    return check(OK, f"to the local region {status.get('region')} at {url}")


def _profiles(machine: Machine) -> dict[str, dict[str, str]]:
    """Return the profiles of both of AWS's files, without their keys."""
    found: dict[str, dict[str, str]] = {}
    files = {
        "AWS_CONFIG_FILE": machine.home / ".aws" / "config",
        "AWS_SHARED_CREDENTIALS_FILE": machine.home / ".aws" / "credentials",
    }
    for variable, default in files.items():
        parser = configparser.RawConfigParser()
        try:
            parser.read(Path(machine.environment.get(variable) or default).expanduser())
        except (configparser.Error, OSError, UnicodeDecodeError):
            continue
        for section in parser.sections():
            name = section.removeprefix("profile ").strip()
            own = found.setdefault(name, {})
            if parser.has_option(section, "region"):
                own["region"] = parser.get(section, "region")
    return found
