"""One endpoint of the region: created, updated, rolled back, deleted, recovered; its sessions."""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from sagemaker_byoc.contract import folders, lifecycle
from sagemaker_byoc.contract.capture import is_enabled
from sagemaker_byoc.contract.errors import ByocError
from sagemaker_byoc.region.containers.specs import Image
from sagemaker_byoc.region.core.records import now
from sagemaker_byoc.region.services.sagemaker.context import RegionContext
from sagemaker_byoc.region.services.sagemaker.endpoints.configs import VariantPlan
from sagemaker_byoc.region.services.sagemaker.endpoints.fleet import Fleet
from sagemaker_byoc.region.services.sagemaker.endpoints.instance import (
    KIND,
    Deployment,
    all_stopped,
    for_endpoint,
)
from sagemaker_byoc.region.services.sagemaker.resources import Resources
from sagemaker_byoc.region.wire.operations import AwsError, Parameters

if TYPE_CHECKING:
    from sagemaker_byoc.region.services.sagemaker.endpoints.fleet import Variant
    from sagemaker_byoc.region.services.sagemaker.endpoints.instance import Instance

LOG = logging.getLogger(__name__)

IN_SERVICE = "InService"
UPDATING = "Updating"
DELETING = "Deleting"
FAILED = "Failed"
CREATING = "Creating"
RECOVERING = "SystemUpdating"
CHANGING = frozenset({CREATING, UPDATING, RECOVERING, DELETING, "RollingBack"})
"""The transient states, whose end a client waits for."""
INTERRUPTED = (
    "The region ended during an update of this endpoint, which runs its former configuration."
)

MOST = 10_000
"""Sessions of an endpoint; the one that was used longest ago is forgotten."""


class Endpoint:
    """An endpoint on one event loop, in one transition at a time.

    `on_gone` is called with its name when it is deleted.
    """

    def __init__(
        self,
        name: str,
        resources: Resources,
        context: RegionContext,
        *,
        on_gone: Callable[[str], None],
    ) -> None:
        self.name = name
        self.fleet: Fleet | None = None
        """What serves the requests; replaced in one step."""
        self.sessions = Sessions()
        self.capture: Parameters | None = None
        """The DataCaptureConfig of what runs, if capture is on."""
        self._resources = resources
        self._context = context
        self._on_gone = on_gone
        self._task: asyncio.Task[None] | None = None
        self._draining: dict[asyncio.Task[None], Fleet] = {}

    @property
    def document(self) -> Parameters:
        """The record. Raises AwsError once it is removed."""
        return self._resources.get(self.name)

    @property
    def status(self) -> str:
        return str(self.document["EndpointStatus"])

    # ── transitions ──

    def create(self, swept: asyncio.Future[None] | None) -> None:
        self._begin(self._bring_up(swept))

    def update(self, target: Parameters) -> None:
        """Replace the fleet. `target` has the keys of the document that a success changes."""
        self._set({"EndpointStatus": UPDATING, "Pending": target}, without=("FailureReason",))
        self._begin(self._replace(target))

    def resize(self, weights: Mapping[str, float], counts: Mapping[str, int]) -> None:
        self._set({"EndpointStatus": UPDATING}, without=("FailureReason",))
        self._begin(self._resize(weights, counts))

    def recover(self, swept: asyncio.Future[None]) -> None:
        """Bring it up after a restart of the region, not before `swept`."""
        status = self.status
        if status == DELETING:
            self._begin(self._delete(swept))
        elif status != FAILED:
            reason = INTERRUPTED if "Pending" in self.document else None
            if status != CREATING:
                self._set({"EndpointStatus": RECOVERING}, without=("Pending", "FailureReason"))
            self._begin(self._bring_up(swept, reason))

    def delete(self) -> None:
        before = self._task
        self._set({"EndpointStatus": DELETING})
        if before is not None:
            before.cancel()
        self._begin(self._delete(before))

    async def close(self) -> None:
        """Stop what runs; the record stays for the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._stop_fleets()

    def _begin(self, transition: Coroutine[Any, Any, None]) -> None:
        self._task = asyncio.create_task(transition, name=f"endpoint {self.name}")

    async def _bring_up(
        self, swept: asyncio.Future[None] | None, reason: str | None = None
    ) -> None:
        try:
            if swept is not None:
                await asyncio.shield(swept)
            fleet, images = await self._deploy(self.document["Variants"])
        except Exception as error:  # noqa: BLE001 - the endpoint has failed in any case
            self._set({"EndpointStatus": FAILED, "FailureReason": self._reason(error)})
            return
        self.fleet = fleet
        self.capture = _capture(self.document)
        changes: Parameters = {"EndpointStatus": IN_SERVICE, "Images": images}
        if reason is not None:
            changes["FailureReason"] = reason
        self._set(changes)

    async def _replace(self, target: Parameters) -> None:
        """Start the new fleet beside the old one, send it all requests, then stop the old one."""
        try:
            fleet, images = await self._deploy(target["Variants"])
        except Exception as error:  # noqa: BLE001 - the old fleet stays in any case
            status = IN_SERVICE if self.fleet is not None else FAILED
            failed = {"EndpointStatus": status, "FailureReason": self._reason(error)}
            self._set(failed, without=("Pending",))
            return
        old, self.fleet = self.fleet, fleet
        self.capture = _capture(target)
        self.sessions.clear()
        changes = {**target, "EndpointStatus": IN_SERVICE, "Images": images}
        self._set(changes, without=("Pending", "FailureReason"))
        if old is not None:
            draining = asyncio.create_task(old.stop(), name=f"drain {self.name}")
            self._draining[draining] = old
            draining.add_done_callback(self._draining.pop)

    async def _resize(self, weights: Mapping[str, float], counts: Mapping[str, int]) -> None:
        assert self.fleet is not None
        changes: Parameters = {"EndpointStatus": IN_SERVICE}
        try:
            await self.fleet.rescale(counts)
        except Exception as error:  # noqa: BLE001 - the instances that were there stay
            changes["FailureReason"] = self._reason(error)
        else:
            self.fleet.reweigh(weights)
            changes["Variants"] = [
                {
                    **variant,
                    "InitialVariantWeight": weights.get(
                        variant["VariantName"], variant.get("InitialVariantWeight", 1.0)
                    ),
                    "InitialInstanceCount": counts.get(
                        variant["VariantName"], variant.get("InitialInstanceCount", 1)
                    ),
                }
                for variant in self.document["Variants"]
            ]
        self._set(changes)

    async def _delete(self, before: asyncio.Future[None] | None) -> None:
        if before is not None:
            await asyncio.gather(before, return_exceptions=True)
        await self._stop_fleets()
        await self._context.threads.run(folders.remove, self._context.work(KIND) / self.name)
        try:
            self._resources.remove(self.name)
        except OSError as error:  # the next start of the region would bring it back
            self._set({"EndpointStatus": FAILED, "FailureReason": self._reason(error)})
            return
        self._on_gone(self.name)

    async def _stop_fleets(self) -> None:
        for draining in self._draining.values():
            draining.hurry()
        stops = [*self._draining]
        fleet, self.fleet = self.fleet, None
        if fleet is not None:
            stops.append(asyncio.create_task(fleet.stop(drain=0)))
        await all_stopped(stops, f"endpoint {self.name}")

    async def _deploy(self, variants: list[Parameters]) -> tuple[Fleet, Parameters]:
        plans = [VariantPlan.from_document(variant) for variant in variants]
        uris = {container.image for plan in plans for container in plan.containers}
        images: dict[str, Image] = {}
        for uri in sorted(uris):
            images[uri] = await self._bring(uri)
        folder = self._context.work(KIND) / self.name / secrets.token_hex(4)
        purpose = for_endpoint(self.name, self._context)
        fleet = Fleet(Deployment(purpose, self._context, folder, images), plans)
        await fleet.start()
        resolved = {
            uri: {"Resolved": image.resolved, "Time": now()} for uri, image in images.items()
        }
        return fleet, resolved

    async def _bring(self, uri: str) -> Image:
        """Return the image that `uri` names, once the engine has it. Raise AwsError.

        A cancellation ends a pull that is under way.
        """
        images = self._context.images
        image = await self._context.threads.run(images.resolve, uri)
        stopped = threading.Event()
        try:
            await self._context.starts.run(images.bring, image, is_stopped=stopped.is_set)
        finally:
            stopped.set()
        return image

    def _reason(self, error: Exception) -> str:
        if isinstance(error, AwsError):
            text = error.message
        elif isinstance(error, ByocError):
            text = error.sentence
        elif isinstance(error, OSError):
            LOG.warning("endpoint %s", self.name, exc_info=error)
            text = f"InternalServerError: {error}"
        else:
            LOG.error("endpoint %s", self.name, exc_info=error)
            text = f"InternalServerError: {error!r}; the region's log has the traceback"
        return lifecycle.clip_lines(text)

    # ── the record ──

    def _set(self, changes: Parameters, without: tuple[str, ...] = ()) -> None:
        def edit(document: Parameters) -> None:
            for key in without:
                document.pop(key, None)
            document.update(changes)

        self._resources.change(self.name, edit)


def _capture(document: Parameters) -> Parameters | None:
    config: Parameters = document.get("DataCaptureConfig") or {}
    return config if is_enabled(config) else None


class Sessions:
    def __init__(self) -> None:
        self._places: OrderedDict[str, tuple[Variant, Instance]] = OrderedDict()

    def find(self, session: str) -> tuple[Variant, Instance] | None:
        """Return None also if the instance is no longer healthy: its state is gone."""
        place = self._places.get(session)
        if place is None or not place[1].is_healthy:
            return None
        self._places.move_to_end(session)
        return place

    def open(self, header: str, variant: Variant, instance: Instance) -> None:
        """`header` is the container's, with an expiry time, which the container enforces."""
        self._places[header.partition(";")[0].strip()] = (variant, instance)
        if len(self._places) > MOST:
            self._places.popitem(last=False)

    def end(self, session: str) -> None:
        self._places.pop(session.strip(), None)

    def clear(self) -> None:
        self._places.clear()
