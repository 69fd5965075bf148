"""A docker client for tests, which has one image and fails where it is told to."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.unit.images import made

_CLIENT = """#!/bin/sh
echo "$*" >> {folder}/calls
verb=$1
[ "$1" = image ] && [ "$2" = inspect ] && verb=image
[ "$1" = container ] && verb=inspect
[ "$1" = network ] && verb="network-$2"
if [ -e "{folder}/fails-$verb" ]; then cat "{folder}/fails-$verb" >&2; exit 1; fi
case "$verb" in
image) cat {folder}/image ;;
save) cat {folder}/saved ;;
wait) cat {folder}/code || {{ exec sleep 60; }} ;;
inspect) case "$4" in *Running*) cat {folder}/state ;; *Pid*) echo "0 id" ;; *) echo null ;; esac ;;
logs) echo "training"; ;;
ps) cat {folder}/containers 2>/dev/null ;;
cp) cat > /dev/null; [ "$2" = - ] || {{ echo "Could not find the file" >&2; exit 1; }} ;;
exec) exit 1 ;;
esac
exit 0
"""


@dataclass(frozen=True)
class Engine:
    folder: Path

    def fails(self, verb: str, words: str) -> None:
        (self.folder / f"fails-{verb}").write_text(words)

    def runs_on(self) -> None:
        """No container of it ends by itself."""
        (self.folder / "code").unlink()
        (self.folder / "state").write_text("true 0\n")

    def containers(self, *rows: tuple[str, str]) -> None:
        """Identities and owners of what is there already."""
        (self.folder / "containers").write_text("".join(f"{name}\t{by}\n" for name, by in rows))

    def calls(self, verb: str) -> list[str]:
        lines = (self.folder / "calls").read_text().splitlines()
        return [line for line in lines if line.startswith(f"{verb} ")]


def make_engine(
    folder: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes | None], **config: object
) -> Engine:
    """Its image has `files`; every container of it ends with exit code 0."""
    made.saved(folder / "saved", made.config(**config), made.layer(files, mode=0o755))
    document = {
        "Id": "sha256:1", "Os": "linux", "Architecture": "amd64", "Config": config,
    }  # fmt: skip
    (folder / "image").write_text(json.dumps([document]))
    (folder / "code").write_text("0\n")
    (folder / "state").write_text("false 0\n")
    client = folder / "docker"
    client.write_text(_CLIENT.format(folder=folder))
    client.chmod(0o755)
    monkeypatch.setenv("DOCKER", str(client))
    return Engine(folder)
