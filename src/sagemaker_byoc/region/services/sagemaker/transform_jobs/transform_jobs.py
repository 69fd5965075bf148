"""Transform jobs of the region: their operations, and the checks of a request."""

from __future__ import annotations

from pathlib import Path

from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.region.services.sagemaker.context import RegionContext
from sagemaker_byoc.region.services.sagemaker.endpoints.configs import VariantPlan
from sagemaker_byoc.region.services.sagemaker.jobs import inputs
from sagemaker_byoc.region.services.sagemaker.jobs.job_operations import Jobs
from sagemaker_byoc.region.services.sagemaker.models import Models
from sagemaker_byoc.region.services.sagemaker.resources import invalid
from sagemaker_byoc.region.services.sagemaker.transform_jobs.record import (
    TRANSFORM_JOB,
    new_document,
)
from sagemaker_byoc.region.services.sagemaker.transform_jobs.transform_plan import (
    TransformPlan,
    plan_of,
)
from sagemaker_byoc.region.services.sagemaker.transform_jobs.transform_run import (
    TransformJob,
    TransformRun,
)
from sagemaker_byoc.region.wire.operations import Parameters


class TransformJobs(Jobs[TransformRun]):
    def __init__(self, context: RegionContext, models: Models) -> None:
        super().__init__(context, TRANSFORM_JOB)
        self._models = models.resources

    def _prepare(self, request: Parameters) -> tuple[Parameters, TransformRun]:
        plan = plan_of(request)
        variant = self._variant(plan)
        images = {
            each.image: self._context.images.resolve(each.image) for each in variant.containers
        }
        wanted = {"TransformOutput.S3OutputPath": plan.bucket}
        if plan.capture is not None:
            wanted["DataCaptureConfig.DestinationS3Uri"] = plan.capture.bucket
        inputs.require_storage(self._context.store, wanted, [plan.source])
        job = TransformJob(
            kind=TRANSFORM_JOB,
            name=plan.name,
            request=request,
            context=self._context,
            hosts=plan.source.hosts,
            plan=plan,
            variant=variant,
            images=images,
        )
        run = TransformRun(job, self._record(plan.name), self._forget)
        return new_document(request, self.resources.arn(plan.name)), run

    def _variant(self, plan: TransformPlan) -> VariantPlan:
        """Return the model as it is now; a later deletion does not affect the job."""
        variant = VariantPlan.from_document(
            {
                "VariantName": "AllTraffic",
                "Model": self._models.get(plan.model),
                "InitialInstanceCount": plan.instances,
                "InstanceType": plan.instance_type,
            }
        )
        if any(each.models for each in variant.containers):
            raise invalid(
                f"Model {plan.model} is a multi-model container. The requests of a transform job "
                "do not name a model: create a model of one archive"
            )
        if variant.is_direct:
            raise invalid(
                f"The containers of model {plan.model} are invoked directly. A transform job needs "
                "a model with InferenceExecutionConfig.Mode Serial"
            )
        return variant

    def _trees(self, work: Path) -> list[Tree]:
        """Return the trees of the instances' containers."""
        return [Tree(folder) for folder in work.glob("i-*") if folder.is_dir()]
