"""Random seeds by rank and by data worker, and runs that are repeatable bit by bit.

For user scripts; works alone.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import random
import sys

import torch

from sagemaker_byoc.training.library.ranks import global_rank

logger = logging.getLogger(__name__)

CUBLAS = "CUBLAS_WORKSPACE_CONFIG"
CUBLAS_DETERMINISTIC = ":4096:8"


def seed_everything(seed: int, *, rank: int | None = None, deterministic: bool = False) -> int:
    """Seed Python, numpy if installed, and torch, differently on each rank. Return the seed used.

    If all ranks must start with the same weights, call it with `rank=0` on each before the model is
    made, and again without `rank` for dropout and data. `deterministic` makes torch refuse
    operations without a repeatable form, and is slower.
    """
    derived = derive(seed, global_rank() if rank is None else rank)
    random.seed(derived)
    torch.manual_seed(derived)
    if "numpy" in sys.modules or importlib.util.find_spec("numpy"):
        import numpy  # noqa: PLC0415, ICN001 - not needed to import this module

        numpy.random.seed(derived % 2**32)
    if deterministic:
        _make_deterministic()
    return derived


def seed_worker(worker: int) -> None:
    """Seed Python and numpy in a DataLoader's worker, as `worker_init_fn`; torch seeds itself."""
    derived = derive(torch.initial_seed() % 2**63, worker)
    random.seed(derived)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(derived % 2**32)


def generator(seed: int, *parts: int) -> torch.Generator:
    """Return a CPU generator for one purpose, which `parts` identify (rank, epoch, …)."""
    return torch.Generator().manual_seed(derive(seed, *parts))


def derive(seed: int, *parts: int) -> int:
    """Return a seed below 2**63. With seed + rank, rank 1 of one run would be rank 0 of another."""
    text = ":".join(str(part) for part in (seed, *parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1


def _make_deterministic() -> None:
    if torch.cuda.is_available():
        given = os.environ.get(CUBLAS)
        if given is None and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            logger.warning("%s is set too late: seed before the first use of the GPU", CUBLAS)
    os.environ.setdefault(CUBLAS, CUBLAS_DETERMINISTIC)
    torch.use_deterministic_algorithms(mode=True)
    torch.backends.cudnn.benchmark = False
