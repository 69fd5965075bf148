"""Rules over the system: processors, GPUs, waiting, and the durations of steps.

Formulas: smdebug's profiler rules of 2020; where their defaults and the developer guide's differ
(for seven of them), the guide's are used, which are later. `patience` is the number of readings to
wait for at the start.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from sagemaker_byoc.contract.variables import HANG_SECONDS
from sagemaker_byoc.training.library.watch.rules.base import Finding, Floats, Reading, Rule

EVERY = 20
"""Readings between two judgements."""


@dataclass
class _Windowed(Rule):
    """Keeps `keep` of the last `size` readings, and passes them to `judge` every EVERY readings."""

    _kept: deque[list[float]] = field(default_factory=deque, init=False)
    _count: int = field(default=0, init=False)

    def keep(self, reading: Reading) -> list[float]:
        return [*reading.gpus]

    def sizes(self) -> tuple[int, int]:
        """Return the readings in the window, and those to wait for."""
        raise NotImplementedError

    def judge(self, step: int, window: Floats) -> Iterator[Finding]:
        """Judge the window, which has a row for each reading."""
        raise NotImplementedError

    def sees(self, reading: Reading) -> bool:
        return bool(self.keep(reading))

    def reading(self, step: int, reading: Reading) -> Iterator[Finding]:
        values = self.keep(reading)
        if not values:
            return
        size, patience = self.sizes()
        self._kept.append(values)
        while len(self._kept) > size:
            self._kept.popleft()
        self._count += 1
        is_time = len(self._kept) == size and (self._count - size) % EVERY == 0
        if self._count > patience and is_time:
            self.judged += 1
            yield from self.judge(step, np.array(self._kept))


@dataclass
class LowGPUUtilization(_Windowed):
    """A GPU whose 95th percentile is low, or is high while the 5th is low."""

    advice: ClassVar[str] = "Use larger batches, more loader workers, or a smaller instance"
    threshold_p95: float = 70.0
    threshold_p5: float = 10.0
    window: int = 500
    patience: int = 1000

    def sizes(self) -> tuple[int, int]:
        return self.window, self.patience

    def judge(self, step: int, window: Floats) -> Iterator[Finding]:
        for gpu, (p5, p95) in enumerate(np.percentile(window, [5, 95], axis=0).T.tolist()):
            if p95 < self.threshold_p95:
                verdict = f"95th percentile of utilization {p95:.0f} % < {self.threshold_p95:g} %"
                yield self.finding(step, f"gpu{gpu}", p95, self.threshold_p95, verdict)
            elif p5 < self.threshold_p5:
                verdict = f"utilization swings between {p5:.0f} % and {p95:.0f} %"
                yield self.finding(step, f"gpu{gpu}", p5, self.threshold_p5, verdict)


@dataclass
class _Bottleneck(Rule):
    """The share of readings in which a GPU is idle while something else is busy."""

    what: ClassVar[str] = ""
    _both: int = field(default=0, init=False)
    _count: int = field(default=0, init=False)

    def sees(self, reading: Reading) -> bool:
        return bool(reading.gpus)

    def share(
        self, step: int, *, is_both: bool, threshold: float, patience: int
    ) -> Iterator[Finding]:
        self._count += 1
        self._both += is_both
        share = 100 * self._both / self._count
        is_time = self._count > patience and self._count % EVERY == 0
        self.judged += is_time
        if is_time and share > threshold:
            verdict = f"in {share:.0f} % of the time a GPU waits while {self.what}"
            yield self.finding(step, "system", share, threshold, verdict)


@dataclass
class CPUBottleneck(_Bottleneck):
    """A GPU below `gpu_threshold` while a core is above `cpu_threshold`."""

    what: ClassVar[str] = "a core is busy"
    advice: ClassVar[str] = "Use more loader workers, prepare the data beforehand, or more cores"
    threshold: float = 50.0
    gpu_threshold: float = 10.0
    cpu_threshold: float = 90.0
    patience: int = 100

    def reading(self, step: int, reading: Reading) -> Iterator[Finding]:
        if reading.gpus and reading.cpus:
            is_both = (
                min(reading.gpus) < self.gpu_threshold and max(reading.cpus) > self.cpu_threshold
            )
            yield from self.share(
                step, is_both=is_both, threshold=self.threshold, patience=self.patience
            )


@dataclass
class IOBottleneck(_Bottleneck):
    """A GPU below `gpu_threshold` while a core waits for data above `io_threshold`."""

    what: ClassVar[str] = "a core waits for data"
    advice: ClassVar[str] = "Use FastFile or Pipe mode, larger files, or prefetching"
    threshold: float = 50.0
    gpu_threshold: float = 70.0
    io_threshold: float = 50.0
    patience: int = 1000

    def reading(self, step: int, reading: Reading) -> Iterator[Finding]:
        if reading.gpus and reading.io_wait:
            is_both = (
                min(reading.gpus) < self.gpu_threshold and max(reading.io_wait) > self.io_threshold
            )
            yield from self.share(
                step, is_both=is_both, threshold=self.threshold, patience=self.patience
            )


@dataclass
class GPUMemoryIncrease(_Windowed):
    """The mean of the last `window` readings is above that of the `window` before them."""

    advice: ClassVar[str] = "Something is kept from step to step: detach() what is gathered"
    increase: float = 10.0
    window: int = 500
    patience: int = 100

    def keep(self, reading: Reading) -> list[float]:
        return [*reading.gpu_memory]

    def sizes(self) -> tuple[int, int]:
        return 2 * self.window, self.patience

    def judge(self, step: int, window: Floats) -> Iterator[Finding]:
        growth = window[self.window :].mean(axis=0) - window[: self.window].mean(axis=0)
        for gpu, percent in enumerate(growth.tolist()):
            if percent > self.increase:
                verdict = f"memory in use grew by {percent:.1f} points > {self.increase:g}"
                yield self.finding(step, f"gpu{gpu}", percent, self.increase, verdict)


@dataclass
class BatchSize(_Windowed):
    """The 95th percentiles of processors, GPUs and GPU memory are all low."""

    advice: ClassVar[str] = "Use larger batches, or a smaller instance"
    cpu_threshold_p95: float = 70.0
    gpu_threshold_p95: float = 70.0
    gpu_memory_threshold_p95: float = 70.0
    patience: int = 100
    window: int = 500

    def sizes(self) -> tuple[int, int]:
        return self.window, self.patience

    def keep(self, reading: Reading) -> list[float]:
        if not (reading.gpus and reading.gpu_memory and reading.cpus):
            return []
        return [float(np.mean(reading.cpus)), max(reading.gpus), max(reading.gpu_memory)]

    def judge(self, step: int, window: Floats) -> Iterator[Finding]:
        cpu, gpu, memory = np.percentile(window, 95, axis=0).tolist()
        limits = (self.cpu_threshold_p95, self.gpu_threshold_p95, self.gpu_memory_threshold_p95)
        if all(seen < limit for seen, limit in zip((cpu, gpu, memory), limits, strict=True)):
            verdict = (
                f"95th percentiles: processors {cpu:.0f} %, GPU {gpu:.0f} %, memory {memory:.0f} %"
            )
            yield self.finding(step, "system", gpu, self.gpu_threshold_p95, verdict)


@dataclass
class LoadBalancing(_Windowed):
    """The (Jensen-Shannon) distance between two GPUs' histograms of utilization is large."""

    advice: ClassVar[str] = "Give each GPU the same share of the batch"
    threshold: float = 0.5
    patience: int = 10
    window: int = 500

    def sizes(self) -> tuple[int, int]:
        return self.window, self.patience

    def judge(self, step: int, window: Floats) -> Iterator[Finding]:
        bins = np.arange(0, 102, 2)
        counts = [np.histogram(gpu, bins)[0] / len(gpu) for gpu in window.T]
        for second in range(1, len(counts)):
            for first in range(second):
                distance = jensen_shannon(counts[first], counts[second])
                if distance > self.threshold:
                    verdict = f"used differently: distance {distance:.2f} > {self.threshold:g}"
                    name = f"gpu{first} and gpu{second}"
                    yield self.finding(step, name, distance, self.threshold, verdict)


def jensen_shannon(p: Floats, q: Floats) -> float:
    """Return the square root of the divergence, in nats, as scipy's function of this name."""
    middle = (p + q) / 2

    def divergence(a: Floats) -> float:
        some = a > 0
        return float((a[some] * np.log(a[some] / middle[some])).sum())

    return float(np.sqrt(max(0.0, divergence(p) + divergence(q)) / 2))


@dataclass
class StepOutlier(Rule):
    """More than `n_outliers` steps are longer than mean + `stddev` standard deviations of all so
    far but the first few; from 100 steps on."""

    advice: ClassVar[str] = "Look at what happens there: checkpoints, loading, garbage collection"
    stddev: float = 5.0
    n_outliers: int = 10
    _seen: deque[float] = field(default_factory=lambda: deque(maxlen=20_000), init=False)

    def times(self, step: int, seconds: Sequence[float]) -> Iterator[Finding]:
        self._seen.extend(seconds)
        if len(self._seen) <= 100:
            return
        self.judged += 1
        every = np.array(self._seen)
        limit = float(every.mean() + self.stddev * every.std())
        count = int((every > limit).sum())
        if count > self.n_outliers:
            verdict = f"{count} of {len(every)} steps took more than {limit * 1e3:.3g} ms"
            yield self.finding(step, "steps", count, self.n_outliers, verdict)


@dataclass
class MaxInitializationTime(Rule):
    """The first step ended more than `threshold` minutes after the process started."""

    advice: ClassVar[str] = "Look at what happens before: downloads, data preparation, compilation"
    threshold: float = 20.0
    _has_begun: bool = field(default=False, init=False)

    def first_step(self, minutes: float) -> Iterator[Finding]:
        self.judged += 1
        if minutes > self.threshold:
            verdict = f"the first step came after {minutes:.1f} minutes > {self.threshold:g}"
            yield self.finding(0, "start", minutes, self.threshold, verdict)


@dataclass
class StalledTrainingRule(Rule):
    """No step for `threshold` seconds. AWS names the parameters."""

    advice: ClassVar[str] = f"Find where it waits with py-spy dump, or set {HANG_SECONDS} to end it"
    threshold: float = 1800.0
    stop_training_on_fire: bool = False
    training_job_name_prefix: str = ""
    """Accepted and unused: a job knows its own name."""

    def silence(self, step: int, seconds: float) -> Iterator[Finding]:
        self.judged += 1
        if seconds > self.threshold:
            verdict = f"no step for {seconds:.0f} s > {self.threshold:g} s"
            yield self.finding(step, "training", seconds, self.threshold, verdict)
