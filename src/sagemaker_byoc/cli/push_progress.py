"""How far a push is: its layers, and the bytes that are sent of an estimated total."""

from __future__ import annotations

from sagemaker_byoc.cli.terminal import console
from sagemaker_byoc.cli.terminal.progress import Progress, size_of
from sagemaker_byoc.images.push.push import SentLayer

_RATIO = 0.4
"""Packed size of a layer divided by its unpacked one; used until the first layers are packed."""


class PushProgress(Progress):
    """Called from several threads."""

    def __init__(self) -> None:
        super().__init__("push")
        self._layers = self._done = 0
        self._unpacked = self._packed_from = self._packed_to = self._estimate = 0

    def note(self, text: str) -> None:
        console.step(text)

    def begin(self, layers: int, unpacked: int, packed: int) -> None:
        """`unpacked` are the bytes of layers that have to be packed, `packed` those of others."""
        with self._lock:
            self._layers, self._unpacked = layers, unpacked
        self.expect(packed)
        with self._lock:
            self._tell()

    def packed(self, size: int) -> None:
        """Nothing to show: what counts is what is sent."""

    def sending(self, size: int, unpacked: int) -> None:
        """A layer was packed to `size` bytes."""
        with self._lock:
            self._packed_from += unpacked
            self._packed_to += size
            self._unpacked -= unpacked
            self._total += size
            self._tell()

    def spared(self, size: int, unpacked: int) -> None:
        """A layer of `unpacked` bytes, or of `size` if it is packed, need not be sent."""
        with self._lock:
            self._unpacked -= unpacked
            self._total -= size
            self._tell()

    def sent(self, size: int) -> None:
        self.advance(size)

    def done(self, layer: SentLayer) -> None:
        with self._lock:
            self._done += 1
            self._tell()
            short = layer.digest.partition(":")[2][:12]
            console.detail(
                f"layer {self._done} of {self._layers}  {short}  {size_of(layer.size):>10}"
                f"  {layer.how.value}"
            )

    def _tell(self) -> None:
        """With the lock: the title, and the estimate of what is not packed yet."""
        ratio = self._packed_to / self._packed_from if self._packed_from else _RATIO
        estimate = round(max(0, self._unpacked) * ratio)
        self._total += estimate - self._estimate
        self._estimate = estimate
        self.title = f"push, {self._done} of {self._layers} layers"
