"""Where a launch goes and with what: known before the plan is made, so that the plan is pure."""

from __future__ import annotations

from dataclasses import dataclass

from sagemaker_byoc.host.aws_calls import Call
from sagemaker_byoc.launch.steps import Step

_FIRST_REGION = "us-east-1"
TAG_PREFIX = "byoc:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    region: str
    account: str
    image: str
    """As SageMaker gets it: pinned by its digest if it is in a registry."""
    digest: str
    """`sha256:…` of the image; empty if it is unknown."""
    role: str
    """Its ARN."""
    commit: str
    """Commit of the code; empty without a repository."""
    bucket: str = ""
    """The bucket that the user chose, which is not created."""
    cuda: str | None = ""
    """The CUDA version of the image; empty if it states none, None if it can't be read."""
    endpoint: str = ""
    """The URL of a region that is not AWS's."""

    def aws(self, command: str) -> str:
        """Return a command for this place, whatever the shell's variables are."""
        start = f"aws --endpoint-url {self.endpoint}" if self.endpoint else "aws"
        return f"{start} --region {self.region} {command}"

    @property
    def data_bucket(self) -> str:
        """The chosen bucket, or the default as the SageMaker SDK names it."""
        return self.bucket or f"sagemaker-{self.region}-{self.account}"

    def bucket_steps(self) -> tuple[Step, ...]:
        """Return the step that creates the default bucket, which must be this account's."""
        if self.bucket:
            return ()
        name = self.data_bucket
        parameters: dict[str, object] = {"Bucket": name}
        if self.region != _FIRST_REGION:  # S3 rejects it as a constraint
            parameters["CreateBucketConfiguration"] = {"LocationConstraint": self.region}
        owner = {"Bucket": name, "ExpectedBucketOwner": self.account}
        step = Step(
            makes=f"bucket {name}",
            call=Call("s3", "CreateBucket", parameters),
            look=Call("s3", "HeadBucket", owner),
            undo=self.aws(f"s3 rb s3://{name}"),
        )
        return (step,)

    def tags(self, config: str, own: dict[str, str]) -> list[dict[str, str]]:
        """Return the user's tags, and those that name what this was made from."""
        made = {"image-digest": self.digest, "commit": self.commit, "config": config}
        found = {f"{TAG_PREFIX}{name}": value for name, value in made.items() if value} | own
        return [{"Key": key, "Value": value} for key, value in found.items()]


def role_arn(role: str, region: str, account: str) -> str:
    """Return the role's ARN; `role` may be an ARN, or the name of a role of the account."""
    if role.startswith("arn:"):
        return role
    partition = "aws"
    if region.startswith(("cn-", "us-gov-")):
        partition = f"aws-{region.rpartition('-')[0].rpartition('-')[0]}"
    return f"arn:{partition}:iam::{account}:role/{role}"
