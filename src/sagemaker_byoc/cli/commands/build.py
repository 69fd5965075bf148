"""`byoc build`: an image of a program, for Docker or for the engine without it."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from sagemaker_byoc.cli import base_login, programs, target
from sagemaker_byoc.cli.terminal import arguments as types
from sagemaker_byoc.cli.terminal import console
from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.host import docker
from sagemaker_byoc.images.build import builders, contexts, sbom
from sagemaker_byoc.images.build.build import (
    AUTO,
    PROGRESS,
    QUIET,
    BuildRequest,
    Built,
    Output,
    build,
    parse_secret,
    secret_name,
)
from sagemaker_byoc.images.build.project import name_of
from sagemaker_byoc.region.containers.recorded_images import Recording, record

HELP = "Make an image of a program: linux/amd64, Docker's media types, a tag that means it alone."
_LIKE = re.compile(r"(docker|container)file", re.IGNORECASE)
_IMAGE_ONLY = ("file", "build_arg", "builder", "label", "no_cache", "pull", "secret", "sbom")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", choices=programs.KINDS, help="what the image is for")
    parser.add_argument(
        "program",
        type=Path,
        nargs="?",
        metavar="PROGRAM",
        help="a folder with a Dockerfile, which is built; or a folder or file of code, put on top "
        "of the toolkit's own image (default: what [tool.byoc] of ./pyproject.toml says)",
    )
    parser.add_argument(
        "-t",
        "--tag",
        metavar="NAME",
        help="REPOSITORY[:TAG] (default: the project's name and train or serve; "
        "a tag of the commit and the image's id, and latest)",
    )
    parser.add_argument("--json", action="store_true", help="one object, for programs")
    parser.add_argument(
        "--engine",
        choices=programs.ENGINES,
        help="docker: an image (default); process: a copy of the program, recorded in --state",
    )
    image = parser.add_argument_group("for an image")
    image.add_argument(
        "-f",
        "--file",
        type=Path,
        metavar="FILE",
        help="(default: Dockerfile.train or Dockerfile.serve, else Dockerfile)",
    )
    image.add_argument(
        "--build-arg",
        type=types.pair,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="such as BASE=IMAGE or TORCH=cuda12; may be repeated",
    )
    image.add_argument(
        "--secret",
        action="append",
        default=[],
        metavar="id=NAME,src=FILE",
        help="a file (or env=VARIABLE) that a step can read and the image does not keep; the "
        "toolkit's own Dockerfiles read `pip`, a pip.conf; may be repeated",
    )
    image.add_argument("--label", type=types.pair, action="append", default=[], metavar="KEY=VALUE")
    image.add_argument(
        "--builder", choices=builders.NAMES, help="(default: the best there is, BuildKit first)"
    )
    image.add_argument(
        "--progress",
        choices=PROGRESS,
        default=AUTO,
        help="auto: redrawn in a terminal, plain lines elsewhere; quiet: after a failure only",
    )
    image.add_argument(
        "--sbom",
        type=Path,
        metavar="FILE",
        help="write what the image holds: Python and system packages, base (CycloneDX JSON)",
    )
    image.add_argument("--no-cache", action="store_true", help="build every line again")
    image.add_argument("--pull", action="store_true", help="look for a newer base image")
    image.add_argument(
        "--timeout", type=types.seconds(86400), default=3600.0, metavar="SECONDS", help="(3600)"
    )
    process = parser.add_argument_group("for --engine process")
    target.add_state(process)
    process.add_argument(
        "--python",
        type=Path,
        default=Path(sys.executable),
        metavar="FILE",
        help="the Python that will run it (default: this one)",
    )


def run(arguments: argparse.Namespace) -> int:
    folder: Path | None = arguments.program
    place = folder if folder is not None and folder.is_dir() else Path()
    project = programs.read_project(place)
    # A region's folder is the process engine's: Docker has a store of its own.
    engine = arguments.engine or ("docker" if arguments.state is None else "process")
    if engine == "process":
        return _record(arguments, project)
    if arguments.sbom is not None and not arguments.sbom.absolute().parent.is_dir():
        raise RequestError(
            f"--sbom {arguments.sbom}: there is no such folder", hint="Make it, or name another"
        )
    with _request(arguments, place, project) as request:
        built = _build(request)
    if arguments.sbom is not None:
        _list(built, arguments.sbom)
    _tell(built, arguments)
    return 0


def _build(request: BuildRequest) -> Built:
    """Build with a login for the ECR registries of the Dockerfile's base images."""
    try:
        dockerfile = request.dockerfile.read_text(errors="replace")
    except OSError:
        dockerfile = ""  # the build itself reports it better
    hosts = base_login.ecr_hosts(dockerfile, *request.arguments.values())
    with base_login.lent(hosts) as lent:
        for host in lent:
            console.detail(f"base images of {host}: with these AWS credentials")
        return build(request, Output(console.step, console.detail, console.builder_line))


def _list(built: Built, file: Path) -> None:
    client = built.builder.command[0]
    if client != docker.client():
        raise RequestError(
            f"--sbom: {built.image} is in the store of {client}, and {docker.client()} is asked",
            hint=f"Set DOCKER={client}" if built.builder.name == builders.PODMAN else "Use podman",
        )
    contents = sbom.write(built.image, built.id, file)
    console.detail(f"{len(contents.packages)} packages listed in {file}")
    if contents.has_rpm:
        console.detail("the packages of its rpm database are not in that list")


def _tell(built: Built, arguments: argparse.Namespace) -> None:
    console.step(f"{built.image} is {built.id} ({built.seconds:.1f} s)")
    if not arguments.json:
        console.result(built.image)
        return
    console.document(
        {
            "image": built.image,
            "id": built.id,
            "kind": arguments.kind,
            "engine": built.builder.name if built.builder.is_daemonless else "docker",
            "tags": list(built.tags),
            "content": built.content,
            "commit": built.commit,
            "builder": {"name": built.builder.name, "version": built.builder.version},
            "seconds": round(built.seconds, 3),
        }
    )


@contextmanager
def _request(
    arguments: argparse.Namespace, place: Path, project: programs.Project
) -> Iterator[BuildRequest]:
    """Yield the request; the context of a program without a Dockerfile is then removed."""
    kind = arguments.kind
    known = project.programs[kind]
    given = programs.parse_pairs("--build-arg", arguments.build_arg)
    chosen = arguments.file or known.dockerfile
    is_file = arguments.program is not None and not arguments.program.is_dir()
    request = BuildRequest(
        context=place,
        dockerfile=chosen or place / f"Dockerfile.{kind}",
        tag=arguments.tag or f"{project.name or name_of(place)}-{kind}",
        source=place,
        arguments={**project.arguments, **given},
        labels=programs.parse_pairs("--label", arguments.label),
        secrets=tuple(parse_secret(text, os.environ) for text in arguments.secret),
        builder=arguments.builder,
        progress=QUIET if console.is_quiet() else arguments.progress,
        cache=not arguments.no_cache,
        pull=arguments.pull,
        seconds=arguments.timeout,
    )
    found = chosen or _dockerfile(place, kind)
    if found is not None and (arguments.file is not None or not is_file):
        yield replace(request, dockerfile=found)
        return
    program = programs.parse_program(programs.required(arguments.program or known.program, kind))
    folder = program.folder.resolve()
    secret = "pip" in map(secret_name, request.secrets)
    with contexts.prepared(kind, folder, program.entry_point, secret=secret) as context:
        for note in context.notes:
            console.detail(note)
        yield replace(
            request,
            context=context.folder,
            dockerfile=context.dockerfile,
            tag=arguments.tag or f"{project.name or name_of(program.folder)}-{kind}",
            source=program.folder,
            arguments=given,
            bases=(context.base,),
        )


def _dockerfile(place: Path, kind: str) -> Path | None:
    """Return the folder's Dockerfile, None without one; print a line if it is not for this kind.

    A folder with a plain Dockerfile is a user's image: what `docker build` would build.
    """
    for name in (f"Dockerfile.{kind}", f"{kind}.Dockerfile", "Dockerfile", "Containerfile"):
        path = place / name
        if path.is_file():
            if kind not in name:
                console.detail(
                    f"{path} is built as it is, since there is no Dockerfile.{kind}; to put a "
                    "program on the toolkit's image, name its file and not its folder"
                )
            return path
    ours = {f"Dockerfile.{other}" for other in programs.KINDS}
    others = [path.name for path in place.iterdir() if _LIKE.search(path.name) and path.is_file()]
    others = [name for name in others if name not in ours and not name.endswith(".dockerignore")]
    if others:
        console.detail(f"{min(others)} is not built; --file {min(others)} would build it")
    return None


def _record(arguments: argparse.Namespace, project: programs.Project) -> int:
    for name in _IMAGE_ONLY:
        if getattr(arguments, name):
            flag = f"--{name.replace('_', '-')}"
            raise RequestError(
                f"{flag} is for an image, and --engine process makes none",
                hint=f"Leave out {flag}, or build with --engine docker",
            )
    named = arguments.program or project.programs[arguments.kind].program
    program = programs.parse_program(programs.required(named, arguments.kind))
    state = target.state_folder(arguments)
    with contexts.copied(program.folder.resolve()) as (copy, notes):
        for note in notes:
            console.detail(note)
        recording = Recording(
            kind=arguments.kind,
            program=copy,
            entry_point=program.entry_point,
            tag=arguments.tag or f"{project.name or name_of(program.folder)}-{arguments.kind}",
        )
        # Not resolved: a venv's python is a link, and the venv is found by the link's place.
        digest = record(recording, state, arguments.python.absolute())
    console.step(f"image {recording.tag} (process), recorded in {state}")
    if arguments.json:
        members = {"image": recording.tag, "id": digest, "kind": recording.kind}
        console.document(members | {"engine": "process", "state": str(state)})
    else:
        console.result(digest)
    return 0
