"""The parts of a region that SageMaker's resources use, in one object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from sagemaker_byoc.host.ports import Ports
from sagemaker_byoc.region.containers.access import ContainerAccess
from sagemaker_byoc.region.containers.images import Images
from sagemaker_byoc.region.containers.leftovers import region_labels, region_prefix
from sagemaker_byoc.region.core.account import Account
from sagemaker_byoc.region.core.event_bus import EventBus
from sagemaker_byoc.region.core.polling import Holds
from sagemaker_byoc.region.core.records import Records
from sagemaker_byoc.region.core.threads import Threads
from sagemaker_byoc.region.engines.container import Engine
from sagemaker_byoc.region.services.cloudwatch.metric_store import MetricStore
from sagemaker_byoc.region.services.logs.log_store import LogStore
from sagemaker_byoc.region.services.s3.store.object_store import ObjectStore
from sagemaker_byoc.region.services.sagemaker.resources import Kind, Resources
from sagemaker_byoc.region.services.sagemaker.tags import Tags
from sagemaker_byoc.region.services.sagemaker.utilization import Utilization
from sagemaker_byoc.region.wire.operations import AwsError

Opened = TypeVar("Opened", bound=Resources)

THREADS = 64
"""Short blocking calls at the same time."""
STARTS = 2400
"""Starts and stops of serving containers at the same time. A start holds a thread until the
container is healthy; the largest endpoint has 10 variants of 16 instances with 15 containers."""


@dataclass(frozen=True, kw_only=True)
class RegionContext:
    """Made once, in composition.py. A kind of resource takes from it what it needs."""

    state: Path
    account: Account
    engine: Engine
    images: Images
    store: ObjectStore
    logs: LogStore
    access: ContainerAccess | None = None
    """How containers reach the region; None if they can't."""
    ports: Ports = field(default_factory=Ports)
    """Free ports of this machine, for containers with a server."""
    threads: Threads = field(default_factory=lambda: Threads("sagemaker", THREADS))
    """For short calls of SageMaker's resources: no other part of the region waits for them."""
    starts: Threads = field(default_factory=lambda: Threads("starts", STARTS))
    """For what takes minutes, such as pulls of images and starts and stops of containers."""

    holds: Holds = field(default_factory=Holds)
    """Makes the watch of a kind, whose Describe operation then is a long poll."""

    kinds: dict[str, Resources] = field(default_factory=dict)
    """The resources of each kind by its member, such as `TrainingJob`; see `resources`."""

    @cached_property
    def metrics(self) -> MetricStore:
        """Where jobs and endpoints put the values of their metrics."""
        return MetricStore(self.state / "metrics")

    @cached_property
    def events(self) -> EventBus:
        """Where each change of a state is published."""
        return EventBus(self.state, self.account)

    @cached_property
    def utilization(self) -> Utilization:
        """Measures what the containers of jobs and endpoints use of this machine."""
        return Utilization(self.metrics)

    @cached_property
    def tags(self) -> Tags:
        return Tags(self.state, self.check_arn)

    @cached_property
    def labels(self) -> Mapping[str, str]:
        """The labels by which the region finds its containers and networks."""
        return region_labels(self.state)

    @cached_property
    def prefix(self) -> str:
        """The prefix of names of containers and networks: other regions may share the engine."""
        return region_prefix(self.state)

    def work(self, kind: str) -> Path:
        """Return the folder for what the resources of `kind` need while they run."""
        return self.state / "work" / kind

    def records(self, kind: str) -> Records:
        """Open the documents of a kind, such as `training-jobs`. Each kind is opened once."""
        return Records(self.state / "sagemaker" / kind)

    def resources(self, kind: Kind) -> Resources:
        """Open the resources of a kind, once."""
        return self.open(Resources(kind, self))

    def check_arn(self, arn: str) -> None:
        """Raise AwsError if no resource of the region has this ARN."""
        for resources in self.kinds.values():
            name = resources.name_in(arn)
            if name is not None:
                resources.get(name)
                return
        kinds = ", ".join(sorted(each.kind.resource for each in self.kinds.values()))
        raise AwsError(
            "ValidationException", f"{arn} is not the ARN of a resource of this region: {kinds}"
        )

    def open(self, resources: Opened) -> Opened:
        """Note resources that a kind has derived."""
        member = resources.kind.member
        assert member not in self.kinds, member
        self.kinds[member] = resources
        return resources
