"""Progress of a transfer: bytes, rate and time left, once it has taken two seconds.

A terminal gets a bar, which the library rich draws; it is imported only then. Anything else gets a
line every ten seconds. With -q there is neither.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, Self

from sagemaker_byoc.cli.terminal import console

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

_SILENT = 2.0
"""Seconds in which nothing is shown: most transfers are over by then."""
_REPEATED = 10.0
_REDRAWN = 0.2


class Progress:
    """One transfer after the other; a context. Its methods may be called from several threads."""

    def __init__(self, title: str = "") -> None:
        self._lock = threading.Lock()
        self._reset(title)

    def _reset(self, title: str) -> None:
        self.title = title
        self._total = self._sent = 0
        self._began = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._show, daemon=True)

    def start(self, title: str) -> None:
        """Remove the bar of the previous transfer, and count from zero."""
        self.finish()
        with self._lock:
            self._reset(title)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()

    def finish(self) -> None:
        """Remove the bar, before anything else is drawn."""
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join()

    def expect(self, size: int) -> None:
        """Add bytes to the total, or take an estimate back. The first call begins the transfer."""
        with self._lock:
            self._begin()
            self._total += size

    def advance(self, size: int) -> None:
        with self._lock:
            self._begin()
            self._sent += size

    def _begin(self) -> None:
        """Start the clock and the thread that draws. The caller holds the lock."""
        if not self._began:
            self._began = time.monotonic()
            if not self._ended.is_set():
                self._thread.start()

    def line(self) -> str:
        """Return the state as text: `push: 120.0 MB of 1.2 GB, 35.0 MB/s, 0:31 left`."""
        with self._lock:
            sent, total, began = self._sent, self._total, self._began
        seconds = time.monotonic() - began if began else 0.0
        rate = sent / seconds if seconds > 0 else 0.0
        parts = [
            f"{size_of(sent)} of {size_of(total)}" if total and total >= sent else size_of(sent)
        ]
        if rate:
            parts.append(f"{size_of(round(rate))}/s")
            if total > sent:
                parts.append(f"{time_of((total - sent) / rate)} left")
        return f"{self.title}: {', '.join(parts)}"

    def _show(self) -> None:
        if self._ended.wait(_SILENT) or console.is_quiet():
            return
        if console.is_interactive():
            self._draw()
            return
        while True:
            console.detail(self.line())
            if self._ended.wait(_REPEATED):
                return

    def _draw(self) -> None:
        with make_bar() as bar:
            task = bar.add_task(self.title, total=None)
            while True:
                with self._lock:
                    sent, total = self._sent, self._total
                bar.update(
                    task, completed=sent, total=max(total, sent) or None, description=self.title
                )
                if self._ended.wait(_REDRAWN):
                    return


def make_bar() -> Bar:
    from rich import progress  # noqa: PLC0415 - a quarter of a second
    from rich.console import Console  # noqa: PLC0415

    return progress.Progress(
        progress.TextColumn("  {task.description}", markup=False),
        progress.BarColumn(bar_width=20),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
        console=Console(file=sys.stderr),
        transient=True,
        redirect_stdout=False,
    )


def size_of(size: int) -> str:
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            break
        value /= 1000
    return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"


def time_of(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
