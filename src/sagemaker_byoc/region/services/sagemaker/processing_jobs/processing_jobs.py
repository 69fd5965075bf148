"""Processing jobs of the region: what is declared of them, and their requests."""

from __future__ import annotations

from typing import Any

from sagemaker_byoc.contract.variables import PROGRAM_DIR
from sagemaker_byoc.region.containers.specs import Image
from sagemaker_byoc.region.services.sagemaker import state_changes
from sagemaker_byoc.region.services.sagemaker.context import RegionContext
from sagemaker_byoc.region.services.sagemaker.jobs import inputs
from sagemaker_byoc.region.services.sagemaker.jobs.job import JobKind, Status, job_subject
from sagemaker_byoc.region.services.sagemaker.jobs.job_operations import Jobs
from sagemaker_byoc.region.services.sagemaker.processing_jobs.documents import with_defaults
from sagemaker_byoc.region.services.sagemaker.processing_jobs.processing_plan import (
    ProcessingPlan,
    plan_of,
)
from sagemaker_byoc.region.services.sagemaker.processing_jobs.processing_run import (
    ProcessingJob,
    ProcessingRun,
)
from sagemaker_byoc.region.services.sagemaker.resources import echoed, invalid
from sagemaker_byoc.region.wire.operations import Parameters

PROCESSING_JOB = JobKind(
    noun="processing job",
    member="ProcessingJob",
    resource="processing-job",
    folder="processing-jobs",
    group="/aws/sagemaker/ProcessingJobs",
    times="Processing",
    mark="processing_",
    event=state_changes.PROCESSING_JOB,
    subject=job_subject("ProcessingJob"),
)


class ProcessingJobs(Jobs[ProcessingRun]):
    def __init__(self, context: RegionContext) -> None:
        super().__init__(context, PROCESSING_JOB)

    def _prepare(self, request: Parameters) -> tuple[Parameters, ProcessingRun]:
        name = request["ProcessingJobName"]
        plan = plan_of(request)
        image = self._context.images.resolve(plan.image)
        _require_command(plan, image)
        wanted = {f"Output {each.name!r}: S3Uri": each.bucket for each in plan.outputs}
        inputs.require_storage(self._context.store, wanted, plan.inputs)
        members: dict[str, Any] = {
            **echoed(request, "DescribeProcessingJobResponse"),
            **with_defaults(request),
        }
        members.pop(self.kind.name_member)
        document = self.resources.new(name, **members, ProcessingJobStatus=Status.IN_PROGRESS.value)
        document["LastModifiedTime"] = document["CreationTime"]
        job = ProcessingJob(
            kind=self.kind,
            name=name,
            request=request,
            context=self._context,
            hosts=plan.hosts,
            plan=plan,
            image=image,
        )
        return document, ProcessingRun(job, self._record(name), self._forget)


def _require_command(plan: ProcessingPlan, image: Image) -> None:
    """Refuse a job without a command on the engine without images, whose own have none."""
    if image.command and PROGRAM_DIR not in image.environment and not plan.entrypoint:
        raise invalid(
            f"AppSpecification.ContainerEntrypoint is needed: {image.name} holds no program. Name "
            "a command, or an image that `byoc build` recorded from a program"
        )
