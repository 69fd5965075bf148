"""The AWS account and region that the local region stands for, and the ARNs in it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

ACCOUNT = "000000000000"
DEFAULT_REGION = "us-east-1"
"""A region that exists: SDKs look up endpoints and image accounts by its name."""


@dataclass(frozen=True, slots=True)
class Account:
    id: str = ACCOUNT
    region: str = DEFAULT_REGION

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Account:
        """Return the account of what runs without a region, in the AWS region of the shell."""
        named = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
        return cls(region=named or DEFAULT_REGION)

    def arn(self, service: str, resource: str) -> str:
        """Return an ARN such as `arn:aws:sagemaker:us-east-1:000000000000:training-job/NAME`."""
        region = "" if service in {"iam", "s3"} else self.region
        account = "" if service == "s3" else self.id
        return f"arn:aws:{service}:{region}:{account}:{resource}"

    @property
    def role(self) -> str:
        """The execution role that exists from the start."""
        return self.arn("iam", "role/service-role/SageMakerRole")

    def session_arn(self, role: str, session: str) -> str:
        """Return the ARN under which an assumed `role` works, which is named by ARN or by name."""
        return f"arn:aws:sts::{self.id}:assumed-role/{role.rpartition('/')[2]}/{session}"


def unique_id(kind: str, name: str) -> str:
    """Return an id of IAM's form, such as AROA…, that is the same after a restart."""
    return kind + hashlib.sha256(name.encode()).hexdigest()[:17].upper()
