"""How the container starts: SageMaker runs IMAGE train, or IMAGE serve."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from sagemaker_byoc.images.findings import Found, Rule, Severity
from sagemaker_byoc.images.model import DEFAULT_PATH, File
from sagemaker_byoc.images.rules.subject import Subject

_ENTRY = "configuration: Entrypoint"


def shell_form(subject: Subject) -> Iterator[Found]:
    line = subject.shell_form
    if line:
        words = ", ".join(f'"{word}"' for word in line.split())
        yield Found(f"ENTRYPOINT {line}", _ENTRY, fix=f"ENTRYPOINT [{words}]")


def argument_found(subject: Subject) -> Iterator[Found]:
    image = subject.image
    if image.files is None or not subject.starts_argument:
        return
    for role in sorted(subject.roles):
        if image.on_path(role) is None:
            path = image.config.environment.get("PATH", DEFAULT_PATH)
            fix = f"Install a program `{role}`, or write ENTRYPOINT with the program that takes it"
            yield Found(f"there is no program `{role}` on PATH", f"PATH={path}", fix)
    if not subject.roles:
        yield Found("there is neither a program `train` nor `serve`, and no ENTRYPOINT", _ENTRY)


def argument_runs(subject: Subject) -> Iterator[Found]:
    image = subject.image
    if image.files is None or not subject.starts_argument:
        return
    for role in sorted(subject.roles):
        program = image.on_path(role)
        if program is not None:
            yield from _cannot_run(subject, program)


def _cannot_run(subject: Subject, program: File) -> Iterator[Found]:
    if not program.mode & 0o111:
        fix = f"RUN chmod +x {program.path}"
        yield Found(f"{program.path} is not executable (mode {program.mode:o})", program.path, fix)
    first = (program.head or b"").split(b"\n", 1)[0]
    if not first.startswith(b"#!"):
        return
    if first.endswith(b"\r"):
        fix = f"sed -i 's/\\r$//' {posixpath.basename(program.path)}"
        yield Found("its first line ends in CR LF", program.path, fix)
        return
    interpreter = first[2:].decode(errors="replace").split()
    files = subject.image.files
    if interpreter and files is not None and files.find(interpreter[0]) is None:
        fix = "Name an interpreter of the image: #!/usr/bin/env python3"
        yield Found(f"its interpreter {interpreter[0]} is not in the image", program.path, fix)


def entry_found(subject: Subject) -> Iterator[Found]:
    image = subject.image
    if image.files is None or not image.entry:
        return
    program = image.entry[0]
    if "/" in program:
        found = image.files.find(posixpath.join("/", image.config.folder, program))
    else:
        found = image.on_path(program)
    if found is None:
        yield Found(f"there is no program {program}", _ENTRY)


def init(subject: Subject) -> Iterator[Found]:
    if subject.init:
        yield Found(f"ENTRYPOINT [{subject.init!r}] alone", _ENTRY)


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
        "ENTRYPOINT names a program that is not in the image",
        "The engine can't start the container; the job fails before its first line of log.",
        "Correct the path in ENTRYPOINT, or install the program",
        entry_found,
    ),
    Rule(
        "IMG010",
        Severity.WARNING,
        "An init program is the whole ENTRYPOINT",
        "SageMaker's guide warns of it: the init takes `train` or `serve` for the program.",
        'ENTRYPOINT ["tini", "--", "your-program"]',
        init,
    ),
)
