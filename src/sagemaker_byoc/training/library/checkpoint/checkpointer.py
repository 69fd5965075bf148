"""The Checkpointer: what a checkpoint holds, when to save, and from which checkpoint to resume.

For user scripts, in one plain process and under DDP or FSDP2 alike; docs/decisions/0008.
"""

from __future__ import annotations

import io
import logging
import os
import random
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions
from torch.distributed.checkpoint.state_dict import (
    get_model_state_dict,
    get_state_dict,
    set_model_state_dict,
    set_state_dict,
)
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.stateful import Stateful
from torch.optim import Optimizer

from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.training.library.checkpoint import storage
from sagemaker_byoc.training.library.checkpoint.storage import CheckpointError, Marker, Snapshot
from sagemaker_byoc.training.library.outputs import make_folder
from sagemaker_byoc.training.library.ranks import Progress, Ranks, StopFlag


@dataclass(kw_only=True, slots=True)
class TrainingState:
    """The objects of a training program whose state is saved."""

    model: nn.Module
    optimizers: tuple[Optimizer, ...] = ()
    parts: Mapping[str, Stateful] = field(default_factory=dict)
    """Further objects with state_dict and load_state_dict, by name, such as the scheduler."""
    user: dict[str, Any] = field(default_factory=dict)

    def shared(self) -> dict[str, Any]:
        """Return references to all tensors, by names valid at any world size; a collective."""
        if not self.optimizers:
            return {"model": get_model_state_dict(self.model)}
        model, optimizer = get_state_dict(self.model, self.optimizers)
        return {"model": model, "optimizer": optimizer}

    def load_shared(self, state: Mapping[str, Any]) -> None:
        """Load what `shared` returned, after its tensors were filled; a collective."""
        if not self.optimizers:
            set_model_state_dict(self.model, state["model"])
        else:
            set_state_dict(
                self.model,
                self.optimizers,
                model_state_dict=state["model"],
                optim_state_dict=state["optimizer"],
            )

    def own(self) -> bytes:
        """Return this rank's state, serialized at once, since the next step changes it."""
        state = {
            "random": random_state(),
            "parts": {name: part.state_dict() for name, part in self.parts.items()},
            "user": self.user,
        }
        buffer = io.BytesIO()
        torch.save(state, buffer)
        return buffer.getvalue()

    def load_own(self, data: bytes, *, is_same_rank: bool) -> None:
        """Load `data`; the random state only if the same rank wrote it."""
        state = loaded(data)
        for name, part in self.parts.items():
            if name in state["parts"]:
                part.load_state_dict(state["parts"][name])
        self.user.clear()
        self.user.update(state["user"])
        if is_same_rank:
            set_random_state(state["random"])


def loaded(data: bytes) -> Any:
    """Read what `own` wrote; raise CheckpointError if it holds more than data and tensors."""
    try:
        return torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    except Exception as error:
        first_line = str(error).strip().splitlines()[:1]
        raise CheckpointError(
            "the state of scheduler, data, others or user holds more than tensors and plain "
            f"values, which can't be read back without running code from the file: {first_line}"
        ) from error


def as_tuple(optimizer: Optimizer | Iterable[Optimizer] | None) -> tuple[Optimizer, ...]:
    if optimizer is None:
        return ()
    return (optimizer,) if isinstance(optimizer, Optimizer) else tuple(optimizer)


def random_state() -> dict[str, Any]:
    """Return the random state of Python, numpy if imported, torch, and the GPU if in use."""
    state: dict[str, Any] = {"python": random.getstate(), "torch": torch.get_rng_state()}
    if "numpy" in sys.modules:
        name, keys, *rest = sys.modules["numpy"].random.get_state()
        state["numpy"] = (name, [int(key) for key in keys], *rest)
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: Mapping[str, Any]) -> None:
    random.setstate(state["python"])
    torch.set_rng_state(state["torch"])
    if "numpy" in state and "numpy" in sys.modules:
        sys.modules["numpy"].random.set_state(state["numpy"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


logger = logging.getLogger(__name__)

LONG_WAIT_SECONDS = 1.0
"""A wait for an earlier save that is worth a warning."""


class Checkpointer:
    """Saves and restores a training. Every rank makes one at the same place, after its group.

    A save is due every `every_steps` steps, and `every_seconds` after the last by any rank's
    clock. `others` are further objects with state_dict and load_state_dict, by name; `user` is
    a dict of plain values. `folder` is /opt/ml/checkpoints by default.
    """

    def __init__(  # noqa: PLR0913 - each keyword is one thing that a script may have
        self,
        *,
        model: nn.Module,
        optimizer: Optimizer | Iterable[Optimizer] | None = None,
        scheduler: Stateful | None = None,
        data: Stateful | None = None,
        others: Mapping[str, Stateful] | None = None,
        every_steps: int | None = None,
        every_seconds: float | None = 600.0,
        keep: int = 2,
        folder: str | os.PathLike[str] | None = None,
        stop: StopFlag | None = None,
    ) -> None:
        if keep < 1 or (every_steps is not None and every_steps < 1):
            raise ValueError(f"keep={keep}, every_steps={every_steps}: at least 1")
        parts = {"scheduler": scheduler, "data": data, **(others or {})}
        self._state = TrainingState(
            model=model,
            optimizers=as_tuple(optimizer),
            parts={name: part for name, part in parts.items() if part is not None},
        )
        self._root = Path(folder) if folder else Tree.from_environ(os.environ).checkpoints
        self._every_steps, self._every_seconds, self._keep = every_steps, every_seconds, keep
        self._stop = stop
        self._owns_stop = stop is None
        self._stager = _stager(model)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None
        self._last_step = 0
        self._last_time = time.monotonic()
        self._good: list[int] = []
        self._has_saved = False
        self.blocked_ms = 0.0
        """How long `step` and `save` have kept the training waiting so far."""
        self.stopped = False
        """Whether the program was asked to end, and all ranks have agreed."""
        self._ranks = Ranks()
        self._progress = Progress()
        _silence_dcp_outside_a_group()
        make_folder(self._root)
        storage.delete_incomplete(self._root)
        self._ranks.wait()

    @property
    def user(self) -> dict[str, Any]:
        """The script's own plain values, saved and restored with the rest."""
        return self._state.user

    def steps(self, total: int) -> Iterator[int]:
        """Yield the numbers of the remaining steps, up to `total`; resume, save and stop.

        The loop's body is one step. After the loop the last step is saved and complete.
        """
        done = self.resume()
        self._flag()
        try:
            for number in range(done + 1, total + 1):
                yield number
                done = number
                if self.step(number):
                    return
            self.save(done)
        finally:
            self.close()

    def step(self, number: int) -> bool:
        """Call after each step. Return whether to leave the loop; then everything is saved."""
        self._raise_failure()
        self._progress.report()
        if self._flag().agreed(number, wish=self._is_time):
            self.stopped = True
            self.save(number)
            self.wait()
            return True
        if self._flag().wished or (self._every_steps and number % self._every_steps == 0):
            self.save(number)
        return False

    def save(self, number: int) -> None:
        """Snapshot the state after step `number`, and write it in the background; a collective.

        Wait while an earlier save is still being written. Do nothing if `number` is saved.
        """
        if number == self._last_step:
            return
        start = time.perf_counter()
        self.wait()
        if (waited := time.perf_counter() - start) > LONG_WAIT_SECONDS:
            logger.warning(
                "training waited %.1f s for checkpoint %d to be written before checkpoint %d: "
                "save less often, or to a faster disk",
                waited, self._last_step, number,
            )  # fmt: skip
        snapshot = self._snapshot(number)
        self._last_step, self._last_time = number, time.monotonic()
        self._writing = self._thread.submit(self._write, snapshot)
        self.blocked_ms += (time.perf_counter() - start) * 1e3

    @property
    def is_writing(self) -> bool:
        """Whether a save is running in the background."""
        return self._writing is not None and not self._writing.done()

    def wait(self) -> None:
        """Wait until the running save is complete; raise its error if it failed."""
        if self._writing:
            writing, self._writing = self._writing, None
            writing.result()

    def close(self) -> None:
        """Complete the running save, and restore SIGTERM; raise the save's error if it failed."""
        try:
            self.wait()
        finally:
            self._thread.shutdown()
            if self._stop and self._owns_stop:
                self._stop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def resume(self) -> int:
        """Load the newest valid checkpoint that every rank has. Return its step, 0 without one."""
        self.wait()
        found = self._newest_undamaged()
        if found is None:
            if storage.steps_in(self._root):
                logger.warning("no checkpoint in %s is valid: starting at step 0", self._root)
            return 0
        start = time.monotonic()
        self._load(found)
        self._last_step, self._last_time = found.step, time.monotonic()
        if self._ranks.rank == 0:
            took = time.monotonic() - start
            logger.info("resumed from checkpoint %d in %.1f s", found.step, took)
        return found.step

    def _newest_undamaged(self) -> Marker | None:
        valid = storage.valid_markers(self._root)
        while (step := self._newest_of_all(valid)) is not None:
            folder = storage.complete_folder(self._root, step)
            reasons = self._ranks.gather(storage.damage(folder, valid[step], share=_share()))
            reason = next((text for text in reasons if text), None)
            if reason is None:
                self._good = [other for other in valid if other <= step]
                return valid[step]
            logger.warning("skipping the checkpoint %s: %s", folder, reason)
            del valid[step]
        return None

    def _newest_of_all(self, valid: Mapping[int, Marker]) -> int | None:
        """Return the newest step that all ranks have: hosts may have restored different sets."""
        own = {step: marker.id for step, marker in valid.items()}
        sets = self._ranks.gather(own)
        common = set.intersection(*(set(each.items()) for each in sets))
        newest = max((step for step, _ in common), default=None)
        if own and newest != max(own):
            logger.warning("checkpoint %d is not valid on every host", max(own))
        return newest

    def _load(self, marker: Marker) -> None:
        folder = storage.complete_folder(self._root, marker.step)
        shared = self._state.shared()
        try:
            load(
                shared,
                storage_reader=storage.Reader(folder),
                planner=storage.LoadPlanner(),
                process_group=self._ranks.group,
            )
        except CheckpointException as error:
            # Not an older one: it would not fit the program any better.
            raise CheckpointError(
                f"{folder} is intact but does not fit model and optimizer: {storage.causes(error)}"
            ) from error
        self._state.load_shared(shared)
        rank = self._ranks.rank
        is_same_world = marker.world_size == self._ranks.count
        if not is_same_world and rank == 0:
            logger.warning(
                "checkpoint %d was written by %d ranks, and now there are %d: scheduler, data, "
                "others and user are rank 0's on every rank",
                marker.step, marker.world_size, self._ranks.count,
            )  # fmt: skip
        data = (folder / storage.own_file(rank if is_same_world else 0)).read_bytes()
        self._state.load_own(data, is_same_rank=is_same_world or rank == 0)

    def _snapshot(self, number: int) -> Snapshot:
        own = self._state.own()
        if not self._has_saved:  # an error now is better than when it is needed
            loaded(own)
            self._has_saved = True
        return Snapshot(number, self._stager.stage(self._state.shared()), own)  # type: ignore[arg-type]

    def _write(self, snapshot: Snapshot) -> None:
        storage.write(self._root, snapshot, self._ranks)
        self._good = storage.retain(self._root, snapshot.step, self._good, self._keep)

    def _raise_failure(self) -> None:
        if self._writing and self._writing.done():
            self.wait()

    def _is_time(self) -> bool:
        return (
            self._every_seconds is not None
            and time.monotonic() - self._last_time >= self._every_seconds
        )

    def _flag(self) -> StopFlag:
        # Not in __init__: SIGTERM must still end a script that never calls step().
        if self._stop is None:
            self._stop = StopFlag()
        return self._stop


def _stager(model: nn.Module) -> DefaultStager:
    """Return DCP's copier into host memory, which is reused, and page-locked for CUDA tensors."""
    is_cuda = any(parameter.is_cuda for parameter in model.parameters())
    return DefaultStager(
        StagingOptions(
            use_pinned_memory=is_cuda,
            use_shared_memory=False,  # the writer is a thread
            use_async_staging=False,  # the next optimizer step would race with the copy
            use_non_blocking_copy=is_cuda,
        )
    )


def _share() -> tuple[int, int]:
    """Return which part of its host's files this rank reads again, and the number of parts."""
    names = ("LOCAL_RANK", "LOCAL_WORLD_SIZE")
    if not (torch.distributed.is_initialized() and all(name in os.environ for name in names)):
        return 0, 1
    return int(os.environ[names[0]]), int(os.environ[names[1]])


def _silence_dcp_outside_a_group() -> None:
    """Hide DCP's warning at each save that there is no process group: one process needs none."""
    warnings.filterwarnings(
        "ignore", message="torch.distributed is disabled, unavailable or uninitialized"
    )


__all__ = ["CheckpointError", "Checkpointer"]
