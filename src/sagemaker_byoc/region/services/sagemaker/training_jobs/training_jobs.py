"""Training jobs of the region: their requests, and the interruption of spot instances."""

from __future__ import annotations

from functools import partial

from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.contract.training.hyperparameters import Hyperparameters
from sagemaker_byoc.region.services.cloudwatch.metric import Metric
from sagemaker_byoc.region.services.cloudwatch.metric_store import MetricStore
from sagemaker_byoc.region.services.sagemaker.context import RegionContext
from sagemaker_byoc.region.services.sagemaker.jobs import inputs
from sagemaker_byoc.region.services.sagemaker.jobs.job import Status
from sagemaker_byoc.region.services.sagemaker.jobs.job_operations import Jobs
from sagemaker_byoc.region.services.sagemaker.resources import invalid
from sagemaker_byoc.region.services.sagemaker.training_jobs import metric_collector
from sagemaker_byoc.region.services.sagemaker.training_jobs.layout import TrainingJob
from sagemaker_byoc.region.services.sagemaker.training_jobs.plan import (
    JobPlan,
    check_names,
    plan_of,
)
from sagemaker_byoc.region.services.sagemaker.training_jobs.record import (
    TRAINING_JOB,
    new_document,
)
from sagemaker_byoc.region.services.sagemaker.training_jobs.training_run import TrainingRun
from sagemaker_byoc.region.wire.operations import Operations, Parameters

NAMESPACE = "/aws/sagemaker/TrainingJobs"
"""CloudWatch's namespace of the metrics of training jobs."""


class TrainingJobs(Jobs[TrainingRun]):
    def __init__(self, context: RegionContext) -> None:
        super().__init__(context, TRAINING_JOB)

    def operations(self) -> Operations:
        return {**super().operations(), "ListTrainingJobs": self._list}

    def interrupt(self, name: str, *, kill: bool = False) -> None:
        """Interrupt a job as the spot market does; with `kill`, without SIGTERM.

        Raise AwsError unless the job runs on spot instances.
        """
        document = self.resources.get(name)
        run = self._runs.get(name)
        if not document.get("EnableManagedSpotTraining"):
            raise invalid(
                f"{name} is not a managed spot training job: EnableManagedSpotTraining is not set"
            )
        if run is None or document["TrainingJobStatus"] != Status.IN_PROGRESS.value:
            raise self._rejected(name)
        run.interrupt(kill=kill)

    def _prepare(self, request: Parameters) -> tuple[Parameters, TrainingRun]:
        check_names(request)
        plan = plan_of(request)
        definitions = metric_collector.compile_definitions(plan.metrics)
        _check_values(plan)
        image = self._context.images.resolve(plan.image)
        wanted = {"OutputDataConfig.S3OutputPath": plan.output_bucket}
        if plan.checkpoint is not None:
            wanted["CheckpointConfig.S3Uri"] = plan.checkpoint.bucket
        inputs.require_storage(self._context.store, wanted, plan.channels)
        job = TrainingJob(
            kind=TRAINING_JOB,
            name=plan.name,
            request=request,
            context=self._context,
            hosts=plan.hosts,
            plan=plan,
            image=image,
        )
        put = partial(_put_value, self._context.metrics, plan.name)
        metrics = metric_collector.MetricCollector(definitions, put)
        run = TrainingRun(job, metrics, self._record(plan.name), self._forget)
        return new_document(request, self.resources.arn(plan.name), plan.model_uri), run

    def _list(self, request: Parameters) -> Parameters:
        if request.get("WarmPoolStatusEquals") or request.get("TrainingPlanArnEquals"):
            return self.resources.page([], request)  # no job of this region has one
        return self.resources.list(request)


def _put_value(metrics: MetricStore, job: str, name: str, value: float) -> None:
    """Put a value that a job has printed. AWS keeps minutes; a job here may be over within one."""
    metric = Metric.of(NAMESPACE, name, {"TrainingJobName": job})
    metrics.put(metric, value, resolution=1)


def _check_values(plan: JobPlan) -> None:
    try:
        Hyperparameters(plan.hyperparameters).check()
    except ContractError as error:
        raise invalid(f"{error.where}: {error.what}. {error.hint}") from error
