"""A serving container: all that its start needs, its start until it is healthy, its end."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from sagemaker_byoc.contract import folders, lifecycle
from sagemaker_byoc.contract import http as hosting
from sagemaker_byoc.contract.errors import ByocError
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.contract.variables import BIND_TO_PORT, MULTI_MODEL
from sagemaker_byoc.region.containers import specs
from sagemaker_byoc.region.containers.health import (
    LOG_SECONDS,
    ContainerLog,
    wait_until_healthy,
)
from sagemaker_byoc.region.containers.leftovers import machine_label
from sagemaker_byoc.region.containers.specs import Image
from sagemaker_byoc.region.engines.container import Container, ContainerSpec
from sagemaker_byoc.region.services.logs.log_store import LastingStream
from sagemaker_byoc.region.services.sagemaker.context import RegionContext
from sagemaker_byoc.region.services.sagemaker.endpoints.configs import ContainerPlan, VariantPlan
from sagemaker_byoc.region.services.sagemaker.models import MODEL_FOLDER
from sagemaker_byoc.region.services.sagemaker.utilization import Place

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Purpose:
    """What instances are for: an endpoint, or a job that sends requests to a model."""

    name: str
    """In the names of the containers."""
    group: str
    """The group of their logs."""
    labels: Mapping[str, str]
    stream: Callable[[str, str], str]
    """Return the name of the log stream for a variant and the id of an instance."""
    place: Callable[[str, str], Place]
    """Return where the metrics go, of a variant and the id of an instance."""
    unhealthy: Callable[[VariantPlan], str]
    """Return SageMaker's sentence for containers that did not become healthy."""
    ill_seconds: float
    """Seconds without an answer to /ping after which a running container is replaced: its worker
    may restart, or a request may keep it from answering."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """All that is needed to start a container, once or again."""

    purpose: Purpose
    plan: ContainerPlan
    image: Image
    sources: Mapping[str, Path]
    """The folders of the unpacked model and other data, by those below /opt/ml that show them;
    shared by the instances."""
    folder: Path
    """The container's own folder; made at its start, removed at its end."""
    name: str
    stream: str
    place: Place
    instance_containers: int
    """The number of containers of the instance."""
    startup_timeout: float

    @property
    def models(self) -> Path:
        """The folder that the container sees as /opt/ml/models."""
        return self.folder / hosting.MODELS_FOLDER.value

    def variables(self, context: RegionContext) -> dict[str, str]:
        """Return the variables that SageMaker sets; the model's own win."""
        variables = specs.platform(context.account)
        if context.access is not None and not self.plan.isolated:
            variables |= context.access.variables(role=self.plan.role)
        if self.plan.models:
            variables[MULTI_MODEL] = "true"
        # If containers share this machine's network, the engine gives each its own port.
        if self.instance_containers > 1 and context.engine.interface != "lo":
            variables[BIND_TO_PORT] = str(hosting.PORT.value)
        return {**variables, **self.plan.environment}


@dataclass(frozen=True, slots=True)
class ServingContainer:
    launch: Launch
    context: RegionContext
    container: Container
    port: int
    log: ContainerLog
    close_log: Callable[[], None]
    unfollow: Callable[[], None]

    @classmethod
    def start(
        cls,
        launch: Launch,
        context: RegionContext,
        on_end: Callable[[], None],
        given_up: threading.Event,
    ) -> Self:
        """Start a container and wait until it is healthy.

        `on_end` is called from another thread when its log ends. Raise ByocError, leaving nothing,
        if that fails.
        """
        stream = LastingStream(context.logs, launch.purpose.group, launch.stream)
        port = context.ports.take()
        try:
            spec = _lay_out(launch, context, port)
            container = context.engine.start(spec)
        except BaseException as error:
            if isinstance(error, ByocError):
                stream.write(f"byoc: {error.sentence}. {error.hint}")
            _clean(launch, context, port)
            stream.close()
            raise
        log = ContainerLog(container, stream.write, on_end)
        log.start()
        unfollow = context.utilization.follow(container, spec, launch.place)
        served = cls(launch, context, container, port, log, stream.close, unfollow)
        try:
            wait_until_healthy(container, port, launch.startup_timeout, log, given_up)
        except BaseException:
            served.close()
            raise
        return served

    def stop(self) -> None:
        """Send SIGTERM, wait up to 30 s for requests under way, send SIGKILL, and remove it."""
        try:
            self.container.stop(lifecycle.SERVE_STOP_GRACE.value)
        except ByocError as error:  # it may have ended, or its engine has
            LOG.warning("%s can't be stopped: %s", self.launch.name, error)
        finally:
            self.close()

    def close(self) -> None:
        """End and remove it without a grace period."""
        with ExitStack() as ends:  # called in reverse order
            ends.callback(_clean, self.launch, self.context, self.port)
            ends.callback(self.close_log)
            ends.callback(self.log.join, LOG_SECONDS)
            ends.callback(self.container.close)
            ends.callback(self.unfollow)


def _lay_out(launch: Launch, context: RegionContext, port: int) -> ContainerSpec:
    spec = specs.serving(
        name=launch.name,
        hostname=launch.plan.name,
        image=launch.image,
        tree=Tree(launch.folder),
        model=launch.sources.get(MODEL_FOLDER),
        port=port,
        variables=launch.variables(context),
        labels={**launch.purpose.labels, **machine_label()},
    )
    spec = replace(spec, inputs=launch.sources, read_only=frozenset(launch.sources))
    if launch.plan.models:
        launch.models.mkdir()
        models = hosting.MODELS_FOLDER.value
        return replace(spec, shared=(models,), read_only=spec.read_only | {models})
    return spec


def _clean(launch: Launch, context: RegionContext, port: int) -> None:
    folders.remove(launch.folder)
    context.ports.give_back(port)
