"""The layout of a training job: a tree and a container per host, and their network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from sagemaker_byoc.contract.training.channels import Channel
from sagemaker_byoc.contract.training.cluster import Cluster
from sagemaker_byoc.region.containers import specs
from sagemaker_byoc.region.containers.specs import Image, write_config, write_more_config
from sagemaker_byoc.region.engines.container import ContainerSpec, Engine, Network
from sagemaker_byoc.region.services.sagemaker.jobs import outputs
from sagemaker_byoc.region.services.sagemaker.jobs.inputs import Staged, Stager, outermost
from sagemaker_byoc.region.services.sagemaker.jobs.job import Job
from sagemaker_byoc.region.services.sagemaker.jobs.job_run import Found, Layout
from sagemaker_byoc.region.services.sagemaker.training_jobs.plan import JobPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingJob(Job):
    plan: JobPlan
    image: Image


def lay_out(job: TrainingJob, found: Found, *, is_stopped: Callable[[], bool]) -> Layout:
    """Write the trees of all hosts. Raise DownloadError."""
    plan, context = job.plan, job.context
    network = specs.job_network(
        f"{context.prefix}-{job.id}",
        job.id,
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
    """Return the folders to collect."""
    wanted = ["model", "output", *(each.folder for each in plan.reports if not each.is_outside)]
    if plan.checkpoint is not None:
        wanted.append(plan.checkpoint.folder)
    return outermost(wanted)


def _spec(job: TrainingJob, cluster: Cluster, staged: Staged, network: Network) -> ContainerSpec:
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
