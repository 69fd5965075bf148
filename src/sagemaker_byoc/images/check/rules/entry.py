"""How the container starts: SageMaker runs IMAGE train, or IMAGE serve."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sagemaker_byoc.images.check.findings import TRAIN, Found, Rule, Severity, Subject
from sagemaker_byoc.images.check.rules import execution, secret_shapes
from sagemaker_byoc.images.check.rules.execution import Failure, missing_user

_ENTRY = "configuration: Entrypoint"
_OPERATORS = re.compile(r"[;&|<>()$`'\"\n]")
"""What only a shell understands."""
_PASSED_ON = re.compile(r"\$\{?[@*1-9]")


def shell_form(subject: Subject) -> Iterator[Found]:
    line = secret_shapes.redacted(subject.shell_form)
    if line.startswith("[") and line.endswith("]"):
        what = f"ENTRYPOINT {line} is not JSON, so Docker gives it to a shell"
        yield Found(what, _ENTRY, fix="ENTRYPOINT " + line.replace("'", '"') + ", in double quotes")
    elif _PASSED_ON.search(line):
        what = f"ENTRYPOINT {line}: the argument becomes $0, and is not passed on"
        yield Found(what, _ENTRY, fix='Add a word after the line, for $0: ["sh", "-c", "…", "--"]')
    elif _OPERATORS.search(line):
        fix = 'Write a script that ends in `exec program "$@"`, and ENTRYPOINT ["/script"]'
        yield Found(f"ENTRYPOINT {line}", _ENTRY, fix=fix)
    elif line:
        words = ", ".join(f'"{word}"' for word in line.split() if word != "exec")
        yield Found(f"ENTRYPOINT {line}", _ENTRY, fix=f"ENTRYPOINT [{words}]")


def _failures(subject: Subject) -> Iterator[tuple[str, Failure]]:
    """Yield why `IMAGE train` and `IMAGE serve` can't be started, the same cause once."""
    said: set[Failure] = set()
    for role in sorted(subject.roles) or [TRAIN]:
        failure = execution.start(subject.image, (*subject.image.entry, role))
        if failure is not None and failure not in said:
            said.add(failure)
            yield role, failure


def _is_argument(subject: Subject, failure: Failure) -> bool:
    return failure.at == len(subject.image.entry)


def argument_found(subject: Subject) -> Iterator[Found]:
    if not subject.roles and not subject.image.entry and subject.image.files is not None:
        yield Found("there is neither a program `train` nor `serve`, and no ENTRYPOINT", _ENTRY)
    for role, failure in _failures(subject) if subject.roles else ():
        if failure.missing and _is_argument(subject, failure):
            fix = f"Install a program `{role}`, or write ENTRYPOINT with the program that takes it"
            yield Found(failure.what, failure.where, fix)


def argument_runs(subject: Subject) -> Iterator[Found]:
    for _, failure in _failures(subject) if subject.roles else ():
        if not failure.missing and _is_argument(subject, failure):
            yield Found(failure.what, failure.where, failure.fix)


def entry_runs(subject: Subject) -> Iterator[Found]:
    for _, failure in _failures(subject):
        if not _is_argument(subject, failure):
            yield Found(failure.what, failure.where, failure.fix)


def user_known(subject: Subject) -> Iterator[Found]:
    found = missing_user(subject.image)
    if found is not None:
        name, path = found
        what = f"USER {subject.image.config.user}: there is no {name} in {path}"
        yield Found(what, "configuration: User")


def init(subject: Subject) -> Iterator[Found]:
    if subject.init:
        yield Found(f'ENTRYPOINT ["{subject.init}"] alone', _ENTRY)


RULES: tuple[Rule[Subject], ...] = (
    Rule(
        "IMG006",
        Severity.ERROR,
        "ENTRYPOINT is in shell form",
        "A shell is process 1 then: it drops the argument `train` or `serve`, and need not pass on "
        "SIGTERM, so that a stop or a spot reclaim ends in SIGKILL with nothing saved.",
        'ENTRYPOINT ["program", "argument"]',
        shell_form,
    ),
    Rule(
        "IMG007",
        Severity.ERROR,
        "SageMaker would find nothing to start",
        'Without an ENTRYPOINT the argument is the program: `exec: "train": executable file not '
        "found in $PATH`.",
        "Install programs `train` and `serve` on PATH, or write an ENTRYPOINT",
        argument_found,
    ),
    Rule(
        "IMG008",
        Severity.ERROR,
        "The program `train` or `serve` can't be executed",
        "The engine can't start the container; the job fails before its first line of log.",
        "RUN chmod +x the program",
        argument_runs,
    ),
    Rule(
        "IMG009",
        Severity.ERROR,
        "ENTRYPOINT can't be executed",
        "The engine, or the program that it starts, can't run this one; the job fails before its "
        "first line of log.",
        "Correct ENTRYPOINT, or install the program",
        entry_runs,
    ),
    Rule(
        "IMG010",
        Severity.WARNING,
        "An init program is the whole ENTRYPOINT",
        "SageMaker's guide warns of it: the init takes `train` or `serve` for the program.",
        'ENTRYPOINT ["tini", "--", "your-program"]',
        init,
    ),
    Rule(
        "IMG015",
        Severity.ERROR,
        "The container's user does not exist",
        'The engine can\'t start the container: "unable to find user".',
        "RUN useradd NAME before the USER line, write the user's number, or remove the line",
        user_known,
    ),
)
