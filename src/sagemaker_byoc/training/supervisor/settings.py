"""The supervisor's own settings, named in this one place.

Each is a variable of the container, BYOC_X, or a hyperparameter of the job, sagemaker_byoc_x. The
hyperparameter wins, as it does for sagemaker_program: it was given for this one job.
"""

from __future__ import annotations

from collections.abc import Mapping

from sagemaker_byoc.contract import gpu
from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.contract.training.hyperparameters import Hyperparameters

STOP_GRACE = "BYOC_STOP_GRACE"
"""Seconds from a stop signal until the program is killed, for where SageMaker's 120 don't hold."""
NPROC = "BYOC_NPROC"
"""Processes on each host: a number, or `gpu` for one per GPU. Without it one plain process."""
TORCHRUN_ARGS = "BYOC_TORCHRUN_ARGS"
"""Options for torchrun, which then starts the processes instead of us."""
CONTROL_PORT = "BYOC_CONTROL_PORT"
"""Where the supervisors of several hosts talk to the first one; else MASTER_PORT + 1."""
DNS_SECONDS = "BYOC_DNS_SECONDS"
"""How long the other hosts may take to appear; 0 does not wait for their names."""
LOST_SECONDS = "BYOC_LOST_SECONDS"
"""A host that was silent for this long has vanished."""
HANG_SECONDS = "BYOC_HANG_SECONDS"
"""Without progress for this long the job is ended; unset, it never is."""
INSTALL_REQUIREMENTS = "BYOC_INSTALL_REQUIREMENTS"
"""1: install the program's requirements.txt at the start."""
REPLACE = "BYOC_REPLACE"
"""Packages of the image that these may replace: names such as torch, or `all`."""
ALLOW_CPU = gpu.ALLOW_CPU
"""1: run although GPUs of the host can't be used."""
WATCH = "BYOC_WATCH"
"""1, rules by name, or an object of the watch's settings: watch the training for its diseases."""
PROGRESS_FILE = "BYOC_PROGRESS_FILE"
"""Set for the program: a file whose modification time it may renew at each step."""

# Of others, that ask for several processes a host or for something that we don't have:
ENABLED = ("sagemaker_torch_distributed_enabled", "sagemaker_pytorch_ddp_enabled")
UNSUPPORTED = (
    "sagemaker_mpi_enabled",
    "sagemaker_distributed_dataparallel_enabled",
    "sagemaker_pytorch_xla_multi_worker_enabled",
)
PET_NPROC = "PET_NPROC_PER_NODE"
"""Torchrun's own variable for --nproc-per-node; Kubernetes operators set it."""
PET_RENDEZVOUS = "PET_RDZV_ENDPOINT"
"""Where torchrun finds the hosts of an elastic job."""

HYPERPARAMETER_PREFIX = "sagemaker_"
NO = frozenset({"", "0", "false", "no", "off"})


class Settings:
    """What was set, by whichever of the two ways."""

    def __init__(self, hyperparameters: Hyperparameters, environ: Mapping[str, str]) -> None:
        self._hyperparameters = hyperparameters
        self.environ = environ

    def text(self, name: str) -> str | None:
        key = HYPERPARAMETER_PREFIX + name.lower()
        return self._hyperparameters.text(key) or self.environ.get(name) or None

    def flag(self, name: str) -> bool:
        return (self.text(name) or "").strip().lower() not in NO

    def seconds(self, name: str, default: float) -> float:
        text = self.text(name)
        if text is None:
            return default
        try:
            seconds = float(text)
        except ValueError:
            seconds = -1.0
        if not 0 <= seconds < float("inf"):
            raise ContractError(
                where=name, what=f"is {text!r}", hint="Give a number of seconds, such as 110"
            )
        return seconds

    def port(self, name: str, default: int) -> int:
        text = self.text(name)
        if text is None:
            return default
        if not text.isdecimal() or not 0 < int(text) < 65536:
            raise ContractError(where=name, what=f"is {text!r}", hint="Give a port, 1 to 65535")
        return int(text)

    @property
    def asks_for_ranks(self) -> bool:
        """Whether the job wants more than one plain process a host."""
        return (
            any(map(self.text, (NPROC, TORCHRUN_ARGS)))
            or any(map(self.environ.get, (PET_NPROC, PET_RENDEZVOUS)))
            or any(map(self.is_enabled, (*ENABLED, *UNSUPPORTED)))
        )

    def is_enabled(self, hyperparameter: str) -> bool:
        """A switch of the SageMaker SDK, such as sagemaker_torch_distributed_enabled."""
        return (self._hyperparameters.text(hyperparameter) or "").lower() == "true"
