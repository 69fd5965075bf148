"""What usually helps, for the failures whose text says little to a newcomer."""

from __future__ import annotations

import re
import signal

MEMORY = (
    "the host's memory ran out: use a larger instance, smaller batches or fewer data-loader workers"
)
SHARED_MEMORY = "shared memory is too small: docker run --shm-size=2g"
TEXTS = (
    (r"CUDA out of memory|OutOfMemoryError", "GPU memory ran out: use smaller batches or bf16"),
    (r"\bMemoryError\b|Cannot allocate memory", MEMORY),
    (r"No space left on device", "the disk is full: raise VolumeSizeInGB, keep fewer checkpoints"),
    (
        r"\b(?:ModuleNotFoundError|ImportError)\b",
        "the image lacks it: install it when the image is built",
    ),
    (r"bus error|insufficient shared memory", SHARED_MEMORY),
    (r"Read-only file system", "write to /opt/ml/model, /opt/ml/output/data or /tmp"),
)
SIGNALS = {
    signal.SIGKILL: "killed from outside, which is often the host running out of memory",
    signal.SIGBUS: f"often {SHARED_MEMORY}",
    signal.SIGILL: "a library was built for another CPU than this instance has",
    signal.SIGSEGV: "a crash in compiled code; PYTHONFAULTHANDLER=1 shows where",
}
EXITS = {126: "it is not executable", 127: "a command was not found"}


def hint_for_text(text: str) -> str | None:
    for pattern, hint in TEXTS:
        if re.search(pattern, text):
            return hint
    return None


def hint_for_end(returncode: int) -> str | None:
    if returncode < 0:
        return SIGNALS.get(signal.Signals(-returncode))
    return EXITS.get(returncode)
