"""What earlier pushes learned: which packed layer a plain one became, and where it went. A cache.

~/.cache/sagemaker-byoc/layers/RECIPE/DIGEST.json, one small file a layer, the oldest removed.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sagemaker_byoc.contract.files import write_atomically
from sagemaker_byoc.images.push.packing import RECIPE

KEPT = 2000
_PLACES = 8
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class KnownLayer:
    digest: str
    size: int
    places: tuple[str, ...] = ()
    """HOST/REPOSITORY, the latest first."""


def cache_folder(environment: Mapping[str, str] | None = None) -> Path:
    given = os.environ if environment is None else environment
    root = given.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "sagemaker-byoc" / "layers" / RECIPE


class KnownLayers:
    """By the digest of the plain layer. What can't be read is not known, and no error."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, diff_id: str) -> KnownLayer | None:
        """Whether a registry has it is to be asked."""
        if not _DIGEST.fullmatch(diff_id):
            return None
        try:
            document = json.loads(self._path(diff_id).read_bytes())
            digest, size = document["digest"], document["size"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if not isinstance(size, int) or not _DIGEST.fullmatch(str(digest)):
            return None
        places = document.get("places")
        known = [str(place) for place in places] if isinstance(places, list) else []
        return KnownLayer(str(digest), size, tuple(known[:_PLACES]))

    def keep(self, diff_id: str, layer: KnownLayer, place: str = "") -> None:
        """`place` has it now."""
        places = [place] if place else []
        places += [other for other in layer.places if other != place]
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            found = {"digest": layer.digest, "size": layer.size, "places": places[:_PLACES]}
            text = json.dumps(found)
            write_atomically(self._path(diff_id), text.encode())
        except OSError:
            pass

    def prune(self) -> None:
        try:
            paths = sorted(self._folder.glob("*.json"), key=lambda path: path.stat().st_mtime)
            for path in paths[:-KEPT]:
                path.unlink(missing_ok=True)
        except OSError:
            pass

    def _path(self, diff_id: str) -> Path:
        return self._folder / f"{diff_id.partition(':')[2]}.json"
