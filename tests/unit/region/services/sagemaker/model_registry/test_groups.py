"""Model package groups: their life, AWS's words for them, their policies."""

from __future__ import annotations

import asyncio
import json

import pytest
from tests.support.members import unread_members
from tests.unit.region.services.sagemaker.endpoints.conftest import ARN, HostingRegion

from sagemaker_byoc.region.wire import models
from sagemaker_byoc.region.wire.operations import AwsError

GROUP = f"{ARN}:model-package-group/digits"
POLICY = json.dumps({"Version": "2012-10-17", "Statement": []})


async def conflict(region, operation, **parameters):
    with pytest.raises(AwsError) as caught:
        await region.call(operation, **parameters)
    assert caught.value.code == "ConflictException"
    return caught.value.message


def test_life_of_a_group(play):
    async def scene(region):
        made = await region.call(
            "CreateModelPackageGroup",
            ModelPackageGroupName="digits",
            ModelPackageGroupDescription="handwritten",
            Tags=[{"Key": "team", "Value": "red"}],
        )
        assert made == {"ModelPackageGroupArn": GROUP}
        found = await region.call("DescribeModelPackageGroup", ModelPackageGroupName="digits")
        assert found.pop("CreationTime")
        assert found.pop("CreatedBy")["IamIdentity"]["Arn"].startswith("arn:aws:sts::")
        assert found == {
            "ModelPackageGroupName": "digits",
            "ModelPackageGroupArn": GROUP,
            "ModelPackageGroupDescription": "handwritten",
            "ModelPackageGroupStatus": "Completed",
        }
        by_arn = await region.call("DescribeModelPackageGroup", ModelPackageGroupName=GROUP)
        assert by_arn["ModelPackageGroupName"] == "digits"
        tags = await region.call("ListTags", ResourceArn=GROUP)
        assert tags["Tags"] == [{"Key": "team", "Value": "red"}]
        await region.call("CreateModelPackage", ModelPackageGroupName="digits")
        text = await conflict(region, "DeleteModelPackageGroup", ModelPackageGroupName="digits")
        assert GROUP in text
        await region.call("DeleteModelPackage", ModelPackageName=f"{ARN}:model-package/digits/1")
        await region.call("DeleteModelPackageGroup", ModelPackageGroupName=GROUP)
        assert (await region.call("ListTags", ResourceArn=GROUP))["Tags"] == []

    play(scene)


def test_words_for_what_is_missing_or_there(play):
    """Clients look for these texts."""

    async def scene(region):
        refused = region.refused
        await region.call("CreateModelPackageGroup", ModelPackageGroupName="digits")
        assert await refused("CreateModelPackageGroup", ModelPackageGroupName="digits") == (
            f"Model Package Group already exists: {GROUP}"
        )
        other = f"{ARN}:model-package-group/other"
        for operation in ("DescribeModelPackageGroup", "DeleteModelPackageGroup"):
            for name in ("other", other):
                assert await refused(operation, ModelPackageGroupName=name) == (
                    f"ModelPackageGroup {other} does not exist."
                )
        elsewhere = GROUP.replace("us-east-1", "eu-west-1")
        assert await refused("DescribeModelPackageGroup", ModelPackageGroupName=elsewhere) == (
            "ARN should be scoped to correct region: us-east-1"
        )
        of_others = GROUP.replace("000000000000", "111122223333")
        assert await refused("DescribeModelPackageGroup", ModelPackageGroupName=of_others) == (
            f"ModelPackageGroup {of_others} does not exist."
        )
        package = f"{ARN}:model-package/digits"
        text = await refused("DescribeModelPackageGroup", ModelPackageGroupName=package)
        assert "is not the ARN of a model package group" in text

    play(scene)


def test_policies(play):
    """A policy is kept with its group; its absence has a text of its own."""

    async def scene(region):
        name = {"ModelPackageGroupName": "digits"}
        missing = f"Cannot find Model Package Group: {GROUP}"
        assert await region.refused("GetModelPackageGroupPolicy", **name) == missing
        put = {**name, "ResourcePolicy": POLICY}
        assert await region.refused("PutModelPackageGroupPolicy", **put) == missing
        await region.call("CreateModelPackageGroup", **name)
        none = f"Cannot find resource policy for: {GROUP}"
        assert await region.refused("GetModelPackageGroupPolicy", **name) == none
        assert await region.refused("DeleteModelPackageGroupPolicy", **name) == none
        for text in ("no JSON", "[]"):
            found = await region.refused("PutModelPackageGroupPolicy", **name, ResourcePolicy=text)
            assert "ResourcePolicy is not a JSON document" in found
        put = await region.call("PutModelPackageGroupPolicy", **put)
        assert put == {"ModelPackageGroupArn": GROUP}
        found = await region.call("GetModelPackageGroupPolicy", **name)
        assert found == {"ResourcePolicy": POLICY}
        assert POLICY not in str(await region.call("DescribeModelPackageGroup", **name))
        await region.call("DeleteModelPackageGroupPolicy", **name)
        assert await region.refused("GetModelPackageGroupPolicy", **name) == none

    play(scene)


def test_lists(play):
    async def scene(region):
        for name in ("digits", "words", "digits-old"):
            await region.call("CreateModelPackageGroup", ModelPackageGroupName=name)

        async def names(**asked):
            found = await region.call("ListModelPackageGroups", **asked)
            return [each["ModelPackageGroupName"] for each in found["ModelPackageGroupSummaryList"]]

        assert await names(SortBy="Name", SortOrder="Ascending") == [
            "digits",
            "digits-old",
            "words",
        ]
        assert await names(NameContains="GIT", SortBy="Name") == ["digits", "digits-old"]
        assert await names(CrossAccountFilterOption="CrossAccount") == []
        assert len(await names(CrossAccountFilterOption="SameAccount")) == 3

    play(scene)


def test_no_member_is_ignored(tmp_path):
    """Each is looked at, or kept for the description."""

    async def main():
        async with HostingRegion(tmp_path) as region:
            operations = {
                name: run for name, run in region.operations.items() if "ModelPackageGroup" in name
            }
            return await asyncio.to_thread(unread_members, "sagemaker", operations)

    shape = models.service_model("sagemaker").shape_for("DescribeModelPackageGroupOutput")
    kept = {f"CreateModelPackageGroup.{member}" for member in shape.members}
    assert not asyncio.run(main()) - kept
