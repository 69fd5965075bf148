"""Repositories, their images and tags, as small files.

    STATE/registry/repositories/NAME/repository.json
    …/tags/TAG.json             {"digest": …}
    …/manifests/sha256-….json   {"mediaType": …, "pushed": …}; the manifest itself is a blob
    …/blobs/sha256-…            empty: the blob may be pulled from this repository

A tag is replaced by a rename, after all that it leads to is on disk.
"""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from sagemaker_byoc.contract import folders
from sagemaker_byoc.contract.files import write_atomically
from sagemaker_byoc.region.core import paging
from sagemaker_byoc.region.core.records import now
from sagemaker_byoc.region.services.ecr.blobs import Blobs
from sagemaker_byoc.region.wire.operations import AwsError, Parameters

_PAGE = 100
_GRACE_SECONDS = 3600.0
"""A push sends layers first and names them last; younger blobs are not removed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    name: str
    created: str
    """ISO 8601."""
    mutability: str = "MUTABLE"
    exclusions: tuple[str, ...] = ()
    """Tag patterns with `*`, to which the opposite of `mutability` applies."""
    scan_on_push: bool = False
    encryption: str = "AES256"
    kms_key: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    policy: str | None = None
    lifecycle: str | None = None
    lifecycle_evaluated: str | None = None
    """ISO 8601: when the lifecycle policy was put, as nothing expires here."""

    @property
    def created_at(self) -> datetime:
        return datetime.fromisoformat(self.created)


@dataclass(frozen=True, slots=True)
class Image:
    digest: str
    media_type: str
    pushed: datetime


class Repositories:
    """Thread-safe; changes to names wait for each other."""

    def __init__(self, folder: Path, registry: str) -> None:
        self._folder = folder / "repositories"
        self._registry = registry
        self.blobs = Blobs(folder)
        self.lock = threading.RLock()
        self._folder.mkdir(parents=True, exist_ok=True)

    def all(self) -> list[Repository]:
        return [
            self.get(unquote(path.name))
            for path in sorted(self._folder.iterdir())
            if (path / "repository.json").is_file()
        ]

    def get(self, name: str) -> Repository:
        """Raise AwsError RepositoryNotFoundException if there is none."""
        try:
            document = json.loads((self._path(name) / "repository.json").read_bytes())
        except FileNotFoundError:
            raise no_repository(name, self._registry) from None
        return Repository(**{**document, "exclusions": tuple(document["exclusions"])})

    def create(self, repository: Repository) -> None:
        """Raise AwsError RepositoryAlreadyExistsException."""
        with self.lock:
            if (self._path(repository.name) / "repository.json").exists():
                raise AwsError(
                    "RepositoryAlreadyExistsException",
                    f"The repository with name '{repository.name}' already exists in the registry"
                    f" with id '{self._registry}'",
                )
            if self._path(repository.name).exists():  # a deletion left something of it
                shutil.rmtree(self._path(repository.name))
            self._write(repository)

    def change(self, name: str, **changes: Any) -> Repository:
        with self.lock:
            repository = replace(self.get(name), **changes)
            self._write(repository)
            return repository

    def delete(self, name: str) -> None:
        with self.lock:
            path = self._path(name)
            (path / "repository.json").unlink()
            folders.remove(path)
            self.sweep()

    # Images

    def images(self, name: str) -> list[Image]:
        """Return the images, sorted by digest."""
        self.get(name)
        paths = sorted((self._path(name) / "manifests").glob("*.json"))
        return [_image(path) for path in paths]

    def image(self, name: str, digest: str) -> Image | None:
        path = self._path(name) / "manifests" / f"{_file_name(digest)}.json"
        return _image(path) if path.is_file() else None

    def tags(self, name: str) -> dict[str, str]:
        """Return digests by tag, in the order of tags."""
        self.get(name)
        return {
            path.name.removesuffix(".json"): json.loads(path.read_bytes())["digest"]
            for path in sorted((self._path(name) / "tags").glob("*.json"))
        }

    def put_image(self, name: str, data: bytes, media_type: str, tag: str | None) -> Image:
        """Put a manifest that was checked: all it names exists."""
        digest = self.blobs.add(data)
        image = self.image(name, digest) or Image(digest, media_type, now())
        folder = self._path(name)
        document = {"mediaType": image.media_type, "pushed": image.pushed.isoformat()}
        path = folder / "manifests" / f"{_file_name(digest)}.json"
        write_atomically(path, json.dumps(document).encode())
        if tag is not None:
            write_atomically(
                folder / "tags" / f"{tag}.json", json.dumps({"digest": digest}).encode()
            )
        return image

    def untag(self, name: str, tag: str) -> None:
        (self._path(name) / "tags" / f"{tag}.json").unlink(missing_ok=True)

    def remove_image(self, name: str, digest: str) -> None:
        """Remove an image with its tags."""
        for tag, found in self.tags(name).items():
            if found == digest:
                self.untag(name, tag)
        (self._path(name) / "manifests" / f"{_file_name(digest)}.json").unlink(missing_ok=True)

    # Blobs

    def link(self, name: str, digest: str) -> None:
        path = self._path(name) / "blobs" / _file_name(digest)
        path.parent.mkdir(exist_ok=True)
        path.touch()

    def linked(self, name: str, digest: str) -> bool:
        path = self._path(name) / "blobs" / _file_name(digest)
        return path.exists() and self.blobs.has(digest)

    def sweep(self) -> None:
        """Remove the blobs that no image needs and that no push may be about to name."""
        with self.lock:
            before = time.time() - _GRACE_SECONDS
            self.blobs.drop_uploads(before)
            needed: set[str] = set()
            for repository in self.all():
                named = set(self.named(repository.name))
                needed |= named
                for path in (self._path(repository.name) / "blobs").glob("*"):
                    digest = path.name.replace("-", ":", 1)
                    if digest not in named and path.stat().st_mtime < before:
                        path.unlink()
                    else:
                        needed.add(digest)
            for digest in self.blobs.all():
                path = self.blobs.path(digest)
                if digest not in needed and path.stat().st_mtime < before:
                    self.blobs.remove(digest)

    def named(self, name: str) -> Iterator[str]:
        """Yield the digests of the repository's manifests, and of what they name."""
        for image in self.images(name):
            yield image.digest
            document = json.loads(self.blobs.read(image.digest))
            for entry in (document.get("config"), *document.get("layers", ())):
                if entry:
                    yield entry["digest"]

    def _write(self, repository: Repository) -> None:
        document = json.dumps(asdict(repository), indent=2).encode()
        write_atomically(self._path(repository.name) / "repository.json", document)

    def _path(self, name: str) -> Path:
        return self._folder / quote(name, safe="")


def no_repository(name: str, registry: str) -> AwsError:
    return AwsError(
        "RepositoryNotFoundException",
        f"The repository with name '{name}' does not exist in the registry with id '{registry}'",
    )


def invalid(member: str, why: str) -> AwsError:
    return AwsError(
        "InvalidParameterException",
        f"Invalid parameter at '{member}' failed to satisfy constraint: {why}",
    )


def page(
    found: list[dict[str, Any]], parameters: Parameters, name: str, *, by: str, then: str = ""
) -> Parameters:
    """Return the page that `parameters` ask for, as member `name`, sorted by one or two members.

    Raise AwsError InvalidParameterException.
    """
    try:
        entries, token = paging.page(
            found,
            lambda entry: (entry[by], entry.get(then, "")),
            size=parameters.get("maxResults", _PAGE),
            token=parameters.get("nextToken"),
        )
    except paging.TokenError:
        raise invalid("nextToken", "'Invalid token'") from None
    return {name: entries, "nextToken": token}


def _file_name(digest: str) -> str:
    return digest.replace(":", "-", 1)


def _image(path: Path) -> Image:
    document = json.loads(path.read_bytes())
    digest = path.name.removesuffix(".json").replace("-", ":", 1)
    return Image(digest, document["mediaType"], datetime.fromisoformat(document["pushed"]))
