"""A folder for small files of the supervisor's own, gone after the job."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sagemaker_byoc.contract.errors import ContractError


@contextmanager
def scratch_folder() -> Iterator[Path]:
    try:
        folder = Path(tempfile.mkdtemp(prefix="byoc-"))
    except OSError as error:
        raise ContractError(
            where="temporary folder",
            what=f"can't be made ({error.strerror or error})",
            hint="Mount a writable /tmp, or set TMPDIR",
        ) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
