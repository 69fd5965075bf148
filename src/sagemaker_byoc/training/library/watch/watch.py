"""The watch: a hook after each optimizer step, which only counts at most steps."""

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

import numpy.typing as npt
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.hooks import RemovableHandle

from sagemaker_byoc.contract.errors import MachineError
from sagemaker_byoc.contract.lifecycle import write_failure
from sagemaker_byoc.training.library.profiling import Profile
from sagemaker_byoc.training.library.ranks import global_rank
from sagemaker_byoc.training.library.watch.backward import WINDOW, Losses, uncompiled
from sagemaker_byoc.training.library.watch.classes import read_classes
from sagemaker_byoc.training.library.watch.followed import Followed
from sagemaker_byoc.training.library.watch.panel import VALIDATION, Panel
from sagemaker_byoc.training.library.watch.report import History, Journal, write_page
from sagemaker_byoc.training.library.watch.rules.base import (
    EVAL,
    WEIGHTS,
    Finding,
    Loss,
    Reading,
    say_to_log,
)
from sagemaker_byoc.training.library.watch.rules.tensors import loss_stats
from sagemaker_byoc.training.library.watch.settings import STOP, WatchSettings
from sagemaker_byoc.training.library.watch.system import Sampler, SystemLines

PAGE_SECONDS = 30.0
"""Between two writes of the page while nothing new is found."""
MOST_OPTIMIZERS = 64
"""Optimizers that are followed. A program may make one in each step."""
MOST_SAID = 20
"""Different messages about what could not be checked."""


class WatchStop(RuntimeError):  # noqa: N818 - it is not an error of the program
    """A rule fired, and the job asked to be stopped then."""


class Watch:
    """Follows all optimizers of a process, from its construction until `close`.

    Rank 0 applies all rules, other ranks only ExplodingTensor, each to its own tensors. `on_stop`
    is called before a stop, for a last checkpoint.
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
        self._ignored: weakref.WeakSet[Optimizer] = weakref.WeakSet()
        self._every: list[Followed] = []
        """All in the order of their numbers, including those whose optimizer no longer exists."""
        self._roots: list[weakref.ref[nn.Module]] = []
        self._step = 0
        self._said: set[str] = set()
        self._has_looked = False
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
        """The findings, each rule and tensor once, in their order."""
        return tuple(self.journal.kept)

    @property
    def page(self) -> Path:
        return self.settings.folder / "report.html"

    def model(self, model: nn.Module) -> None:
        """Take parameters' names and activation layers from `model`, from the first step on."""
        self._roots.append(weakref.ref(model))

    def loss(
        self,
        value: float | Tensor,
        *,
        mode: str = EVAL,
        step: int | None = None,
        optimizer: Optimizer | None = None,
    ) -> None:
        """Show a loss without a backward pass: with mode `eval` that of a validation.

        It is compared with the training loss of `optimizer`, by default of the only one.
        """
        try:
            number = float(value)
        except (TypeError, ValueError, RuntimeError):
            self._say_once(f"a loss must be one number, and not {value!r:.80}")
            return
        at = self._step if step is None else step
        self._on_loss(Loss(at, number, mode), self._compared(mode, optimizer))

    def predictions(  # noqa: PLR0913 - each keyword is what shapes alone may not tell
        self,
        labels: npt.ArrayLike | Tensor,
        predictions: npt.ArrayLike | Tensor,
        *,
        step: int | None = None,
        ignore_index: int = -100,
        threshold: float | None = None,
        class_axis: int | None = None,
    ) -> None:
        """Show labels, and predicted classes or their scores, to ClassImbalance and Confusion.

        `ignore_index` is a label that is left out; `threshold` the binary score from which a class
        is 1; `class_axis` the axis of the scores with an entry per class. What can't be read is
        logged once.
        """
        try:
            truth, guess = read_classes(labels, predictions, ignore_index, threshold, class_axis)
        except Exception as error:  # noqa: BLE001 - a watch never ends a training
            self._say_once(f"predictions are not judged: {error}")
            return
        at = self._step if step is None else step
        with self._lock:
            self._has_looked = True
            self._add(self.panel.predictions(at, truth, guess))

    def close(self) -> None:
        """Detach, and write the page."""
        atexit.unregister(self.close)
        if self._handle is None or os.getpid() != self._process:  # a fork does not have the threads
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
        if (self._every or self._has_looked) and global_rank() == 0:
            self._write_page()

    def _hook(self) -> Callable[[Optimizer, tuple[Any, ...], dict[str, Any]], None]:
        """Return a plain function, which compiled optimizer steps can leave uncompiled."""
        begin, look = uncompiled(self._begin), uncompiled(self._look)
        keep = uncompiled(self._losses.step)

        def byoc_watch(
            optimizer: Optimizer, _arguments: tuple[Any, ...], _keywords: dict[str, Any]
        ) -> None:
            followed = self._followed.get(optimizer)
            if followed is None:
                if optimizer in self._ignored:
                    return
                followed = begin(optimizer)
                if followed is None:
                    self._ignored.add(optimizer)
                    return
            if self._losses.is_open:
                keep(optimizer)
            if followed.count():
                look(followed)
            if self._profile:
                self._profile.step(followed.step + 1)

        byoc_watch._torchdynamo_disable = True  # type: ignore[attr-defined]  # noqa: SLF001
        return byoc_watch

    def _begin(self, optimizer: Optimizer) -> Followed | None:
        number = len(self._every)
        if number >= MOST_OPTIMIZERS:
            self._say_once(f"{number} optimizers are followed, and the others are not")
            return None
        if number and self._is_wrapper(optimizer):
            return None
        followed = Followed(optimizer, self.settings, self.panel, number, self._roots)
        self._followed[optimizer] = followed
        self._every.append(followed)
        if number == 0:
            self._first_step()
        return followed

    def _is_wrapper(self, optimizer: Optimizer) -> bool:
        """Return whether another optimizer with the same parameters has just made this step."""
        wanted = _identities(optimizer)
        return any(
            one.step == 0 and self._losses.is_newest(other) and _identities(other) == wanted
            for other, one in self._followed.items()
        )

    def _first_step(self) -> None:
        if global_rank():
            self.panel.keep_only("ExplodingTensor")
            self.journal = Journal(
                self.settings.folder / f"findings-rank-{global_rank()}.jsonl",
                webhook=self.settings.webhook,
            )
        else:
            count, every = len(self.panel.rules), self.settings.save_interval
            # To stdout: the last line on stderr counts as the reason of a failure.
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
        """Check a step that is due, or prepare for the next one."""
        if followed.is_due and not followed.postpone():
            with self._lock:
                self._step = followed.step
                self._judge(followed)
        followed.prepare_next()
        optimizer = followed.optimizer
        if optimizer is not None:
            self._losses.open(optimizer, is_open=followed.steps_to_go <= WINDOW)
        if self._stop:
            stop, self._stop = self._stop, None
            self._end(stop)

    def _judge(self, followed: Followed) -> None:
        step, number = followed.step, followed.number
        tensors, updates, activations = followed.look()
        self.history.gradients[number].add(
            (step, {s.name: s.mean_abs for s in tensors if s.collection is not WEIGHTS})
        )
        self.history.updates[number].add((step, updates))
        loss = self._take_loss(followed)
        if loss is not None:
            tensors.append(loss_stats(loss.value, loss.name))
            self._on_loss(loss, number)
        found = self.panel.tensors(step, tensors, number)
        found += self.panel.updates(step, updates, number)
        found += self.panel.activations(step, activations, number)
        found += self.panel.times(step, followed.take_times(), number)
        self._add(found)
        if global_rank() == 0 and time.monotonic() - self._page_at > PAGE_SECONDS:
            self._write_page()

    def _take_loss(self, followed: Followed) -> Loss | None:
        """Return an optimizer's loss; None without one, or if an earlier optimizer has the same."""
        optimizer = followed.optimizer
        if optimizer is None:
            return None
        own = self._losses.of(optimizer)
        found = own.take(followed.step, f"{followed.prefix}loss")
        earlier = [
            self._losses.of(o) for o, f in self._followed.items() if f.number < followed.number
        ]
        followed.shares_loss = bool(own.last) and any(one.last == own.last for one in earlier)
        if found is None or followed.shares_loss:
            return None
        followed.has_own_loss = True
        return found

    def _own_losses(self) -> list[int]:
        """Return the numbers of the optimizers with a loss that no other has; of optimizers that
        no longer exist only if none is left."""
        alive = sorted(one.number for one in self._followed.values() if one.has_own_loss)
        return alive or [one.number for one in self._every if one.has_own_loss]

    def _compared(self, mode: str, optimizer: Optimizer | None) -> int:
        """Return the number of the optimizer whose training loss is compared with a loss."""
        if optimizer is not None:
            followed = self._followed.get(optimizer)
            return followed.number if followed else VALIDATION
        own = self._own_losses()
        if len(own) > 1 and mode == EVAL:
            return VALIDATION
        return own[0] if own else 0

    def _on_loss(self, seen: Loss, number: int = 0) -> None:
        with self._lock:
            self._has_looked = True
            self.history.loss(seen)
            self._add(self.panel.loss(seen, number))

    def _on_reading(self, reading: Reading) -> None:
        """Judge a reading, on the sampler's thread."""
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
        found = list(findings)
        new = self.journal.add(found)
        if found and self.settings.action == STOP and self._stop is None:
            several = len(self._own_losses()) > 1
            self._stop = next(
                (one for one in found if self.panel.may_stop(one, has_several_losses=several)),
                None,
            )
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
            write_page(
                self.page, self.panel, self.journal, self.history, self._about(), self._unseen()
            )
        except OSError as error:
            self._say_once(f"{self.page} can't be written: {error.strerror}")
        except MachineError as error:  # no Jinja2: the findings are in their file and in the log
            self._say_once(f"{self.page} is not written: {error}")

    def _about(self) -> str:
        name = self.settings.name or f"process {self._process}"
        steps = max((one.step for one in self._every), default=-1) + 1
        return f"{name}: {steps:,} steps, one in {self.settings.save_interval} looked at"

    def _unseen(self) -> list[str]:
        """Return what could not be checked, for the page."""
        unseen = [
            f"no training loss of optimizer {one.number} was seen"
            for one in self._every
            if not one.has_own_loss and not one.shares_loss
        ]
        if len(self._own_losses()) > 1 and "eval" in self.history.losses:
            unseen.append(
                "the validation loss was compared with no training loss, since there are several: "
                "loss(…, optimizer=…) names one"
            )
        return [*unseen, *sorted(self._said)]

    def _say_once(self, text: str) -> None:
        if text not in self._said and len(self._said) < MOST_SAID:
            self._said.add(text)
            say_to_log(text)


def _identities(optimizer: Optimizer) -> set[int]:
    return {id(one) for group in optimizer.param_groups for one in group["params"]}


def _process_minutes() -> float:
    """Return the minutes since this process started; 0 if unknown, and in a notebook, whose process
    starts long before a training does."""
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
