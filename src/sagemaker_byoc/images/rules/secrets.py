"""Secrets that the image would ship. What is found is named by kind and place, never shown."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sagemaker_byoc.images.findings import Found, Rule, Severity
from sagemaker_byoc.images.model import File
from sagemaker_byoc.images.rules.subject import Subject

_TOKENS = {
    "an AWS access key": re.compile(rb"\b(AKIA|ASIA)[A-Z2-7]{16}\b"),
    "an AWS secret key": re.compile(
        rb"aws_?secret_?access_?key['\"]?\s*[=:]\s*['\"]?[A-Za-z0-9/+]{40}\b", re.IGNORECASE
    ),
    "a private key": re.compile(rb"-----BEGIN ([A-Z]+ )*PRIVATE KEY-----\s*\r?\n[A-Za-z0-9+/=:]"),
    "a GitHub token": re.compile(rb"\b(gh[pousr]_[A-Za-z0-9]{36}|github_pat_\w{60,})"),
    "a Hugging Face token": re.compile(rb"\bhf_[A-Za-z0-9]{30,}"),
    "a Slack token": re.compile(rb"\bxox[abprs]-[A-Za-z0-9-]{20,}"),
    "a password in a URL": re.compile(rb"https?://[^\s/:@'\"$<>{}]+:[^\s/@'\"$<>{}]{3,}@"),
}
_NAME = re.compile(
    r"(^|_)(PASSWORD|PASSWD|SECRET|SECRET_?(ACCESS_?)?KEY|TOKEN|API_?KEY|PRIVATE_?KEY|CREDENTIALS?)$",
    re.IGNORECASE,
)
_ARGUMENT = re.compile(
    r"\b(?P<name>\w*(?:PASSWORD|PASSWD|SECRET_?KEY|SECRET_?ACCESS_?KEY|TOKEN|API_?KEY))=(?P<value>[^\s'\"$]{6,})",
    re.IGNORECASE,
)
_FILES = {
    r"/\.aws/credentials$": rb"aws_secret_access_key\s*=\s*\S",
    r"/\.netrc$": rb"password\s+\S",
    r"/\.pypirc$": rb"password\s*[=:]\s*\S",
    r"/\.npmrc$": rb"_auth(Token)?\s*=\s*\S",
    r"/\.git-credentials$": rb"://[^:]+:[^@]+@",
    r"/\.docker/config\.json$": rb"\"auth\"\s*:\s*\"\w",
    r"/\.env(\.[\w-]+)?$": rb"(?im)^\s*(export\s+)?\w*(password|secret|token|api_?key)\w*\s*=\s*\S",
}
_EXAMPLE = re.compile(r"\.(example|sample|template|dist)$")


def kinds(data: bytes) -> list[str]:
    """The kinds of secrets in `data`."""
    return [kind for kind, pattern in _TOKENS.items() if pattern.search(data)]


def environment(subject: Subject) -> Iterator[Found]:
    for name, value in subject.image.config.environment.items():
        where = f"configuration: ENV {name}"
        found = kinds(value.encode())
        if found:
            yield Found(f"{found[0]} in the variable {name}", where)
        elif value and (_NAME.search(name) and not value.startswith(("/", "$"))):
            yield Found(f"the variable {name} has a value, by its name a secret", where)


def history(subject: Subject) -> Iterator[Found]:
    """Once for each secret: build arguments come again with every later step."""
    said: set[str] = set()
    for number, command in enumerate(subject.image.config.history):
        if command.startswith("ENV "):  # SEC001's, which names the variable
            continue
        found = [f"{kind} in the command of a step" for kind in kinds(command.encode())]
        argument = _ARGUMENT.search(command)
        if argument and not found:
            found = [f"a value of {argument['name']} in the command of a step"]
        for what in found:
            if what not in said:
                said.add(what)
                yield Found(what, f"history, step {number + 1}")


def files(subject: Subject) -> Iterator[Found]:
    if subject.image.files is None:
        return
    said: set[tuple[str, str]] = set()
    for layer, file in subject.image.files.looked_into:
        for kind in _in_file(file):
            if (file.path, kind) in said:
                continue
            said.add((file.path, kind))
            gone = file.path not in subject.image.files.visible
            buried = "; a later layer removes it, which hides it from no one" if gone else ""
            yield Found(f"{kind}{buried}", f"{file.path}, layer {layer}")


def _in_file(file: File) -> Iterator[str]:
    data = file.head or b""
    found = kinds(data)
    yield from found
    if found or _EXAMPLE.search(file.path):
        return
    for place, pattern in _FILES.items():
        if re.search(place, file.path) and re.search(pattern, data):
            yield "a file of credentials"


_ROTATE = "Then replace the secret where it was issued: it must count as known."
RULES: tuple[Rule[Subject], ...] = (
    Rule(
        "SEC001",
        Severity.ERROR,
        "A secret is in the environment",
        "Whoever may pull or describe the image reads it, and so does every process in it.",
        "Remove the ENV or ARG line; give jobs a role, or the value with the request. " + _ROTATE,
        environment,
    ),
    Rule(
        "SEC002",
        Severity.ERROR,
        "A secret is in the history",
        "`docker history` shows the command and build arguments of every step.",
        "RUN --mount=type=secret,id=NAME … in the Dockerfile, and --secret at the build. "
        + _ROTATE,
        history,
    ),
    Rule(
        "SEC003",
        Severity.ERROR,
        "A secret is in a file",
        "Every layer can be fetched by itself, also one whose files a later layer removes.",
        "Name the file in .dockerignore and build anew. " + _ROTATE,
        files,
    ),
)
