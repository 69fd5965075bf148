"""Compile caches in the folder that a warm pool keeps, so that only its first job compiles."""

from __future__ import annotations

from collections.abc import Mapping

WARM_POOL = "SAGEMAKER_MANAGED_WARMPOOL_CACHE_DIRECTORY"
FOLDERS = {"TORCHINDUCTOR_CACHE_DIR": "torchinductor", "TRITON_CACHE_DIR": "triton"}


def cache_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Defaults; none without a warm pool."""
    pool = environ.get(WARM_POOL)
    return {name: f"{pool}/{folder}" for name, folder in FOLDERS.items()} if pool else {}
