"""The layout of a training job: a tree and a container per host, and their network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.contract.training.channels import Channel
from sagemaker_byoc.contract.training.cluster import Cluster
from sagemaker_byoc.region.containers import specs
from sagemaker_byoc.region.containers.specs import Image, write_config, write_more_config
from sagemaker_byoc.region.engines.container import ContainerSpec, Engine, Network
from sagemaker_byoc.region.services.sagemaker.context import RegionContext
from sagemaker_byoc.region.services.sagemaker.jobs import outputs
from sagemaker_byoc.region.services.sagemaker.jobs.inputs import ChannelPlan, Item, Staged, Stager
from sagemaker_byoc.region.services.sagemaker.training_jobs.plan import JobPlan

KIND = "training-jobs"
GROUP = "/aws/sagemaker/TrainingJobs"
Found = Sequence[tuple[ChannelPlan, Sequence[Item]]]


@dataclass(frozen=True, slots=True)
class Layout:
    trees: Mapping[str, Tree]
    specs: Mapping[str, ContainerSpec]
    network: Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job, as known before its data is read."""

    plan: JobPlan
    image: Image
    arn: str
    request: Mapping[str, Any]
    context: RegionContext

    @property
    def work(self) -> Path:
        return self.context.work(KIND) / self.plan.name

    @property
    def trees(self) -> dict[str, Tree]:
        return {host: Tree(self.work / host / "ml") for host in self.plan.hosts}


def lay_out(job: Job, found: Found, *, is_stopped: Callable[[], bool]) -> Layout:
    """Write the trees of all hosts. Raise DownloadError."""
    plan, context = job.plan, job.context
    network = specs.job_network(
        f"{context.prefix}-{plan.name}",
        plan.name,
        plan.hosts,
        isolated=plan.isolated,
        labels=context.labels,
    )
    stager = Stager(context.store, job.work / "channels", context.engine, is_stopped=is_stopped)
    found_specs = {}
    for host, tree in job.trees.items():
        cluster = _cluster(plan, host, context.engine)
        write_config(
            tree,
            hyperparameters=plan.hyperparameters,
            channels=_channels(plan, host),
            cluster=cluster,
        )
        write_more_config(tree, job.request)
        staged = stager.stage(tree, host, found)
        if plan.checkpoint is not None:
            outputs.restore(context.store, plan.checkpoint, tree)
        found_specs[host] = _spec(job, cluster, staged, network)
    return Layout(job.trees, found_specs, network)


def _channels(plan: JobPlan, host: str) -> list[Channel]:
    return [channel.channel for channel in plan.channels if host in channel.hosts]


def _cluster(plan: JobPlan, host: str, engine: Engine) -> Cluster:
    group = plan.group_of(host)
    return Cluster(
        current_host=host,
        hosts=plan.hosts,
        current_instance_type=group.instance_type,
        current_group=group.name,
        groups=plan.groups,
        network_interface=engine.interface,
    )


def _outputs(plan: JobPlan) -> tuple[str, ...]:
    """Return the folders to collect, without those inside another one."""
    wanted = {"model", "output", *(each.folder for each in plan.reports if not each.is_outside)}
    if plan.checkpoint is not None:
        wanted.add(plan.checkpoint.folder)
    return tuple(
        sorted(
            name for name in wanted if not wanted & {str(p) for p in PurePosixPath(name).parents}
        )
    )


def _spec(job: Job, cluster: Cluster, staged: Staged, network: Network) -> ContainerSpec:
    plan, context = job.plan, job.context
    tree = job.trees[cluster.current_host]
    outside = {each.folder: outputs.outside(tree, each) for each in plan.reports if each.is_outside}
    common = specs.training(
        job=plan.name,
        account=context.account,
        image=job.image,
        tree=tree,
        cluster=cluster,
        network=network,
        variables=plan.environment,
    )
    return replace(
        common,
        entrypoint=plan.entrypoint,
        arguments=plan.arguments,
        inputs=staged.inputs,
        read_only=staged.read_only,
        outputs=_outputs(plan),
        outside=outside,
        shared=staged.shared,
    )
