"""Why a docker client reaches no engine, in our words: one table for all that ask an engine."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reason:
    """What is wrong, and what to do about it."""

    what: str
    hint: str


_WHERE = "set DOCKER_HOST to where it listens"
_SILENT = (
    r"Cannot connect to the Docker daemon at (?P<a>\S+?)\.?(?:\s|$)|daemon is not running"
    r"|error during connect: "
)
_ANSWER = "Error response from daemon: "
"""Before an engine's own words: what it says of other hosts is no trouble of the client."""
_VERSIONS = "the docker client and its engine do not fit: {a}"
_CAUSES: tuple[tuple[str, str, str], ...] = (
    (
        r'context "(?P<a>[^"]*)"(?:: context not found| does not exist)',
        "there is no docker context {a!r}",
        "Unset DOCKER_CONTEXT, or choose one of `docker context ls`: docker context use default",
    ),
    (
        r"[Ii]nvalid bind address format: (?P<a>\S+)",
        "DOCKER_HOST {a!r} is not an address",
        "Write unix:///PATH, tcp://HOST:PORT or ssh://USER@HOST, or unset it",
    ),
    (
        r"resolve docker endpoint: (?P<a>open \S+\.pem: .+)",
        "docker can't read its certificates: {a}",
        "Set DOCKER_CERT_PATH to their folder, or unset DOCKER_TLS_VERIFY",
    ),
    (
        r"resolve docker endpoint: (?P<a>.+)",
        "docker can't tell where its engine is: {a}",
        "Correct DOCKER_HOST or DOCKER_CONTEXT, or unset it",
    ),
    (
        r"permission denied while trying to connect to the \w+ (?:daemon socket|API) at (?P<a>\S+)",
        "this user has no permission to use the Docker engine at {a}",
        "Join the group docker and log in again, or {otherwise}",
    ),
    (
        r"dial tcp: lookup (?P<a>\S+?):? |ssh: Could not resolve hostname (?P<b>[^:\s]+)",
        "DOCKER_HOST or the docker context names {a}, a host that is not known",
        f"Correct the name, or {_WHERE}",
    ),
    (
        r"docker system dial-stdio\].*stderr=(?P<a>.*)",
        "no Docker engine answers over ssh: {a}",
        "Try `ssh HOST docker version`, which needs a key without a prompt",
    ),
    (
        r"client version (?P<a>\S+) is too (?:new|old)",
        _VERSIONS,
        "Unset DOCKER_API_VERSION, or install a client and an engine of nearer versions",
    ),
    (
        r"(?P<a>(?:tls: |x509: ).+|server gave HTTP response to HTTPS client)",
        "no Docker engine answers with TLS: {a}",
        "Correct DOCKER_TLS_VERIFY and DOCKER_CERT_PATH, or the port in DOCKER_HOST",
    ),
    (
        r"Cannot connect to Podman",
        "no podman service answers",
        "Start it: podman machine start",
    ),
    (
        _SILENT,
        "no Docker engine answers{a}",
        f"Start it (systemctl start docker), or {_WHERE}; `byoc doctor` looks closer",
    ),
)
"""What docker 20.10 and 28 print if they reach no engine, and the cause in our words."""


def no_client(program: str, error: OSError) -> Reason:
    """Return the reason if the client itself can't be run."""
    return Reason(
        f"there is no docker client {program!r} ({error.strerror})",
        "Install docker or podman, or set DOCKER to the client's path (one program, without "
        "arguments)",
    )


def reason(text: str, otherwise: str) -> Reason | None:
    """Return why the client reached no engine; None if its words say something else.

    `otherwise` is what can be done without an engine.
    """
    is_answer = _ANSWER in text
    for pattern, what, hint in _CAUSES:
        match = re.search(pattern, text)
        if match is None or (is_answer and what != _VERSIONS):
            continue
        groups = match.groupdict()
        named = next((value.strip() for value in groups.values() if value), "")
        if "answers{a}" in what and named:
            named = f" at {named}"
        return Reason(what.format(a=named), hint.format(otherwise=otherwise))
    return None
