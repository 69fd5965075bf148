"""Batches made and copied to the GPU while the step before them runs.

The copies follow PyTorch's rules for CUDA streams (pinned source, a stream of their own, an event
that the consumer's stream waits for, record_stream); they have run on no GPU yet.
"""

from __future__ import annotations

import threading
import time
import types
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import torch

T = TypeVar("T")

FAREWELL = 5.0
"""Seconds that a source in the middle of a batch is waited for when its producer is to end."""


@runtime_checkable
class Stateful(Protocol):
    """A source whose position can be saved; `state_dict` returns a new object at each call."""

    def state_dict(self) -> Any: ...

    def load_state_dict(self, state: Any, /) -> None: ...


Copied = tuple[Any, "torch.cuda.Event | None"]


@dataclass(frozen=True, slots=True)
class _Made(Generic[T]):
    """A batch, the source's state after it, and the end of the copy that made it."""

    batch: T
    state: Any
    copied: torch.cuda.Event | None


class Prefetch(Iterator[T]):
    """At most `depth` batches of `source` ahead of the consumer, on `device`.

    Its state is that after the last batch which the consumer took, so a checkpoint of it neither
    loses nor repeats one. `source` is in another thread's hands until close(), which gives it back
    at the consumer's position. What the source raises is raised here, after the batches before it.
    """

    def __init__(
        self, source: Iterable[T], device: torch.device | str | None = None, depth: int = 2
    ) -> None:
        self.data_wait_ms = 0.0
        """Milliseconds that the last batch was waited for."""
        self.total_wait_ms = 0.0
        self._source = source
        self._depth = max(1, depth)
        self._copy = _copier(device)
        self._state = _state_of(source)
        self._line: _Line[T] | None = None
        self._is_closed = False

    def __next__(self) -> T:
        if self._is_closed:
            raise StopIteration
        if self._line is None:
            self._line = _Line(self._source, self._copy, self._depth)
            # For one that is dropped without close(): its thread would wait for room for ever.
            weakref.finalize(self, self._line.stop)
        start = time.perf_counter()
        made = self._line.take()
        self.data_wait_ms = (time.perf_counter() - start) * 1000
        self.total_wait_ms += self.data_wait_ms
        self._state = made.state
        if made.copied is not None:
            _hand_over(made.batch, made.copied)
        return made.batch

    def __enter__(self) -> Prefetch[T]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """No more batches; those made ahead are dropped and not counted."""
        self._is_closed = True
        if self._end_line() and isinstance(self._source, Stateful):
            self._source.load_state_dict(self._state)

    def state_dict(self) -> Any:
        if not isinstance(self._source, Stateful):
            raise TypeError(f"{type(self._source).__name__} has no state to save")
        return self._state

    def load_state_dict(self, state: Any) -> None:
        """Go on from `state`, without what was made ahead."""
        if not isinstance(self._source, Stateful):
            raise TypeError(f"{type(self._source).__name__} has no state to load")
        if not self._end_line():
            raise RuntimeError("the source has not finished its batch; it can't be moved meanwhile")
        self._source.load_state_dict(state)
        self._state = self._source.state_dict()
        self._is_closed = False

    def _end_line(self) -> bool:
        """False where the producer is still inside its source."""
        if self._line is None:
            return True
        has_ended = self._line.close()
        if has_ended:
            self._line = None
        return has_ended


class _Line(Generic[T]):
    """The producer's thread, and the few batches between it and the consumer."""

    def __init__(self, source: Iterable[T], copy: Callable[[T], Copied], depth: int) -> None:
        self._depth = depth
        self._changed = threading.Condition()
        self._made: deque[_Made[T]] = deque()
        self._error: BaseException | None = None
        self._is_stopped = False
        self._has_ended = False
        self._thread = threading.Thread(
            target=self._run, args=(source, copy), name="prefetch", daemon=True
        )
        self._thread.start()

    def take(self) -> _Made[T]:
        """The next batch; raise what the source raised, or StopIteration after its end."""
        with self._changed:
            self._changed.wait_for(lambda: self._made or self._has_ended)
            if self._made:
                self._changed.notify_all()
                return self._made.popleft()
            error, self._error = self._error, None
        raise error or StopIteration

    def stop(self) -> None:
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()

    def close(self) -> bool:
        """Stop, and say whether the source is free."""
        self.stop()
        self._thread.join(FAREWELL)
        return not self._thread.is_alive()

    def _run(self, source: Iterable[T], copy: Callable[[T], Copied]) -> None:
        try:
            iterator = iter(source)
            try:
                self._produce(iterator, source, copy)
            finally:
                if isinstance(iterator, types.GeneratorType):
                    iterator.close()  # here, where it ran; a FIFO that it reads is closed with it
        except BaseException as error:  # noqa: BLE001  raised again by take
            self._error = error
        finally:
            with self._changed:
                self._has_ended = True
                self._changed.notify_all()

    def _produce(
        self, iterator: Iterator[T], source: Iterable[T], copy: Callable[[T], Copied]
    ) -> None:
        while self._has_room():
            try:
                item = next(iterator)
            except StopIteration:
                return
            state = _state_of(source)
            batch, copied = copy(item)
            with self._changed:
                self._made.append(_Made(batch, state, copied))
                self._changed.notify_all()

    def _has_room(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: len(self._made) < self._depth or self._is_stopped)
            return not self._is_stopped


def _state_of(source: object) -> Any:
    return source.state_dict() if isinstance(source, Stateful) else None


def _copier(device: torch.device | str | None) -> Callable[[Any], Copied]:
    """How a batch comes to `device`; it is called in the producer's thread."""
    if device is None:
        return lambda batch: (batch, None)
    target = torch.device(device)
    if target.type != "cuda":
        return lambda batch: (_each(batch, lambda tensor: tensor.to(target)), None)
    stream = torch.cuda.Stream(target)  # type: ignore[no-untyped-call]

    def upload(tensor: torch.Tensor) -> torch.Tensor:
        # The pinned copy may be let go at once: its allocator waits for the stream that reads it.
        pinned = tensor.pin_memory() if tensor.device.type == "cpu" else tensor
        return pinned.to(stream.device, non_blocking=True)

    def copy(batch: Any) -> Copied:
        with torch.cuda.stream(stream):
            uploaded = _each(batch, upload)
            copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            copied.record(stream)
        return uploaded, copied

    return copy


def _hand_over(batch: Any, copied: torch.cuda.Event) -> None:
    """Let the consumer's stream, not the host, wait for the copy, and keep the memory for it."""

    def adopt(tensor: torch.Tensor) -> torch.Tensor:
        stream = torch.cuda.current_stream(tensor.device)
        stream.wait_event(copied)
        tensor.record_stream(stream)
        return tensor

    _each(batch, adopt)


def _each(batch: Any, function: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """`batch` with every tensor in its tuples, lists and dicts put through `function`."""
    match batch:
        case torch.Tensor():
            return function(batch)
        case dict():
            return {key: _each(value, function) for key, value in batch.items()}
        case tuple() if hasattr(batch, "_fields"):
            return type(batch)(*(_each(value, function) for value in batch))
        case list() | tuple():
            return type(batch)(_each(value, function) for value in batch)
    return batch
