"""What an image holds, as a CycloneDX 1.6 document: Python, Debian and Alpine packages, its base.

It is read from the image's files, so it works for any image, also for one without a Python.
"""

from __future__ import annotations

import json
import re
import tarfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path
from typing import IO
from urllib.parse import quote

from sagemaker_byoc.contract.errors import ByocError, MachineError, RequestError
from sagemaker_byoc.contract.files import Json, as_object
from sagemaker_byoc.contract.requirements import canonical
from sagemaker_byoc.host import docker
from sagemaker_byoc.images import scratch
from sagemaker_byoc.images.build.labels import DIGEST_LABEL, NAME_LABEL
from sagemaker_byoc.images.model import ImageError

_LIMIT = 16 * 2**20
"""Bytes of one file; Debian's list has about 100 kB for a slim image."""
_PYTHON = re.compile(r"(?:^|/)[^/]+\.(?:dist-info/METADATA|egg-info/PKG-INFO|egg-info)$")
_DEBIAN = re.compile(r"^var/lib/dpkg/status(?:\.d/[^/]+)?$")
_ALPINE = "lib/apk/db/installed"
_SYSTEMS = ("usr/lib/os-release", "etc/os-release")
_RPM = re.compile(r"^(?:usr/lib/sysimage|var/lib)/rpm/(?:rpmdb\.sqlite|Packages(?:\.db)?)$")


@dataclass(frozen=True, slots=True, order=True)
class Package:
    """`kind` is its purl's type: pypi, deb or apk."""

    kind: str
    name: str
    version: str
    architecture: str = ""
    license: str = ""
    """An SPDX expression, if the package says one."""

    @property
    def key(self) -> tuple[str, ...]:
        return (self.kind, self.name, self.version, self.architecture)


@dataclass(frozen=True, slots=True)
class Contents:
    packages: tuple[Package, ...]
    system: Mapping[str, str]
    """os-release's ID and VERSION_ID."""
    has_rpm: bool
    """Whether it has packages that are not in `packages`."""


def write(image: str, identity: str, file: Path) -> Contents:
    """Write the document of an image that the engine has. Raise ByocError."""
    found = docker.inspect("image", image)
    if found is None:
        raise MachineError(
            f"the engine has no image {image}", hint="--sbom needs docker or podman as the builder"
        )
    labels = as_object(as_object(found.get("Config")).get("Labels"))
    with (
        scratch.removed(),
        _container(image) as container,
        docker.output_of("export", container) as stream,
    ):
        contents = read(stream)
    text = json.dumps(document(image, identity, labels, contents), indent=2)
    try:
        file.write_text(f"{text}\n", encoding="utf-8")
    except OSError as error:
        raise RequestError(
            f"{file} can't be written: {error.strerror}", hint="Name another file with --sbom"
        ) from error
    return contents


@contextmanager
def _container(image: str) -> Iterator[str]:
    """Make a container that is never started, for its files."""
    with suppress(ByocError):
        scratch.sweep()
    words = ["create", *scratch.labels(), "--network", "none", image, "x"]
    name = scratch.whole(*words).strip()
    try:
        yield name
    finally:
        scratch.whole("rm", "--force", "--volumes", name)


def read(stream: IO[bytes]) -> Contents:
    """Read the packages of a file system as `docker export` writes it."""
    packages: dict[tuple[str, ...], Package] = {}
    system: dict[str, str] = {}
    has_rpm = False
    try:
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for entry in archive:
                name = entry.name.removeprefix("./").lstrip("/")
                has_rpm = has_rpm or _RPM.match(name) is not None
                if not entry.isfile() or not _is_wanted(name) or entry.size > _LIMIT:
                    continue
                file = archive.extractfile(entry)
                text = (file.read(_LIMIT) if file else b"").decode(errors="replace")
                if name in _SYSTEMS:
                    system |= _system(text)
                else:
                    packages |= {package.key: package for package in _packages(name, text)}
    except tarfile.TarError as error:
        raise ImageError(
            f"the engine's export is not an archive: {error}", hint="Check it with: docker info"
        ) from error
    return Contents(tuple(sorted(packages.values())), system, has_rpm)


def document(
    image: str, identity: str, labels: Mapping[str, Json], contents: Contents
) -> dict[str, Json]:
    """Return the document; the same image has the same."""
    subject: dict[str, Json] = {
        "type": "container",
        "bom-ref": identity,
        "name": image.rpartition(":")[0] or image,
        "version": identity,
    }
    base = labels.get(NAME_LABEL)
    if isinstance(base, str) and base:
        ancestor: dict[str, Json] = {"type": "container", "name": base}
        if digest := labels.get(DIGEST_LABEL):
            ancestor["version"] = digest
        subject["pedigree"] = {"ancestors": [ancestor]}
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'image:{identity}')}",
        "version": 1,
        "metadata": {"component": subject},
        "components": [_component(package, contents.system) for package in contents.packages],
    }


def _component(package: Package, system: Mapping[str, str]) -> dict[str, Json]:
    purl = f"pkg:{package.kind}/"
    if package.kind != "pypi":
        purl += f"{quote(system.get('ID') or 'linux', safe='')}/"
    purl += f"{quote(package.name, safe='')}@{quote(package.version, safe='')}"
    about = {"arch": package.architecture}
    if package.kind != "pypi" and system.get("ID"):
        about["distro"] = f"{system['ID']}-{system.get('VERSION_ID', '')}".rstrip("-")
    words = [f"{name}={quote(value, safe='')}" for name, value in sorted(about.items()) if value]
    purl += f"?{'&'.join(words)}" if words else ""
    component: dict[str, Json] = {
        "type": "library",
        "bom-ref": purl,
        "name": package.name,
        "version": package.version,
        "purl": purl,
    }
    if package.license:
        component["licenses"] = [{"expression": package.license}]
    return component


def _is_wanted(name: str) -> bool:
    return bool(name in _SYSTEMS or name == _ALPINE or _PYTHON.search(name) or _DEBIAN.match(name))


def _packages(name: str, text: str) -> Iterator[Package]:
    if name == _ALPINE:
        for block in text.split("\n\n"):
            fields = dict(line.partition(":")[::2] for line in block.splitlines())
            if fields.get("P") and fields.get("V"):
                yield Package("apk", fields["P"], fields["V"], fields.get("A", ""))
    elif _DEBIAN.match(name):
        for block in text.split("\n\n"):
            found = HeaderParser().parsestr(block.lstrip("\n"))
            is_there = "installed" in (found["Status"] or "installed").split()
            if found["Package"] and found["Version"] and is_there:
                architecture = found["Architecture"] or ""
                yield Package("deb", found["Package"], found["Version"], architecture)
    else:
        found = HeaderParser().parsestr(text)
        if found["Name"] and found["Version"]:
            said = " ".join((found["License-Expression"] or "").split())
            yield Package("pypi", canonical(found["Name"]), found["Version"], license=said)


def _system(text: str) -> dict[str, str]:
    pairs = (line.partition("=") for line in text.splitlines())
    return {name: value.strip("\"'") for name, _, value in pairs if name in {"ID", "VERSION_ID"}}
