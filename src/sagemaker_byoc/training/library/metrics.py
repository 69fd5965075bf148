"""Metrics of a training loop, printed in the form that SageMaker's metric definitions match.

For user scripts; works alone. Values stay on their device until the logging interval is over, so
that the program waits for the GPU once per interval and not once per step.
"""

from __future__ import annotations

import functools
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TextIO, TypeAlias, TypeVar

import torch

from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.contract.facts import METRIC_DEFINITIONS
from sagemaker_byoc.contract.files import write_json
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.contract.training.runs import checked_name, definition, format_line
from sagemaker_byoc.training.library.outputs import Appender
from sagemaker_byoc.training.library.ranks import Progress, global_count, global_rank

WATCH_MODULE = "sagemaker_byoc.training.library.watch.attach"

T = TypeVar("T")
Value: TypeAlias = "float | torch.Tensor"
LARGEST = 10**308
"""An int beyond it does not fit a float, which every reader of metrics expects."""
LARGEST_STEP = 2**63
"""TensorBoard and MLflow keep a step in 64 bits."""

PEAK_BF16: tuple[tuple[str, float], ...] = (
    # Dense bf16 FLOP/s by a part of the name that CUDA reports; the first match counts. The same
    # values as torchtitan's tools/utils.py at b5bcd76c, from NVIDIA's data sheets.
    ("GB300", 2.5e15),
    ("GB200", 2.5e15),
    ("B300", 2.25e15),
    ("B200", 2.25e15),
    ("H200", 989e12),
    ("H100 NVL", 835e12),
    ("H100 PCIe", 756e12),
    ("H100", 989e12),
    ("A100", 312e12),
)


class Metrics:
    """Prints a line every `every` logged steps; writes each step to output/data/metrics.jsonl.

    Only rank 0 does. `flops_per_token` (or per sample; see `transformer_flops`) adds `mfu` on GPUs
    whose peak is known. `counters` are totals by name that the program keeps, such as
    `{"checkpoint_block_ms": lambda: checkpointer.blocked_ms}`: the line has their growth in the
    interval, and they are read once per line.
    """

    def __init__(  # noqa: PLR0913 - each keyword is one thing that a script may have
        self,
        *,
        every: int = 10,
        flops_per_token: float | None = None,
        counters: Mapping[str, Callable[[], float]] | None = None,
        file: Path | None = None,
        stream: TextIO | None = None,
        device: torch.device | None = None,
    ) -> None:
        self._every = int(every)
        self._is_writer = global_rank() == 0
        self._progress = Progress()
        default = Tree.from_environ(os.environ).output_data / "metrics.jsonl"
        self._copy = Appender(file or default)
        self._has_failed = False
        self._has_no_log = False
        self._stream = stream
        self._device = device or _current_device()
        self._peak = peak_flops(self._device)
        self._flops_per_token = flops_per_token
        self._counters = dict(counters or {})
        self._counted = {
            checked_name(name): _taken(name, count()) for name, count in self._counters.items()
        }
        self._kept: list[tuple[int, dict[str, Value]]] = []
        self._amounts: dict[str, Value] = {"tokens": 0, "samples": 0}
        self._waited_seconds: float | None = None
        self._start = time.perf_counter()
        self._names: dict[str, None] = {}

    def log(
        self, step: int, values: Mapping[str, Value], *, tokens: Value = 0, samples: Value = 0
    ) -> None:
        """Keep `values` of `step`; tensors of one element may be on any device, and are copied.

        Raise ContractError for what is not one number, for a name that a line can't hold, and for a
        step that is not a whole number.

        `tokens` and `samples` are what this rank used in the step; the line has the rate of all
        ranks together.
        """
        self._progress.report()
        is_plain = type(step) is int and -LARGEST_STEP < step < LARGEST_STEP
        step = step if is_plain else _whole(step)
        for name in values:
            checked_name(name)
        if not self._is_writer:
            return
        row = {name: _taken(name, value) for name, value in values.items()}
        tokens, samples = _taken("tokens", tokens), _taken("samples", samples)
        self._amounts["tokens"] += tokens
        self._amounts["samples"] += samples
        self._kept.append((step, row))
        if len(self._kept) >= self._every:
            self.flush()

    def waiting(self, batches: Iterable[T]) -> Iterator[T]:
        """Yield `batches`; the line has the mean wait per logged step, as data_wait_ms."""
        iterator = iter(batches)
        while True:
            start = time.perf_counter()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            self._waited_seconds = (self._waited_seconds or 0) + time.perf_counter() - start
            yield batch

    def flush(self) -> None:
        """Write the kept steps; wait for the GPU once."""
        kept, self._kept = self._kept, []  # now, since a failure would repeat
        if not kept:
            return
        rows = _on_host(kept)
        about = self._about_interval(len(rows))
        step, last = rows[-1]
        line = {"step": float(step), **last, **about}
        self._names.update(dict.fromkeys(line))
        if WATCH_MODULE in sys.modules:  # a program without a watch does not import it
            sys.modules[WATCH_MODULE].show_losses(rows)
        rows[-1] = (step, {**last, **about})
        self._amounts = dict.fromkeys(self._amounts, 0)
        self._start = time.perf_counter()
        self._print(format_line(line))
        self._append(rows)
        self.on_rows(rows)

    def on_rows(self, rows: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """Receive each step's values, once they are on the host; for subclasses."""

    @property
    def file(self) -> Path:
        return self._copy.path

    @property
    def is_writer(self) -> bool:
        """Whether this is rank 0."""
        return self._is_writer

    def close(self) -> None:
        """Write the rest of an interval. What is logged later, as by a last test, is written at
        once."""
        self._every = 1
        self.flush()
        self._copy.close()

    def write_definitions(self, file: Path | None = None) -> Path:
        """Write the MetricDefinitions for CreateTrainingJob of all names in the lines so far.

        Raise ValueError beyond the 40 that it takes.
        """
        names = [name for name in self._names if name != "step"]
        if len(names) > METRIC_DEFINITIONS.value:
            raise ValueError(
                f"{len(names)} metrics: a training job takes {METRIC_DEFINITIONS.value}"
            )
        path = file or self.file.with_name("metric_definitions.json")
        if self._is_writer:
            write_json(path, [dict(definition(name)) for name in names])
        return path

    def _about_interval(self, steps: int) -> dict[str, float]:
        seconds = time.perf_counter() - self._start
        about = {"step_ms": seconds / steps * 1e3}
        amounts = {name: float(amount) for name, amount in self._amounts.items()}
        for name, amount in amounts.items():
            if amount:
                about[f"{name}_per_s"] = amount * global_count() / seconds
        amount = amounts["tokens"] or amounts["samples"]
        if self._flops_per_token and self._peak and amount:
            about["mfu"] = amount * self._flops_per_token / seconds / self._peak
        about["memory_gb"] = _memory_gb(self._device)
        if self._waited_seconds is not None:
            about["data_wait_ms"] = self._waited_seconds / steps * 1e3
            self._waited_seconds = 0.0
        return about | self._grown()

    def _grown(self) -> dict[str, float]:
        """Return the counters' growth; leave out one that fails, and log that once."""
        grown: dict[str, float] = {}
        for name, count in [*self._counters.items()]:
            try:
                now = _taken(name, count())
                grown[name] = float(now - self._counted[name])
                self._counted[name] = now
            except Exception as error:  # noqa: BLE001 - the interval's metrics are worth more
                say(f"byoc metrics: counter {name} is left out: {type(error).__name__}: {error}")
                del self._counters[name]
        return grown

    def _print(self, line: str) -> None:
        """Print a line; a log that is closed, or on a full disk, does not end the training."""
        try:
            print(line, file=self._stream or sys.stdout, flush=True)
        except (OSError, ValueError, AttributeError) as error:
            if not self._has_no_log:
                say(f"byoc metrics: the log lacks lines: {error}")
            self._has_no_log = True

    def _append(self, rows: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        try:
            self._copy.write("".join([_json_line(step, row) for step, row in rows]).encode())
        except OSError as error:  # the log has it too: not worth ending a training
            if not self._has_failed:
                say(f"byoc metrics: {self.file} lacks steps: {error.strerror}")
            self._has_failed = True


def say(text: str) -> None:
    """Write a line to stderr if it is open."""
    with suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


def _whole(step: object) -> int:
    """Return a step given as a numpy number, a tensor, or a float without a fraction."""
    try:
        number = float(step)  # type: ignore[arg-type]
        if number.is_integer() and abs(number) < LARGEST_STEP:
            return int(step) if hasattr(step, "__index__") else int(number)
    except Exception:  # noqa: BLE001, S110 - whatever it is, it is not a number
        pass
    raise ContractError(
        where="the step of log()",
        what=f"is {_described(step)}",
        hint="Give a whole number of at most 63 bits",
    )


def _taken(name: str, value: Value) -> Value:
    """Return a Python number, or a copy of the tensor: under CUDA graphs the next step writes its
    loss into the same memory."""
    if type(value) is float or (type(value) is int and -LARGEST < value < LARGEST):
        return value
    try:
        if not isinstance(value, torch.Tensor):
            return float(value)  # a numpy number
        if value.numel() == 1 and not (value.is_meta or value.is_complex()):
            kept = value.detach()
            kept = kept.clone() if kept.dtype is torch.float32 else kept.to(torch.float32)
            return kept.reshape(()) if kept.dim() else kept
    except Exception:  # noqa: BLE001, S110 - whatever it is, it is not one number
        pass
    raise ContractError(
        where=f"metric {name!r}",
        what=f"is {_described(value)}",
        hint="Log one number, such as a tensor's mean()",
    )


def _described(value: object) -> str:
    if isinstance(value, torch.Tensor):
        kind = f"{value.device.type} tensor" if value.is_meta else "tensor"
        return f"a {kind} of {value.numel()} elements of {value.dtype}"
    try:
        return f"{value!r:.80}"
    except Exception:  # noqa: BLE001 - such as an int of too many digits
        return f"a {type(value).__name__} that can't be shown"


def _on_host(kept: list[tuple[int, dict[str, Value]]]) -> list[tuple[int, dict[str, float]]]:
    """Return all values as numbers, with one transfer per device."""
    by_device: dict[torch.device, list[torch.Tensor]] = {}
    for _, values in kept:
        for value in values.values():
            if not isinstance(value, float | int):
                by_device.setdefault(value.device, []).append(value)
    numbers = {device: iter(torch.stack(found).tolist()) for device, found in by_device.items()}
    return [
        (
            step,
            {
                name: value if isinstance(value, float | int) else next(numbers[value.device])
                for name, value in values.items()
            },
        )
        for step, values in kept
    ]


def _json_line(step: int, row: Mapping[str, float]) -> str:
    """Return what json.dumps does, but faster: it is done for each step."""
    values = [
        # JSON spells infinity and NaN otherwise than repr.
        f"{_key(name)}{value!r}" if value - value == 0 else f"{_key(name)}{json.dumps(value)}"
        for name, value in row.items()
    ]
    return "{" + ", ".join([f'"step": {step}', *values]) + "}\n"


@functools.lru_cache(4096)
def _key(name: str) -> str:
    return json.dumps(name) + ": "


def _current_device() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def _memory_gb(device: torch.device) -> float:
    """Return the peak so far: of tensors on a GPU, else of the process's resident memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def peak_flops(device: torch.device) -> float | None:
    """Return dense bf16 FLOP/s of `device`; None if unknown, as on every CPU."""
    return peak_of_name(torch.cuda.get_device_name(device)) if device.type == "cuda" else None


def peak_of_name(name: str) -> float | None:
    return next((peak for part, peak in PEAK_BF16 if part in name), None)


def transformer_flops(*, parameters: int, layers: int, width: int, tokens: int) -> float:
    """Return FLOPs for one token, forward and backward: 6·N + 12·L·d·T, the usual convention.

    `width` is heads times head size, `tokens` the length of a sequence; recomputation for
    activation checkpointing does not count.
    """
    return 6.0 * parameters + 12.0 * layers * width * tokens
