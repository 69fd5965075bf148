"""The settings of a training job, read from the two places where they can be given.

Each is a variable of the container, BYOC_X, or a hyperparameter of the job, sagemaker_byoc_x. The
hyperparameter wins, as it does for sagemaker_program: it was given for this one job.
"""

from __future__ import annotations

from collections.abc import Mapping

from sagemaker_byoc.contract import variables
from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.contract.training.hyperparameters import Hyperparameters
from sagemaker_byoc.contract.variables import NPROC, TORCHRUN_ARGS

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
OWN_PREFIX = f"{HYPERPARAMETER_PREFIX}byoc_"
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

    def misspelt(self) -> list[str]:
        """Return a line for each variable and each hyperparameter that looks misspelt."""
        keys = {key.removeprefix(HYPERPARAMETER_PREFIX).upper(): key for key in self._own_keys()}
        return variables.warnings(self.environ, variables.TRAIN) + [
            f"hyperparameter {keys[name]} is not known; did you mean "
            f"{HYPERPARAMETER_PREFIX}{meant.lower()}?"
            for name, meant in variables.misspelt(keys, variables.TRAIN).items()
        ]

    def _own_keys(self) -> list[str]:
        return [key for key in self._hyperparameters.raw if key.startswith(OWN_PREFIX)]

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
