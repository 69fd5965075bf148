"""The folder with the user's code: code sent with the job wins over code in the image.

The only module that imports sagemaker-training and botocore, and only if a job's code is in S3: it
takes a third of a second. The image has sagemaker-training; a Python that runs a job of the local
region without an image has botocore.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sagemaker_byoc.contract.errors import ArchiveError, ContractError
from sagemaker_byoc.contract.paths import baked_program_dir
from sagemaker_byoc.contract.training.job import Job
from sagemaker_byoc.contract.variables import SUBMIT_DIRECTORY

CODE_CHANNEL = "code"
NO_CODE = frozenset({"__pycache__", "lost+found"})
ARCHIVES = (".tar.gz", ".tgz")


@dataclass(frozen=True, slots=True)
class Source:
    """The folder that is used, its origin, and what else was found."""

    folder: Path
    origin: str
    passed_over: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Candidate:
    origin: str
    path: str
    folder: Callable[[], Path]
    """Prepares the folder. Called only for the candidate that is used: it may download."""
    is_usable: bool


def find_source(job: Job, environ: Mapping[str, str]) -> Source:
    """Return the first candidate that holds code; raise ContractError if none does."""
    candidates = list(_candidates(job, environ))
    usable = [candidate for candidate in candidates if candidate.is_usable]
    if not usable:
        looked = ", ".join(f"{c.path} ({c.origin}{_state(c)})" for c in candidates)
        raise ContractError(
            where="program",
            what=f"there is no code in any of {looked}",
            hint="Bake train.py into the image, or give it as a channel named 'code' or as "
            "hyperparameter sagemaker_submit_directory",
        )
    taken, *others = usable
    folder = taken.folder().absolute()
    return Source(
        folder=folder,
        origin=taken.origin,
        passed_over=tuple(f"{o.path} ({o.origin})" for o in others if o.path != str(folder)),
    )


def _state(candidate: Candidate) -> str:
    """Return what keeps a folder from being read, or ""."""
    path = Path(candidate.path)
    is_closed = path.is_dir() and not os.access(path, os.R_OK | os.X_OK)
    return ", which the container's user can't read" if is_closed else ""


def _candidates(job: Job, environ: Mapping[str, str]) -> Iterator[Candidate]:
    """Yield the candidates in order of precedence."""
    submitted = job.hyperparameters.text("sagemaker_submit_directory")
    if submitted:
        yield _submitted("sagemaker_submit_directory", submitted)
    elif environ.get(SUBMIT_DIRECTORY):
        yield _submitted(SUBMIT_DIRECTORY, environ[SUBMIT_DIRECTORY])
    for origin, folder in (
        (f"channel {CODE_CHANNEL!r}", job.tree.channel(CODE_CHANNEL)),
        ("placed beside the input", job.tree.code),
        ("in the image", baked_program_dir(environ)),
    ):
        yield Candidate(origin, str(folder), partial(Path, folder), _holds_code(folder))


def _submitted(origin: str, place: str) -> Candidate:
    """Return the candidate for an explicit place, which is always used: a wrong one is an error."""
    return Candidate(origin, place, partial(_make_ready, origin, place), is_usable=True)


def _make_ready(origin: str, place: str) -> Path:
    if place.startswith("s3://"):
        folder = _fresh_folder()
        _fetch(place, folder)
        return folder
    path = Path(place.removeprefix("file://"))
    if path.name.endswith(ARCHIVES) and path.is_file():
        folder = _fresh_folder()
        _unpack(path, folder)
        return folder
    if not _holds_code(path):
        raise ContractError(
            where=f"{origin} {place}",
            what="is neither a folder with code nor a .tar.gz file in this container",
            hint="Name a folder or an archive in the container, or an s3:// address",
        )
    return path


def _unpack(archive: Path, folder: Path) -> None:
    from sagemaker_byoc.contract.archives import unpack  # noqa: PLC0415 - it imports tarfile

    try:
        unpack(archive, folder)
    except ArchiveError as error:
        raise ContractError(
            where=str(archive),
            what=f"can't be unpacked: it {error.what}",
            hint="Pack the code with: tar -C FOLDER -czf code.tar.gz .",
        ) from error


def _fresh_folder() -> Path:
    import tempfile  # noqa: PLC0415 - few jobs need it

    return Path(tempfile.mkdtemp(prefix="byoc-code-"))


def _holds_code(folder: Path) -> bool:
    try:
        names = [entry.name for entry in folder.iterdir()]
    except OSError:
        return False
    return any(name not in NO_CODE and not name.startswith(".") for name in names)


def _fetch(uri: str, folder: Path) -> None:
    """Download the .tar.gz at `uri` (s3://…) and unpack it into the empty `folder`."""
    try:
        from sagemaker_training import files  # noqa: PLC0415 - it imports boto3
    except ImportError:
        files = None
    try:
        if files is None:
            _fetch_alone(uri, folder)
        else:
            files.download_and_extract(uri, str(folder))
    except ImportError as error:
        raise ContractError(
            where=f"sagemaker_submit_directory {uri}",
            what="needs the package sagemaker-training or botocore, and neither can be imported "
            f"here ({error})",
            hint="Install one of them where the program runs, or give the code as a channel "
            "named 'code'",
        ) from error
    except Exception as error:  # boto3's and tarfile's errors; this package can't import boto3
        raise ContractError(
            where=f"sagemaker_submit_directory {uri}",
            what=f"could not be fetched ({type(error).__name__}: {error})",
            hint="Check that the object exists and is a .tar.gz, that the job's role may read it, "
            "and that the job has a network (EnableNetworkIsolation takes it away)",
        ) from error


def _fetch_alone(uri: str, folder: Path) -> None:
    from botocore.session import Session  # noqa: PLC0415

    from sagemaker_byoc.contract.archives import unpack  # noqa: PLC0415 - it imports tarfile

    bucket, _, key = uri.removeprefix("s3://").partition("/")
    client = Session().create_client("s3", region_name=os.environ.get("AWS_REGION"))
    archive = folder / ".code.tar.gz"
    try:
        with open(archive, "wb") as file:
            shutil.copyfileobj(client.get_object(Bucket=bucket, Key=key)["Body"], file)
        unpack(archive, folder)
    finally:
        archive.unlink(missing_ok=True)
