"""Images of the process engine: a program's copy and a Python, recorded under a name."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.contract.files import write_json
from sagemaker_byoc.contract.lifecycle import SERVE_ARGUMENT, TRAIN_ARGUMENT
from sagemaker_byoc.contract.variables import PROGRAM, PROGRAM_DIR
from sagemaker_byoc.host import ignore
from sagemaker_byoc.region.containers.images import Reference, unknown_image
from sagemaker_byoc.region.containers.specs import Image
from sagemaker_byoc.region.core.state_folder import make_private
from sagemaker_byoc.region.engines import copying
from sagemaker_byoc.region.engines.process import ROOMS
from sagemaker_byoc.region.wire.operations import AwsError

_IMPORT_SECONDS = 60.0
TOOLKIT = {"byoc-train": TRAIN_ARGUMENT.value, "byoc-serve": SERVE_ARGUMENT.value}
"""The toolkit's own images. The process engine has them from the start, without a program."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    kind: str
    """train or serve."""
    program: Path
    """A folder."""
    entry_point: str | None
    """The file of the folder to start, if the user named one."""
    tag: str
    """REPOSITORY or REPOSITORY:TAG."""


def record(recording: Recording, state: Path, interpreter: Path) -> str:
    """Record the image and return its digest. The copy is complete before the name points to it."""
    reference = _reference(recording.tag)
    _require_toolkit(interpreter, recording.kind)
    make_private(state)
    images = RecordedImages(state)
    folder = copying.program_folder(recording.program)
    digest = _digest_of(folder, recording.kind, recording.entry_point or "", str(interpreter))
    place = images.program(digest)
    if not place.is_dir():
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=place.parent) as scratch:
            copy = Path(scratch) / "program"
            copy.mkdir()
            for name, path in ignore.walk(folder, ignore.litter()):
                if path.is_dir() and not path.is_symlink():
                    (copy / name).mkdir()
                    shutil.copystat(path, copy / name)
                else:
                    shutil.copy2(path, copy / name, follow_symlinks=False)
            copy.rename(place)
    variables = {} if recording.entry_point is None else {PROGRAM: recording.entry_point}
    write_json(
        images.name_file(reference.repository, reference.tag),
        {
            "Name": reference.local_name,
            "Kind": recording.kind,
            "Digest": digest,
            "Interpreter": str(interpreter),
            "Environment": json.dumps(variables),
        },
    )
    return digest


def _reference(tag: str) -> Reference:
    try:
        reference = Reference.parse(tag)
    except AwsError as error:
        raise RequestError(error.message, hint="Change --tag") from error
    if reference.digest:
        raise RequestError(f"--tag {tag!r} holds a digest", hint="Give REPOSITORY:TAG")
    return reference


def _require_toolkit(interpreter: Path, kind: str) -> None:
    command = [str(interpreter), "-I", "-c", f"import {ROOMS[kind]}"]
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_IMPORT_SECONDS
        )
    except OSError as error:
        raise RequestError(
            f"{interpreter} can't be run ({error.strerror})", hint="Name a Python with --python"
        ) from error
    if result.returncode != 0:
        raise RequestError(
            f"{interpreter} can't import {ROOMS[kind]}: {result.stderr.strip()[-300:]}",
            hint="Install sagemaker-byoc for it, or name another Python with --python",
        )


def _digest_of(folder: Path, *words: str) -> str:
    digest = hashlib.sha256("\0".join(words).encode())
    for name, path in ignore.walk(folder, ignore.litter()):
        if path.is_dir() and not path.is_symlink():
            continue
        content = os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()
        digest.update(f"\0{name}\0{path.lstat().st_mode:o}\0".encode())
        digest.update(hashlib.sha256(content).digest())
    return f"sha256:{digest.hexdigest()}"


@dataclass(frozen=True, slots=True)
class RecordedImages:
    """A program's copy and a Python, under a name (`byoc build`).

    STATE/images/names/REPOSITORY:TAG.json says which of STATE/images/programs/DIGEST it is.
    """

    state: Path

    def resolve(self, uri: str) -> Image:
        reference = Reference.parse(uri)
        record = self._by_digest(reference) if reference.digest else self._by_name(reference)
        if record is None and not reference.digest and reference.repository in TOOLKIT:
            record = {"Digest": "sha256:" + "0" * 64, "Interpreter": sys.executable}
        if record is None:
            names = ", ".join(sorted(self.names())) or "none"
            raise unknown_image(
                uri,
                f"this region (process engine) has recorded {names}",
                f"Record it with: byoc build train PROGRAM --tag {reference.local_name} "
                f"--engine process --state {self.state}",
            )
        return Image(
            uri=uri,
            resolved=reference.pinned(record["Digest"]),
            digest=record["Digest"],
            name=reference.local_name,
            interpreter=Path(record["Interpreter"]),
            command=record.get("Kind") or TOOLKIT[reference.repository],
            environment={
                **({PROGRAM_DIR: str(self.program(record["Digest"]))} if "Kind" in record else {}),
                **json.loads(record.get("Environment", "{}")),
            },
        )

    def bring(
        self,
        image: Image,
        *,
        say: Callable[[str], None] = lambda _text: None,
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """Do nothing: a program's copy is here already."""

    def names(self) -> list[str]:
        return [record["Name"] for record in self._records()]

    def name_file(self, repository: str, tag: str) -> Path:
        name = quote(f"{repository}:{tag}", safe=":")
        return self.state / "images" / "names" / f"{name}.json"

    def program(self, digest: str) -> Path:
        return self.state / "images" / "programs" / digest.removeprefix("sha256:")

    def _by_name(self, reference: Reference) -> dict[str, str] | None:
        try:
            data = self.name_file(reference.repository, reference.tag).read_bytes()
        except FileNotFoundError:
            return None
        record: dict[str, str] = json.loads(data)
        return record

    def _by_digest(self, reference: Reference) -> dict[str, str] | None:
        prefix = f"{reference.repository}:"
        for record in self._records():
            if record["Name"].startswith(prefix) and record["Digest"] == reference.digest:
                return record
        return None

    def _records(self) -> Iterator[dict[str, str]]:
        for file in sorted((self.state / "images" / "names").glob("*.json")):
            yield json.loads(file.read_bytes())
