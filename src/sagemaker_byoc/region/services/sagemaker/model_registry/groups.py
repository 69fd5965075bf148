"""Model package groups, and their resource policies, which are kept and not evaluated."""

from __future__ import annotations

import json

from sagemaker_byoc.region.core.account import Account, caller_arn, unique_id
from sagemaker_byoc.region.services.sagemaker.context import RegionContext
from sagemaker_byoc.region.services.sagemaker.resources import Kind, echoed, invalid
from sagemaker_byoc.region.wire.operations import AwsError, Operations, Parameters

_VERSIONS = "LastVersion"
"""Member of a group's document, and of no answer: the highest version it ever had."""
_POLICY = "ResourcePolicy"


def does_not_exist(kind: Kind, arn: str) -> AwsError:
    """Return SageMaker's error for a missing group or package."""
    return invalid(f"{kind.member} {arn} does not exist.")


def _already_exists(_kind: Kind, arn: str) -> AwsError:
    return invalid(f"Model Package Group already exists: {arn}")


GROUP = Kind(
    noun="model package group",
    member="ModelPackageGroup",
    resource="model-package-group",
    folder="model-package-groups",
    order="Ascending",
    missing=does_not_exist,
    taken=_already_exists,
)


def local_name(account: Account, kind: Kind, given: str) -> str:
    """Return a name as it is given, or that in an ARN: what follows `model-package/`.

    Raise AwsError for an ARN of another region, another account or another kind.
    """
    if not given.startswith("arn:"):
        return given
    parts = given.split(":", 5)
    if len(parts) < 6:
        raise invalid(
            f"{given} is not an ARN such as {account.arn('sagemaker', kind.resource)}/NAME"
        )
    _, _, service, region, owner, resource = parts
    if region != account.region:
        raise invalid(f"ARN should be scoped to correct region: {account.region}")
    word, _, name = resource.partition("/")
    if (service, word) != ("sagemaker", kind.resource):
        raise invalid(f"{given} is not the ARN of a {kind.noun}: arn:…:{kind.resource}/NAME")
    if owner != account.id:
        raise does_not_exist(kind, given)
    return name


def caller(account: Account) -> Parameters:
    """Return the signer of the current request as CreatedBy and LastModifiedBy show it."""
    arn = caller_arn(account)
    _, role, session = arn.split("/")
    return {"IamIdentity": {"Arn": arn, "PrincipalId": f"{unique_id('AROA', role)}:{session}"}}


class ModelPackageGroups:
    def __init__(self, context: RegionContext) -> None:
        self.resources = context.resources(GROUP)
        self._context = context

    def operations(self) -> Operations:
        return {
            "CreateModelPackageGroup": self.create,
            "DescribeModelPackageGroup": self.describe,
            "ListModelPackageGroups": self.list_page,
            "DeleteModelPackageGroup": self.delete,
            "PutModelPackageGroupPolicy": self.put_policy,
            "GetModelPackageGroupPolicy": self.policy,
            "DeleteModelPackageGroupPolicy": self.delete_policy,
        }

    def name(self, given: str) -> str:
        """Return the name of an existing group from its name or ARN. Raise AwsError."""
        name = local_name(self._context.account, GROUP, given)
        self.resources.get(name)
        return name

    def next_version(self, name: str, newest: int) -> int:
        """Return the next version of a group, which no package had before.

        `newest` is the highest version that it has now. Raise AwsError if there is no group.
        """
        found = 0

        def count(document: Parameters) -> None:
            nonlocal found
            found = document[_VERSIONS] = max(document.get(_VERSIONS, 0), newest) + 1

        self.resources.change(name, count)
        return found

    async def create(self, asked: Parameters) -> Parameters:
        name = asked["ModelPackageGroupName"]
        document = self.resources.new(
            name,
            **echoed(asked, "DescribeModelPackageGroupOutput"),
            CreatedBy=caller(self._context.account),
            ModelPackageGroupStatus="Completed",
        )
        self.resources.add(name, document, asked.get("Tags", ()))
        return {"ModelPackageGroupArn": document["ModelPackageGroupArn"]}

    async def describe(self, asked: Parameters) -> Parameters:
        return self.resources.described(
            self.resources.get(self.name(asked["ModelPackageGroupName"]))
        )

    async def list_page(self, asked: Parameters) -> Parameters:
        # Nothing is shared with this account by another.
        from_others = asked.get("CrossAccountFilterOption") == "CrossAccount"
        return self.resources.page([] if from_others else self.resources, asked)

    async def delete(self, asked: Parameters) -> Parameters:
        name = self.name(asked["ModelPackageGroupName"])
        versions = self._context.kinds["ModelPackage"].records
        if any(each.startswith(f"{name}.") for each in versions):
            raise AwsError(
                "ConflictException",
                f"Model Package Group {self.resources.arn(name)} has model packages. Delete them "
                "first",
            )
        self.resources.remove(name)
        return {}

    # ── policies ──

    async def put_policy(self, asked: Parameters) -> Parameters:
        name, policy = asked["ModelPackageGroupName"], asked["ResourcePolicy"]
        self._require(name)
        try:
            is_policy = isinstance(json.loads(policy), dict)
        except ValueError:
            is_policy = False
        if not is_policy:
            raise invalid("ResourcePolicy is not a JSON document: give the text of an IAM policy")
        self.resources.change(name, lambda document: document.update({_POLICY: policy}))
        return {"ModelPackageGroupArn": self.resources.arn(name)}

    async def policy(self, asked: Parameters) -> Parameters:
        return {"ResourcePolicy": self._policy(asked["ModelPackageGroupName"])}

    async def delete_policy(self, asked: Parameters) -> Parameters:
        name = asked["ModelPackageGroupName"]
        self._policy(name)

        def drop(document: Parameters) -> None:
            document.pop(_POLICY, None)

        self.resources.change(name, drop)
        return {}

    def _require(self, name: str) -> Parameters:
        if name not in self.resources:
            raise invalid(f"Cannot find Model Package Group: {self.resources.arn(name)}")
        return self.resources.get(name)

    def _policy(self, name: str) -> str:
        policy = self._require(name).get(_POLICY)
        if policy is None:
            raise invalid(f"Cannot find resource policy for: {self.resources.arn(name)}")
        return str(policy)
