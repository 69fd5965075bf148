"""Stateful sessions: which instance a session id belongs to.

Source: service model, sagemaker-runtime.InvokeEndpoint, SessionId; the container makes the id and
answers `X-Amzn-SageMaker-New-Session-Id: ID; Expires=TIME`.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sagemaker_byoc.region.services.sagemaker.endpoints.fleet import Variant
    from sagemaker_byoc.region.services.sagemaker.endpoints.instance import Instance

MOST = 10_000
"""Sessions of an endpoint; the one that was used longest ago is forgotten."""


class Sessions:
    def __init__(self) -> None:
        self._places: OrderedDict[str, tuple[Variant, Instance]] = OrderedDict()

    def find(self, session: str) -> tuple[Variant, Instance] | None:
        """None too where its instance is not healthy any more: its state is gone."""
        place = self._places.get(session)
        if place is None or not place[1].is_healthy:
            return None
        self._places.move_to_end(session)
        return place

    def open(self, header: str, variant: Variant, instance: Instance) -> None:
        """`header` is the container's, with the time of its end, which the container keeps."""
        self._places[header.partition(";")[0].strip()] = (variant, instance)
        if len(self._places) > MOST:
            self._places.popitem(last=False)

    def end(self, session: str) -> None:
        self._places.pop(session.strip(), None)

    def clear(self) -> None:
        self._places.clear()
