"""How far a push is: one line that is redrawn in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType

from sagemaker_byoc.cli import console
from sagemaker_byoc.images.push.push import SentLayer

_REDRAWN, _REPEATED = 0.1, 15.0
"""Seconds between two looks, in a terminal and elsewhere."""
_WIPE = "\r\033[K"


class PushProgress:
    """Called from several threads; a context, whose end takes the line away."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._redraws = console.is_interactive()
        self._pause = _REDRAWN if self._redraws else _REPEATED
        self._shown = time.monotonic()
        self._layers = self._done = self._packed = self._sent = 0
        self._drawn = False

    def __enter__(self) -> PushProgress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            self._wipe()

    def note(self, text: str) -> None:
        with self._lock:
            self._wipe()
            console.step(text)

    def begin(self, layers: int) -> None:
        with self._lock:
            self._layers = layers

    def packed(self, size: int) -> None:
        with self._lock:
            self._packed += size
            self._show()

    def sent(self, size: int) -> None:
        with self._lock:
            self._sent += size
            self._show()

    def done(self, layer: SentLayer) -> None:
        with self._lock:
            self._done += 1
            self._wipe()
            short = layer.digest.partition(":")[2][:12]
            console.detail(
                f"layer {self._done} of {self._layers}  {short}  {_megabytes(layer.size):>10}"
                f"  {layer.how.value}"
            )

    def _show(self) -> None:
        now = time.monotonic()
        if now - self._shown < self._pause:
            return
        self._shown = now
        text = (
            f"{self._done} of {self._layers} layers, packed {_megabytes(self._packed)},"
            f" sent {_megabytes(self._sent)}"
        )
        if self._redraws:
            sys.stderr.write(f"{_WIPE}  {text}")
            sys.stderr.flush()
            self._drawn = True
        else:
            console.detail(text)

    def _wipe(self) -> None:
        if self._drawn:
            sys.stderr.write(_WIPE)
            self._drawn = False


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
