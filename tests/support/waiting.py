"""Waiting for what other threads and processes do, for a limited time."""

from __future__ import annotations

import asyncio
import time

SECONDS = 60.0


def wait_until(condition, what, seconds=SECONDS):
    """Return what `condition` returns as soon as that is true."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}"
        time.sleep(0.01)
    return value


async def until(condition, what, seconds=SECONDS):
    """Do as `wait_until` does, on an event loop that continues meanwhile."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}"
        await asyncio.sleep(0.01)
    return value
