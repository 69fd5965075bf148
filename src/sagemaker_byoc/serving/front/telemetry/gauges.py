"""What /metrics reads at the moment of asking; called on another thread than the broker's."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

from sagemaker_byoc.serving.front.broker.broker import Broker
from sagemaker_byoc.serving.front.broker.tickets import Lane

_PAGE = os.sysconf("SC_PAGE_SIZE")


Gauges: TypeAlias = "dict[str, tuple[str, dict[str, float]]]"


def read_gauges(brokers: Sequence[Broker], *, is_ready: bool) -> Gauges:
    """Of all models together, but for the memory of each worker."""
    resident = {
        _labels(broker, lane): float(_resident(lane.pid))
        for broker in brokers
        for lane in broker.lanes()
    }
    waiting = sum(len(broker.waiting) for broker in brokers)
    arriving = sum(broker.admission.arriving for broker in brokers)
    in_flight = arriving + sum(broker.admission.requests for broker in brokers)
    rooms = {id(broker.admission.room): broker.admission.room for broker in brokers}.values()
    held = sum(room.held + room.leaving for room in rooms)
    ready = sum(len(broker.present()) for broker in brokers)
    restarts = sum(broker.restarts for broker in brokers)
    return {
        "ready": ("1 when /ping answers 200.", {"": float(is_ready)}),
        "workers_ready": ("Model workers that can answer.", {"": float(ready)}),
        "queue_depth": ("Requests that wait for a worker.", {"": float(waiting)}),
        "requests_in_flight": ("Requests let in.", {"": float(in_flight)}),
        "bodies_arriving": ("Those of them whose body is not whole yet.", {"": float(arriving)}),
        "bytes_in_flight": ("Bytes of their bodies, and of replies being sent.", {"": float(held)}),
        "worker_restarts_total": ("Workers started again.", {"": float(restarts)}),
        "worker_resident_bytes": ("Memory of the model workers.", resident),
        "front_resident_bytes": ("Memory of the HTTP process.", {"": float(_resident("self"))}),
    }


def _labels(broker: Broker, lane: Lane) -> str:
    if not broker.model:
        return f'{{slot="{lane.slot}"}}'
    name = broker.model.replace("\\", "\\\\").replace('"', '\\"')
    return f'{{model="{name}"}}'


def _resident(pid: int | str) -> int:
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    return 0  # it has just ended
