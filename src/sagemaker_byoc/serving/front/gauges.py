"""What /metrics reads at the moment of asking; called on another thread than the broker's."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from sagemaker_byoc.serving.front.broker import Broker

_PAGE = os.sysconf("SC_PAGE_SIZE")


def read(broker: Broker) -> dict[str, tuple[str, dict[str, float]]]:
    lanes = broker.lanes()
    resident = {f'{{slot="{lane.slot}"}}': float(_resident(lane.pid)) for lane in lanes}
    return {
        "ready": ("1 when /ping answers 200.", {"": float(broker.health().is_ready)}),
        "queue_depth": ("Requests that wait for a worker.", {"": float(len(broker.queue))}),
        "requests_in_flight": ("Requests let in.", {"": float(broker.admission.requests)}),
        "bytes_in_flight": ("Bytes of their bodies.", {"": float(broker.admission.bytes)}),
        "worker_restarts_total": ("Workers started again.", {"": float(broker.restarts)}),
        "worker_resident_bytes": ("Memory of the model workers.", resident),
        "front_resident_bytes": ("Memory of the HTTP process.", {"": float(_resident("self"))}),
    }


def _resident(pid: int | str) -> int:
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    return 0  # it has just ended
