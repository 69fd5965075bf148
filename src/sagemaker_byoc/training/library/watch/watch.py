"""The watch itself: a hook after each optimizer step, which at most steps only counts."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.hooks import RemovableHandle

from sagemaker_byoc.contract.failure import write_failure
from sagemaker_byoc.training.library.profiling import Profile
from sagemaker_byoc.training.library.ranks import global_rank
from sagemaker_byoc.training.library.watch.backward import WINDOW, Losses
from sagemaker_byoc.training.library.watch.finding import Finding
from sagemaker_byoc.training.library.watch.followed import Followed
from sagemaker_byoc.training.library.watch.history import History
from sagemaker_byoc.training.library.watch.journal import Journal, say_to_log
from sagemaker_byoc.training.library.watch.page import write_page
from sagemaker_byoc.training.library.watch.panel import Panel
from sagemaker_byoc.training.library.watch.rules.base import EVAL, WEIGHTS, Loss, Reading
from sagemaker_byoc.training.library.watch.rules.tensors import loss_stats
from sagemaker_byoc.training.library.watch.settings import STOP, WatchSettings
from sagemaker_byoc.training.library.watch.system import Sampler, SystemLines
from sagemaker_byoc.training.library.watch.uncompiled import uncompiled

PAGE_SECONDS = 30.0
"""Between two writings of the page while nothing new is found."""


class WatchStop(RuntimeError):  # noqa: N818 - it is no error of the program's
    """A rule fired, and the job had asked to be stopped then."""


class Watch:
    """Attached from the moment it is made until `close`; there is one in a process.

    On rank 0 all rules are judged; on other ranks only ExplodingTensor, on their own tensors.
    `on_stop` is called before a stop, for a last checkpoint.
    """

    def __init__(
        self, settings: WatchSettings, *, on_stop: Callable[[], None] | None = None
    ) -> None:
        self.settings = settings
        self.panel = Panel(settings.rules)
        self.history = History()
        self.on_stop = on_stop
        self.journal = Journal(settings.folder / "findings.jsonl", webhook=settings.webhook)
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._followed: weakref.WeakKeyDictionary[Optimizer, Followed] = weakref.WeakKeyDictionary()
        self._roots: list[weakref.ref[nn.Module]] = []
        self._step = 0
        self._sampler: Sampler | None = None
        self._profile: Profile | None = None
        self._stop: Finding | None = None
        self._page_at = 0.0
        self._losses = Losses()
        self._losses.install()
        self._handle: RemovableHandle | None = register_optimizer_step_post_hook(self._hook())
        atexit.register(self.close)

    @property
    def findings(self) -> Sequence[Finding]:
        """Each rule and tensor once, in the order that they were found."""
        return tuple(self.journal.kept)

    @property
    def page(self) -> Path:
        return self.settings.folder / "report.html"

    def model(self, model: nn.Module) -> None:
        """Names parameters and finds activation layers from the first step on."""
        self._roots.append(weakref.ref(model))

    def loss(self, value: float | Tensor, *, mode: str = EVAL, step: int | None = None) -> None:
        """A loss that no backward pass shows: mode `eval` of a validation."""
        at = self._step if step is None else step
        self._on_loss(Loss(at, float(value), mode))

    def predictions(
        self,
        labels: npt.ArrayLike | Tensor,
        predictions: npt.ArrayLike | Tensor,
        *,
        step: int | None = None,
    ) -> None:
        """Class labels, and predicted classes or their scores, for ClassImbalance and Confusion."""
        truth, guess = _on_host(labels), _on_host(predictions)
        if guess.ndim > truth.ndim:
            guess = guess.argmax(axis=-1)
        at = self._step if step is None else step
        with self._lock:
            self._add(
                self.panel.predictions(
                    at, truth.reshape(-1).astype(np.int64), guess.reshape(-1).astype(np.int64)
                )
            )

    def close(self) -> None:
        """Detach, and write the page."""
        atexit.unregister(self.close)
        if self._handle is None or os.getpid() != self._process:  # a fork has no threads of ours
            return
        self._handle.remove()
        self._handle = None
        self._losses.remove()
        for followed in self._followed.values():
            followed.close()
        if self._sampler:
            self._sampler.close()
        if self._profile:
            self._profile.close()
        self.journal.close()
        if self._step and global_rank() == 0:
            self._write_page()

    def _hook(self) -> Callable[[Optimizer, tuple[Any, ...], dict[str, Any]], None]:
        """A plain function: a compiled optimizer step must be told to leave it alone."""
        begin, look = uncompiled(self._begin), uncompiled(self._look)

        def byoc_watch(
            optimizer: Optimizer, _arguments: tuple[Any, ...], _keywords: dict[str, Any]
        ) -> None:
            followed = self._followed.get(optimizer)
            if followed is None:
                followed = begin(optimizer)
            if followed.count():
                look(followed)
            if self._profile:
                self._profile.step(followed.step + 1)

        byoc_watch._torchdynamo_disable = True  # type: ignore[attr-defined]  # noqa: SLF001
        return byoc_watch

    def _begin(self, optimizer: Optimizer) -> Followed:
        number = len(self._followed)
        followed = Followed(optimizer, self.settings, self.panel, number, self._roots)
        self._followed[optimizer] = followed
        if number == 0:
            self._first_step()
        return followed

    def _first_step(self) -> None:
        if global_rank():
            self.panel.keep_only("ExplodingTensor")
            self.journal = Journal(
                self.settings.folder / f"findings-rank-{global_rank()}.jsonl",
                webhook=self.settings.webhook,
            )
        else:
            count, every = len(self.panel.rules), self.settings.save_interval
            # To stdout: the last line on stderr is taken for the reason of a failure.
            say_to_log(f"{count} rules, one look in {every}; {self.page}", sys.stdout)
        self._add(self.panel.first_step(_process_minutes()))
        profiler = self.settings.profiler
        if os.environ.get("LOCAL_RANK", "0") == "0" and not profiler.is_disabled:
            folder = self.settings.system_folder
            lines = SystemLines(folder, self.settings.node) if folder else None
            self._sampler = Sampler(self._on_reading, lines, interval_ms=profiler.interval_ms)
        if profiler.start_step is not None and not profiler.is_disabled:
            first = max(1, profiler.start_step)
            folder = self.settings.system_folder or self.settings.folder
            self._profile = Profile(
                f"{first}:{first + profiler.steps}", folder=folder / "framework"
            )

    def _look(self, followed: Followed) -> None:
        """At a step that is due, and at the one before it."""
        if followed.is_due:
            with self._lock:
                self._step = followed.step
                self._judge(followed)
        followed.prepare_next()
        self._losses.is_open = followed.number == 0 and followed.steps_to_go <= WINDOW
        if self._stop:
            stop, self._stop = self._stop, None
            self._end(stop)

    def _judge(self, followed: Followed) -> None:
        step = followed.step
        tensors, updates, activations = followed.look()
        self.history.gradients.add(
            (step, {s.name: s.mean_abs for s in tensors if s.collection is not WEIGHTS})
        )
        self.history.updates.add((step, updates))
        loss = self._losses.take(step) if followed.number == 0 else None
        if loss is not None:
            tensors.append(loss_stats(loss.value))
            self._on_loss(loss)
        found = self.panel.tensors(step, tensors)
        found += self.panel.updates(step, updates)
        found += self.panel.activations(step, activations)
        found += self.panel.times(step, followed.take_times())
        self._add(found)
        if global_rank() == 0 and time.monotonic() - self._page_at > PAGE_SECONDS:
            self._write_page()

    def _on_loss(self, seen: Loss) -> None:
        with self._lock:
            self.history.loss(seen)
            self._add(self.panel.loss(seen))

    def _on_reading(self, reading: Reading) -> None:
        """On the sampler's thread."""
        with self._lock:
            self.history.readings.add(reading)
            self._add(self.panel.reading(self._step, reading))
            last = max(
                (one.last_step_at for one in self._followed.values()), default=time.monotonic()
            )
            for finding in self._add(self.panel.silence(self._step, time.monotonic() - last)):
                if self.panel.stops_when_stalled:
                    self._stop = finding
                    self._leave_reason(finding)
                    os.kill(os.getpid(), 15)

    def _add(self, findings: Iterable[Finding]) -> list[Finding]:
        new = self.journal.add(findings)
        if new and self.settings.action == STOP and self._stop is None:
            # The system's rules advise; a training that is slow is still a training.
            self._stop = next((one for one in new if self.panel.may_stop(one.rule)), None)
        if new and global_rank() == 0:
            self._write_page()
        return new

    def _end(self, finding: Finding) -> None:
        say_to_log(f"stopping the training because of {finding.rule}")
        if self.on_stop:
            self.on_stop()
        self._leave_reason(finding)
        raise WatchStop(finding.sentence())

    def _leave_reason(self, finding: Finding) -> None:
        if self.settings.failure is not None:
            try:
                write_failure(self.settings.failure, f"WatchStop: {finding.sentence()}")
            except OSError as error:
                say_to_log(f"the failure file can't be written: {error.strerror}")

    def _write_page(self) -> None:
        self._page_at = time.monotonic()
        try:
            write_page(self.page, self.panel, self.journal, self.history, self._about())
        except OSError as error:
            say_to_log(f"{self.page} can't be written: {error.strerror}")

    def _about(self) -> str:
        name = self.settings.name or f"process {self._process}"
        steps = max((one.step for one in self._followed.values()), default=-1) + 1
        return f"{name}: {steps:,} steps, one in {self.settings.save_interval} looked at"


def _on_host(values: npt.ArrayLike | Tensor) -> npt.NDArray[Any]:
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)


def _process_minutes() -> float:
    """Since this process was started; 0 where the system does not say, and in a notebook, whose
    process begins long before a training does."""
    if hasattr(sys, "ps1"):
        return 0.0
    try:
        with open("/proc/self/stat", encoding="ascii", errors="replace") as file:
            started = int(file.read().rpartition(")")[2].split()[19])
        with open("/proc/uptime", encoding="ascii") as file:
            uptime = float(file.read().split()[0])
    except (OSError, ValueError, IndexError):
        return 0.0
    return max(0.0, uptime - started / os.sysconf("SC_CLK_TCK")) / 60
