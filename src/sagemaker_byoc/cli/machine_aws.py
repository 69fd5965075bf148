"""What `byoc doctor` looks at on the way to AWS. No key is shown, and nothing is asked of AWS."""

from __future__ import annotations

import configparser
from collections.abc import Iterator, Mapping
from pathlib import Path

from sagemaker_byoc.cli import target
from sagemaker_byoc.cli.machine import ERROR, OK, WARNING, Check, Machine
from sagemaker_byoc.contract.errors import ByocError

_ELSEWHERE = {
    "AWS_WEB_IDENTITY_TOKEN_FILE": "a web identity token",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI": "the container's role",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "the container's role",
}
_ENDPOINT = "AWS_ENDPOINT_URL"


def examine(machine: Machine) -> Iterator[Check]:
    yield credentials(machine)
    yield region(machine)
    yield endpoint(machine)


def credentials(machine: Machine) -> Check:
    title, variables = "AWS credentials", machine.environment
    try_it = "not tried: aws sts get-caller-identity"
    if variables.get("AWS_ACCESS_KEY_ID"):
        return _keys(variables, title, try_it)
    profile = variables.get("AWS_PROFILE") or variables.get("AWS_DEFAULT_PROFILE")
    known = _profiles(machine)
    if profile and profile not in known:
        fix = f"aws configure --profile {profile}, or unset AWS_PROFILE"
        return Check("DOC012", title, ERROR, f"there is no profile {profile!r}", fix)
    if profile or "default" in known:
        return Check("DOC012", title, OK, f"the profile {profile or 'default'!r} ({try_it})")
    for name, meaning in _ELSEWHERE.items():
        if variables.get(name):
            return Check("DOC012", title, OK, f"{meaning} ({try_it})")
    return Check(
        "DOC012",
        title,
        WARNING,
        "none; on an instance of AWS its role would do. The local region needs none",
        "aws configure, aws sso login, or set AWS_PROFILE",
    )


def _keys(variables: Mapping[str, str], title: str, try_it: str) -> Check:
    if not variables.get("AWS_SECRET_ACCESS_KEY"):
        found, fix = "AWS_ACCESS_KEY_ID without AWS_SECRET_ACCESS_KEY", "Set both, or neither"
        return Check("DOC012", title, ERROR, found, fix)
    if variables.get("AWS_PROFILE"):
        found = "AWS_PROFILE and keys in the environment: clients differ on which wins"
        return Check("DOC012", title, WARNING, found, "Unset one of the two")
    return Check("DOC012", title, OK, f"keys in the environment ({try_it})")


def region(machine: Machine) -> Check:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        if machine.environment.get(name):
            return Check("DOC013", "AWS region", OK, f"{machine.environment[name]} (${name})")
    profile = machine.environment.get("AWS_PROFILE") or "default"
    found = _profiles(machine).get(profile, {}).get("region")
    if found:
        return Check("DOC013", "AWS region", OK, f"{found} (profile {profile!r})")
    fix = "Set AWS_REGION, or: aws configure set region us-east-1"
    return Check("DOC013", "AWS region", WARNING, "none is set", fix)


def endpoint(machine: Machine) -> Check:
    """Whether clients here talk to AWS or to a region on this machine, and whether it answers."""
    title, url = "where AWS clients go", machine.environment.get(_ENDPOINT)
    if not url:
        return Check("DOC014", title, OK, "to AWS: AWS_ENDPOINT_URL is not set")
    try:
        status = target.Target(url.rstrip("/"), f"${_ENDPOINT}").status()
    except ByocError as error:
        fix = 'byoc local up --detach; eval "$(byoc local env)"; or unset AWS_ENDPOINT_URL'
        return Check("DOC014", title, ERROR, error.what, fix)
    if machine.environment.get("AWS_PROFILE"):
        found = f"to the local region at {url}, but AWS_PROFILE may name another endpoint"
        return Check("DOC014", title, WARNING, found, 'eval "$(byoc local env)" unsets it')
    return Check("DOC014", title, OK, f"to the local region {status.get('region')} at {url}")


def _profiles(machine: Machine) -> dict[str, dict[str, str]]:
    """Of both of AWS's files; their keys stay in them."""
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
