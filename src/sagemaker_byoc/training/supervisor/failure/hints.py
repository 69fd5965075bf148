"""The class of a failure and what usually helps, for texts that say little to a newcomer."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Mapping
from typing import NamedTuple

from sagemaker_byoc.contract.lifecycle import SIGNAL_BASE
from sagemaker_byoc.contract.variables import HANG_SECONDS, INSTALLER

MEMORY = "host out of memory: use a larger instance, smaller batches or fewer data-loader workers"
SHARED_MEMORY = "shared memory is too small: docker run --shm-size=2g"
MISSING_DATA = "missing data"
LIBRARIES = {
    "libGL.so.1": "libgl1",
    "libgomp.so.1": "libgomp1",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libgthread-2.0.so.0": "libglib2.0-0",
    "libsndfile.so.1": "libsndfile1",
    "libxcb.so.1": "libxcb1",
    "libSM.so.6": "libsm6",
    "libXext.so.6": "libxext6",
}
"""Debian packages of system libraries that Python packages need but do not bring."""


class Hint(NamedTuple):
    """What usually helps if a program's output matches a pattern."""

    pattern: str
    in_image: str
    on_host: str = ""
    """The hint for a program that runs on a host, if it differs."""


IMPORT_ERROR = r"\b(?:ModuleNotFoundError|ImportError)\b"
KILLED = "hint: killed from outside, which is often the host running out of memory"
TEXTS = (
    Hint(
        r"CUDA out of memory|OutOfMemoryError|CUBLAS_STATUS_ALLOC_FAILED",
        "CUDA out of memory: use smaller batches, bf16 or activation checkpointing",
    ),
    Hint(
        r"(?i)bus error|insufficient shared memory|unable to (?:open|allocate) shared memory",
        SHARED_MEMORY,
    ),
    Hint(
        r"\bMemoryError\b|Cannot allocate memory|DataLoader worker .* killed by signal: K", MEMORY
    ),
    Hint(
        r"No space left on device|Disk quota exceeded|ENOSPC",
        "disk full: raise VolumeSizeInGB, keep fewer checkpoints",
        "disk full: free some of it, keep fewer checkpoints",
    ),
    Hint(
        r"Too many open files",
        "hint: too many open files: fewer data-loader workers, or "
        "torch.multiprocessing.set_sharing_strategy('file_system')",
    ),
    Hint(
        r"(?i)no working C\+\+ compiler|failed to find C(?:\+\+)? compiler"
        r"|command '?\S*(?:gcc|g\+\+|cc)'? failed|InvalidCxxCompiler"
        r"|No such file or directory: '(?:\S*[/-])?(?:gcc|g\+\+|cc)'"
        r"|(?:gcc|g\+\+|cc): (?:command )?not found|unable to find .*compiler",
        "compiler missing: build the image with PACKAGES=g++ (docker build --build-arg), or do "
        "without torch.compile",
        "compiler missing: install g++ on this machine, or do without torch.compile",
    ),
    Hint(
        r"CUDA_HOME environment variable is not set|nvcc: (?:command )?not found"
        r"|No such file or directory: '\S*nvcc'",
        "CUDA's compiler is missing: install a prebuilt wheel, or build it on a machine with nvcc",
    ),
    Hint(
        r"fatal error: Python\.h|Python\.h: No such file",
        "Python's headers are missing: build the image with PACKAGES='g++ python3-dev'",
        "Python's headers are missing: install g++ and python3-dev on this machine",
    ),
    Hint(
        r"Cannot find command 'git'|Bad git executable|No such file or directory: 'git'"
        r"|git: (?:command )?not found",
        "git is missing: build the image with PACKAGES=git",
        "git is missing: install it on this machine",
    ),
    Hint(
        r"version `GLIBC(?:XX)?_[\d.]+' not found",
        "hint: a library was built for a newer system than the image's: take a wheel for "
        "manylinux_2_28 or older, or a newer base image",
        "hint: a library was built for a newer system: take a wheel for manylinux_2_28 or older",
    ),
    Hint(
        r"NVIDIA driver on your system is too old|CUDA driver version is insufficient"
        r"|forward compatibility was attempted|CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
        "driver too old: build the image for an older CUDA, or take a newer instance type",
        "driver too old: install torch for an older CUDA, or a newer driver",
    ),
    Hint(
        r"no kernel image is available|sm_\d+ is not compatible",
        "hint: this torch was not built for this GPU: take a build for its architecture, or "
        "another instance type",
    ),
    Hint(
        r"Found no NVIDIA driver|No CUDA GPUs are available|Torch not compiled with CUDA"
        r"|invalid device ordinal|NoCudaRuntime",
        "no GPU: take an instance type that has one, and the CUDA build of the image",
        "no GPU: this machine has none, or torch is a build for the CPU",
    ),
    Hint(
        r"device-side assert",
        "hint: often an index out of range; CUDA_LAUNCH_BLOCKING=1 shows the line",
    ),
    Hint(
        r"(?i)address already in use|EADDRINUSE",
        "hint: the port is taken: use MASTER_PORT as it is set, and start one launcher per host",
    ),
    Hint(
        r"(?i)collective operation timeout|nccl.{0,80}tim(?:ed? ?out|eout)",
        f"NCCL timeout: a rank did not come to a collective; {HANG_SECONDS} shows all stacks",
    ),
    Hint(
        r"Duplicate GPU detected",
        "hint: two ranks use one GPU: call torch.cuda.set_device(LOCAL_RANK) before the first "
        "collective",
    ),
    Hint(
        r"GatedRepoError|gated repo|(?:401|403) Client Error|RepositoryNotFoundError",
        "no access: give HF_TOKEN as a variable of the job, and accept the model's terms; or "
        "send the model as a channel",
    ),
    Hint(
        r"OfflineModeIsEnabled|LocalEntryNotFoundError|couldn't connect to 'https?://huggingface"
        r"|outgoing traffic has been disabled",
        "no network: send the model or data as a channel, or bake it into the image",
        "no network: give the model or data as a channel",
    ),
    Hint(
        r"(?i)temporary failure in name resolution|name or service not known"
        r"|network is unreachable|failed to establish a new connection|NameResolutionError"
        r"|Could not connect to the endpoint|max retries exceeded with url",
        "no network: the job is isolated, or its subnet has no NAT gateway or endpoint; "
        "send data as a channel",
    ),
    Hint(
        r"NoCredentialsError|Unable to locate credentials|AccessDenied",
        "no access: give the job's role the permission that is named here",
    ),
    Hint(
        r"compiled using NumPy 1\.x|numpy\.\w+ size changed",
        "hint: a package was built for another numpy: take a newer one, or numpy<2 in the image",
        "hint: a package was built for another numpy: take a newer one, or numpy<2",
    ),
    Hint(
        r"current process has finished its bootstrapping phase",
        'hint: put what starts the program below `if __name__ == "__main__":`',
    ),
    Hint(
        r"attempted relative import",
        "hint: run it as a module: put it into a package folder and set sagemaker_program to "
        "'-m package.module'; or import without the dot",
    ),
    Hint(
        r"(?:cannot execute: required file not found|bad interpreter|env: .*\\r)",
        "hint: the first line (#!) of that script names an interpreter that is not here, or "
        "ends with a carriage return",
    ),
    Hint(
        IMPORT_ERROR,
        "import error: the image lacks it, or has another version; name it in requirements.txt",
        "import error: another version of the package is installed, or a part of it is missing",
    ),
    Hint(
        r"error: (?:argument |unrecognized arg|the following arg|ambiguous op|Parser key)"
        r"|HyperparameterError|No such option|Invalid value for|Missing (?:option|argument)"
        r"|Got unexpected extra argument|Could not consume arg|Could not override '",
        "bad hyperparameter: correct it in the job's hyperparameters",
    ),
    Hint(r"ended by SIGKILL|with signal SIGKILL|died with <Signals\.SIGKILL", KILLED),
    Hint(r"Read-only file system", "hint: write to /opt/ml/model, /opt/ml/output/data or /tmp"),
    Hint(
        r"PermissionError|Permission denied",
        "hint: write to /opt/ml/model, /opt/ml/output/data or /tmp; a program needs its x bit",
    ),
)
SIGNALS: dict[int, str] = {
    signal.SIGKILL: KILLED,
    signal.SIGBUS: f"hint: often {SHARED_MEMORY}",
    signal.SIGILL: "hint: a library was built for another CPU than this instance has",
    signal.SIGSEGV: "hint: a crash in compiled code; PYTHONFAULTHANDLER=1 shows where",
}
EXITS = {126: "hint: it is not executable", 127: "hint: a command was not found"}


def hint_for_text(text: str, environ: Mapping[str, str] = os.environ) -> str | None:
    """Return what usually helps; `environ` says if the program runs in an image or on a host."""
    on_host = bool(environ.get(INSTALLER))
    library = re.search(r"(lib\S+\.so[.\d]*): cannot open shared object", text)
    if library:
        return _hint_for_library(library[1], on_host=on_host)
    found = next((hint for hint in TEXTS if re.search(hint.pattern, text)), None)
    if found is None:
        return None
    if found.pattern == IMPORT_ERROR and (hint := _hint_for_module(text, environ)):
        return hint
    return (on_host and found.on_host) or found.in_image


def _hint_for_module(text: str, environ: Mapping[str, str]) -> str:
    """Return the hint for a module that is missing as a whole; "" for other import errors."""
    module = re.search(r"No module named '?([\w.]+)", text)
    if module is None:
        return ""
    # Few jobs fail like this; the others need not import importlib.metadata.
    from sagemaker_byoc.contract.installation import hint_for_module  # noqa: PLC0415

    return f"import error: {hint_for_module(module[1], environ)}"


def _hint_for_library(name: str, *, on_host: bool) -> str:
    package = LIBRARIES.get(name)
    if on_host:
        which = f"Debian's package {package}" if package else "the package that has it"
        return f"{name} is missing: install {which} on this machine"
    how = f"PACKAGES={package}" if package else "PACKAGES and the Debian package that has it"
    return f"{name} is missing: build the image with {how}"


def hint_for_end(returncode: int) -> str | None:
    """Return the hint for a signal, of the program or of one of its commands, or an exit code."""
    number = -returncode if returncode < 0 else returncode - SIGNAL_BASE
    return EXITS.get(returncode) or SIGNALS.get(number)
