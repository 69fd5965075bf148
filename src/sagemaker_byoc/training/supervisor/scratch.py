"""A folder for small files of the supervisor's own, gone after the job."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def scratch_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="byoc-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
