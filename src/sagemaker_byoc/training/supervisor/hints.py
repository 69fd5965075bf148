"""The class of a failure and what usually helps, where its own text says little to a newcomer."""

from __future__ import annotations

import re
import signal

MEMORY = "host out of memory: use a larger instance, smaller batches or fewer data-loader workers"
SHARED_MEMORY = "shared memory is too small: docker run --shm-size=2g"
MISSING_DATA = "missing data"
TEXTS = (
    (
        r"CUDA out of memory|OutOfMemoryError|CUBLAS_STATUS_ALLOC_FAILED",
        "CUDA out of memory: use smaller batches, bf16 or activation checkpointing",
    ),
    (r"\bMemoryError\b|Cannot allocate memory|DataLoader worker .* killed by signal: K", MEMORY),
    (
        r"No space left on device|Disk quota exceeded",
        "disk full: raise VolumeSizeInGB, keep fewer checkpoints",
    ),
    (
        r"\b(?:ModuleNotFoundError|ImportError)\b",
        "import error: the image lacks it; install it when the image is built",
    ),
    (
        r"(?i)collective operation timeout|nccl.{0,80}tim(?:ed? ?out|eout)",
        "NCCL timeout: a rank did not come to a collective; BYOC_HANG_SECONDS shows all stacks",
    ),
    (
        r"error: (?:argument |unrecognized arg|the following arg|ambiguous op)|HyperparameterError",
        "bad hyperparameter: correct it in the job's hyperparameters",
    ),
    (r"(?i)bus error|insufficient shared memory", SHARED_MEMORY),
    (r"Read-only file system", "hint: write to /opt/ml/model, /opt/ml/output/data or /tmp"),
)
SIGNALS = {
    signal.SIGKILL: "hint: killed from outside, which is often the host running out of memory",
    signal.SIGBUS: f"hint: often {SHARED_MEMORY}",
    signal.SIGILL: "hint: a library was built for another CPU than this instance has",
    signal.SIGSEGV: "hint: a crash in compiled code; PYTHONFAULTHANDLER=1 shows where",
}
EXITS = {126: "hint: it is not executable", 127: "hint: a command was not found"}


def hint_for_text(text: str) -> str | None:
    for pattern, hint in TEXTS:
        if re.search(pattern, text):
            return hint
    return None


def hint_for_end(returncode: int) -> str | None:
    if returncode < 0:
        return SIGNALS.get(signal.Signals(-returncode))
    return EXITS.get(returncode)
