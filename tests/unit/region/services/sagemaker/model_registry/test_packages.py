"""Model packages: versions, idempotency, descriptions, lists, changes, and what is refused."""

from __future__ import annotations

import asyncio
import json

import pytest
from tests.support.members import unread_members
from tests.unit.region.services.sagemaker.endpoints.conftest import ARN, HostingRegion

from sagemaker_byoc.region.wire import models
from sagemaker_byoc.region.wire.operations import AwsError

PACKAGE = f"{ARN}:model-package/digits"
INSTANCES = {
    "SupportedTransformInstanceTypes": ["ml.m5.large"],
    "SupportedRealtimeInferenceInstanceTypes": ["ml.m5.large"],
}


def specification(*containers, **more):
    return {
        "Containers": [*(containers or ({"Image": "serve:1"},))],
        "SupportedContentTypes": ["text/csv"],
        "SupportedResponseMIMETypes": ["text/csv"],
        **more,
    }


async def group(region, name="digits"):
    await region.call("CreateModelPackageGroup", ModelPackageGroupName=name)


async def version(region, name="digits", **more):
    more.setdefault("InferenceSpecification", specification())
    more = {member: value for member, value in more.items() if value is not None}
    found = await region.call("CreateModelPackage", ModelPackageGroupName=name, **more)
    return found["ModelPackageArn"]


async def describe(region, name=f"{PACKAGE}/1", **more):
    return await region.call("DescribeModelPackage", ModelPackageName=name, **more)


async def update(region, arn=f"{PACKAGE}/1", **more):
    await region.call("UpdateModelPackage", ModelPackageArn=arn, **more)
    return await describe(region, arn)


def test_description_of_a_version(play):
    """As AWS's guide shows it: without a ModelPackageName, and Pending until it is approved."""

    async def scene(region):
        await group(region)
        region.store.create_bucket("models")
        region.store.put_bytes("models", "model.tar.gz", b"data")
        container = {"Image": "serve:1", "ModelDataUrl": "s3://models/model.tar.gz"}
        kept = {
            "ModelPackageDescription": "handwritten",
            "MetadataProperties": {"CommitId": "abc", "GeneratedBy": "me"},
            "ModelMetrics": {
                "ModelQuality": {"Statistics": {"ContentType": "a", "S3Uri": "s3://b"}}
            },
            "DriftCheckBaselines": {"Bias": {"ConfigFile": {"S3Uri": "s3://b/c"}}},
            "CustomerMetadataProperties": {"owner": "me"},
            "Domain": "COMPUTER_VISION",
            "Task": "IMAGE_CLASSIFICATION",
            "SamplePayloadUrl": "s3://b/d",
            "SkipModelValidation": "All",
            "ModelLifeCycle": {"Stage": "Development", "StageStatus": "InProgress"},
            "SourceUri": "https://example.org/model",
            "ModelPackageRegistrationType": "Registered",
            "SecurityConfig": {"KmsKeyId": "key"},
            "ValidationSpecification": {"ValidationRole": "role", "ValidationProfiles": []},
        }
        await version(region, InferenceSpecification=specification(container), **kept)
        found = await describe(region)
        assert found.pop("CreationTime") == found.pop("LastModifiedTime")
        assert found.pop("CreatedBy") == found.pop("LastModifiedBy")
        (described,) = found.pop("InferenceSpecification")["Containers"]
        assert described.pop("ModelDataETag")
        assert described == {**container, "ImageDigest": "sha256:1"}
        assert found == {
            **kept,
            "ModelPackageGroupName": "digits",
            "ModelPackageVersion": 1,
            "ModelPackageArn": f"{PACKAGE}/1",
            "ModelPackageStatus": "Completed",
            "ModelPackageStatusDetails": {"ValidationStatuses": [], "ImageScanStatuses": []},
            "ModelApprovalStatus": "PendingManualApproval",
            "CertifyForMarketplace": False,
        }

    play(scene)


def test_what_the_region_lacks_can_be_registered(play):
    """An image and data elsewhere: CreateModel looks for them, the registry does not."""

    async def scene(region):
        await group(region)
        absent = {"Image": "absent:1", "ModelDataUrl": "s3://none/x"}
        await version(
            region, InferenceSpecification=specification(absent, {"ModelDataUrl": "s3:/"})
        )
        found = (await describe(region))["InferenceSpecification"]["Containers"]
        assert found == [absent, {"ModelDataUrl": "s3:/"}]

    play(scene)


def test_versions_count_from_one_and_are_not_used_again(play, tmp_path):
    """Also after the newest is deleted, and in another life of the region."""

    async def scene(region):
        await group(region)
        await group(region, "words")
        assert [await version(region) for _ in range(2)] == [f"{PACKAGE}/1", f"{PACKAGE}/2"]
        assert (await version(region, "words")).endswith("/words/1")
        await region.call("DeleteModelPackage", ModelPackageName=f"{PACKAGE}/2")
        assert await version(region) == f"{PACKAGE}/3"
        await region.call("DeleteModelPackage", ModelPackageName=f"{PACKAGE}/3")

    async def again(region):
        assert await version(region, f"{ARN}:model-package-group/digits") == f"{PACKAGE}/4"
        found = await describe(region, f"{PACKAGE}/0001")
        assert found["ModelPackageVersion"] == 1

    play(scene)
    play(again)


def test_versions_at_the_same_time(play):
    async def scene(region):
        await group(region)
        made = await asyncio.gather(*(version(region, Domain=f"d{n}") for n in range(20)))
        assert sorted(int(arn.rpartition("/")[2]) for arn in made) == [*range(1, 21)]

    play(scene)


def test_a_token_makes_one_package(play):
    """Also of two requests at the same time; a client never repeats one for another request."""

    async def scene(region):
        await group(region)
        both = await asyncio.gather(*(version(region, ClientToken="t") for _ in range(2)))
        assert both == [f"{PACKAGE}/1"] * 2
        with pytest.raises(AwsError) as caught:
            await version(region, ClientToken="t", Domain="other")
        assert caught.value.code == "ConflictException"
        assert f"{PACKAGE}/1" in caught.value.message
        assert await version(region, ClientToken="u") == f"{PACKAGE}/2"
        await group(region, "words")
        assert (await version(region, "words", ClientToken="t")).endswith("words/1")

    async def again(region):
        """In another life of the region; and a package that is gone is not returned."""
        assert await version(region, ClientToken="t") == f"{PACKAGE}/1"
        await region.call("DeleteModelPackage", ModelPackageName=f"{PACKAGE}/1")
        assert await version(region, ClientToken="t") == f"{PACKAGE}/3"

    play(scene)
    play(again)


def test_package_of_its_own_name(play):
    async def scene(region):
        how = {"InferenceSpecification": specification(**INSTANCES)}
        asked = {"ModelPackageName": "digits", **how, "ModelApprovalStatus": "Approved"}
        tags = [{"Key": "team", "Value": "red"}]
        made = await region.call("CreateModelPackage", **asked, Tags=tags)
        assert made == {"ModelPackageArn": PACKAGE}
        for name in ("digits", PACKAGE):
            found = await describe(region, name)
            assert found["ModelPackageName"] == "digits"
            assert found.keys().isdisjoint({"ModelPackageVersion", "ModelApprovalStatus"})
        assert await region.refused("CreateModelPackage", **asked) == (
            f"ModelPackage already exists: {PACKAGE}"
        )
        assert (await region.call("ListTags", ResourceArn=PACKAGE))["Tags"] == tags
        text = await region.refused(
            "UpdateModelPackage", ModelPackageArn=PACKAGE, ModelApprovalStatus="Approved"
        )
        assert "only supported for versioned" in text
        await group(region)
        await version(region)
        await region.call("DeleteModelPackage", ModelPackageName="digits")
        assert await region.refused("DescribeModelPackage", ModelPackageName="digits") == (
            f"ModelPackage {PACKAGE} does not exist."
        )
        assert (await describe(region))["ModelPackageVersion"] == 1

    play(scene)


ENVIRONMENT = {"Image": "a", "Environment": {"A": "b"}}
SOURCE = {"S3DataSource": {}}


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({}, "Missing ARN."),
        (
            {"ModelPackageName": "a", "ModelPackageGroupName": "digits"},
            "Both ModelPackageName and ModelPackageGroupName are provided in the input. Cannot",
        ),
        ({"ModelPackageGroupName": "none"}, "ModelPackageGroup arn"),
        (
            {"ModelPackageGroupName": "digits", "Tags": [{"Key": "a", "Value": "b"}]},
            "Tags can't be",
        ),
        ({"ModelPackageName": "a"}, "Give an InferenceSpecification or a SourceAlgorithm"),
        ({"ModelPackageName": "a", "SourceUri": "s3://b"}, "SourceUri is not supported for unver"),
        (
            {"ModelPackageName": "a", "InferenceSpecification": specification(ENVIRONMENT)},
            "Environment variable map cannot be specified when using non-versioned ModelPackages",
        ),
        (
            {
                "ModelPackageName": "a",
                "InferenceSpecification": specification({"Image": "a", "ModelDataSource": SOURCE}),
            },
            "ModelDataSource is not supported for unversioned",
        ),
        (
            {"ModelPackageName": "a", "InferenceSpecification": specification()},
            "SupportedTransformInstanceTypes is required for unversioned",
        ),
        (
            {
                "ModelPackageGroupName": "digits",
                "InferenceSpecification": specification(),
                "SourceUri": f"{PACKAGE}/1",
            },
            "has its own InferenceSpecification",
        ),
        (
            {"ModelPackageGroupName": "digits", "SourceUri": f"{PACKAGE}/9"},
            f"ModelPackage {PACKAGE}/9 does not exist.",
        ),
        (
            {"ModelPackageGroupName": "digits", "SourceUri": "arn::sagemaker:model/x"},
            "arn::sagemaker:model/x is not an ARN such as arn:aws:sagemaker:us-east-1:",
        ),
        (
            {"ModelPackageGroupName": "digits", "SourceUri": f"{ARN}:model/none"},
            "Could not find model",
        ),
        (
            {
                "ModelPackageGroupName": "digits",
                "AdditionalInferenceSpecifications": [{"Name": "a"}, {"Name": "a"}],
            },
            "more than one inference specification named a",
        ),
        (
            {"ModelPackageGroupName": "digits", "ManagedStorageType": "Restricted"},
            "ManagedStorageType is not supported",
        ),
    ],
)
def test_what_is_refused(play, asked, words):
    async def scene(region):
        await group(region)
        assert words in await region.refused("CreateModelPackage", **asked)
        assert (await version(region)) == f"{PACKAGE}/1"  # no version is lost

    play(scene)


def test_what_is_missing(play):
    async def scene(region):
        for arn in (f"{PACKAGE}/1", PACKAGE):
            gone = f"ModelPackage {arn} does not exist."
            for operation in ("DescribeModelPackage", "DeleteModelPackage"):
                assert await region.refused(operation, ModelPackageName=arn) == gone
            assert await region.refused("UpdateModelPackage", ModelPackageArn=arn) == gone
        elsewhere = f"{PACKAGE}/1".replace("us-east-1", "eu-west-1")
        assert await region.refused("DescribeModelPackage", ModelPackageName=elsewhere) == (
            "ARN should be scoped to correct region: us-east-1"
        )

    play(scene)


def test_source_uri_of_a_model_and_of_a_package(play):
    """The specification is theirs."""

    async def scene(region):
        await group(region)
        await region.model(A="b")
        arn = await version(region, InferenceSpecification=None, SourceUri=f"{ARN}:model/model")
        found = await describe(region, arn)
        assert found["InferenceSpecification"]["Containers"] == [
            {"Image": "serve:1", "ImageDigest": "sha256:1", "Environment": {"A": "b"}}
        ]
        assert found["SourceUri"] == f"{ARN}:model/model"
        clone = await version(region, InferenceSpecification=None, SourceUri=arn)
        again = await describe(region, clone)
        assert again["InferenceSpecification"] == found["InferenceSpecification"]

    play(scene)


def test_updates(play):
    async def scene(region):
        await group(region)
        await version(region, CustomerMetadataProperties={"owner": "me", "old": "1"})
        found = await update(region, ModelApprovalStatus="Approved", ApprovalDescription="good")
        assert (found["ModelApprovalStatus"], found["ApprovalDescription"]) == ("Approved", "good")
        assert found["LastModifiedTime"] >= found["CreationTime"]
        found = await update(
            region,
            CustomerMetadataProperties={"owner": "you", "new": "2"},
            CustomerMetadataPropertiesToRemove=["old", "none"],
        )
        assert found["CustomerMetadataProperties"] == {"owner": "you", "new": "2"}
        assert found["ModelApprovalStatus"] == "Approved"
        found = await update(region, CustomerMetadataPropertiesToRemove=["owner", "new"])
        assert "CustomerMetadataProperties" not in found
        more = {"Name": "small", **specification({"Image": "serve:2"})}
        adding = {"AdditionalInferenceSpecificationsToAdd": [more]}
        for _ in range(2):  # a client that repeats its request
            found = await update(region, ClientToken="t", **adding)
            assert found["AdditionalInferenceSpecifications"] == [more]
        text = await region.refused("UpdateModelPackage", ModelPackageArn=f"{PACKAGE}/1", **adding)
        assert "more than one inference specification named small" in text
        found = await update(
            region,
            InferenceSpecification=specification({"Image": "serve:3"}),
            SourceUri="https://example.org",
            ModelLifeCycle={"Stage": "Production", "StageStatus": "Done"},
            ModelPackageRegistrationType="Logged",
        )
        (container,) = found["InferenceSpecification"]["Containers"]
        assert container == {"Image": "serve:3", "ImageDigest": "sha256:1"}
        assert found["SourceUri"] == "https://example.org"
        assert found["ModelLifeCycle"]["Stage"] == "Production"
        assert found["ModelPackageRegistrationType"] == "Logged"
        metadata = {f"k{number}": "v" for number in range(51)}
        text = await region.refused(
            "UpdateModelPackage",
            ModelPackageArn=f"{PACKAGE}/1",
            CustomerMetadataProperties=metadata,
        )
        assert "at most 50 CustomerMetadataProperties" in text

    play(scene)


def test_model_card(play):
    """SDK 2 sends its content and its status one after the other."""

    async def scene(region):
        await group(region)
        content = {
            "intended_uses": {"risk_rating": "Low", "purpose_of_model": "x"},
            "model_overview": {"model_creator": "me"},
        }
        await version(region, ModelCard={"ModelCardContent": json.dumps(content)})
        found = await describe(region)
        assert found["ModelCard"]["ModelCardStatus"] == "Draft"
        found = await update(region, ModelCard={"ModelCardStatus": "Approved"})
        assert found["ModelCard"] == {
            "ModelCardStatus": "Approved",
            "ModelCardContent": json.dumps(content),
        }
        found = await describe(region, IncludedData="MetadataOnly")
        assert json.loads(found["ModelCard"]["ModelCardContent"]) == {
            "intended_uses": {"risk_rating": "Low"}
        }
        for content in ("no JSON", "[]"):
            await update(region, ModelCard={"ModelCardContent": content})
            found = await describe(region, IncludedData="MetadataOnly")
            assert found["ModelCard"]["ModelCardContent"] == "{}"

    play(scene)


def test_lists(play):
    async def scene(region):
        await group(region)
        await group(region, "words")
        for number in range(3):
            await version(region, ModelPackageDescription=str(number))
        await version(region, "words")
        how = {"InferenceSpecification": specification(**INSTANCES)}
        await region.call("CreateModelPackage", ModelPackageName="own", **how)
        await update(region, f"{PACKAGE}/2", ModelApprovalStatus="Approved")

        async def arns(**asked):
            found = await region.call("ListModelPackages", **asked)
            assert all(each["ModelPackageStatus"] for each in found["ModelPackageSummaryList"])
            named = [each.get("ModelPackageName") for each in found["ModelPackageSummaryList"]]
            assert {*named} <= {None, "own"}
            return [
                each["ModelPackageArn"].partition("package/")[2]
                for each in found["ModelPackageSummaryList"]
            ]

        assert await arns() == ["own"]  # AWS lists unversioned packages unless it is told otherwise
        of_group = {"ModelPackageGroupName": "digits", "SortOrder": "Ascending"}
        assert await arns(**of_group) == ["digits/1", "digits/2", "digits/3"]
        of_group["ModelPackageGroupName"] = f"{ARN}:model-package-group/digits"
        assert len(await arns(**of_group)) == 3
        assert await arns(**of_group, ModelApprovalStatus="Approved") == ["digits/2"]
        assert await arns(**of_group, ModelApprovalStatus="Rejected") == []
        assert len(await arns(ModelPackageType="Versioned")) == 4
        assert len(await arns(ModelPackageType="Both")) == 5
        assert await arns(ModelPackageType="Both", NameContains="word") == ["words/1"]
        assert await region.refused("ListModelPackages", ModelPackageGroupName="none") == (
            f"ModelPackageGroup {ARN}:model-package-group/none does not exist."
        )
        page = await region.call("ListModelPackages", **of_group, MaxResults=2)
        rest = await region.call("ListModelPackages", **of_group, NextToken=page["NextToken"])
        assert len(rest["ModelPackageSummaryList"]) == 1

    play(scene)


def test_batch(play):
    async def scene(region):
        await group(region)
        await version(region)
        how = {"InferenceSpecification": specification(**INSTANCES)}
        await region.call("CreateModelPackage", ModelPackageName="own", **how)
        own = f"{ARN}:model-package/own"
        arns = [f"{PACKAGE}/1", f"{PACKAGE}/2", own]
        found = await region.call("BatchDescribeModelPackage", ModelPackageArnList=arns)
        summary = found["ModelPackageSummaries"].pop(f"{PACKAGE}/1")
        assert summary["ModelApprovalStatus"] == "PendingManualApproval"
        assert summary["InferenceSpecification"]["Containers"]
        assert found == {
            "ModelPackageSummaries": {},
            "BatchDescribeModelPackageErrorMap": {
                f"{PACKAGE}/2": {
                    "ErrorCode": "ValidationException",
                    "ErrorResponse": f"ModelPackage {PACKAGE}/2 does not exist.",
                },
                own: {
                    "ErrorCode": "ValidationException",
                    "ErrorResponse": f"ModelPackage {own} is not versioned",
                },
            },
        }

    play(scene)


def test_no_member_is_ignored(tmp_path):
    """Each is looked at, or kept for the description."""

    async def main():
        async with HostingRegion(tmp_path) as region:
            await group(region)
            await version(region)
            operations = {
                name: run
                for name, run in region.operations.items()
                if "ModelPackage" in name and "Group" not in name
            }
            known = {
                "ModelPackageName": f"{PACKAGE}/1",
                "ModelPackageGroupName": "digits",
                "ModelPackageArn": f"{PACKAGE}/1",
                "ModelPackageArnList": [f"{PACKAGE}/1"],
            }
            del operations["DeleteModelPackage"]
            always = ("ModelPackageGroupName",)
            return await asyncio.to_thread(
                unread_members, "sagemaker", operations, always=always, **known
            )

    shape = models.service_model("sagemaker").shape_for("DescribeModelPackageOutput")
    kept = {f"CreateModelPackage.{member}" for member in shape.members}
    unread = asyncio.run(main())
    assert unread - kept == set()


def test_events_say_what_was_updated(play):
    async def scene(region):
        await group(region)
        await version(region)
        await update(region, ModelApprovalStatus="Approved", ApprovalDescription="good")
        await update(region, ModelApprovalStatus="Approved")
        queue = region.context.events._queue
        events = [queue.get() for _ in range(queue.qsize())]
        made, approved = (each for each in events if "Package State" in each.detail_type)
        assert made.detail["ModelPackageVersion"] == 1
        assert made.detail["ModelApprovalStatus"] == "PendingManualApproval"
        assert "UpdatedModelPackageFields" not in made.detail
        assert approved.resources == (f"{PACKAGE}/1",)
        assert approved.detail["ModelApprovalStatus"] == "Approved"
        fields = ["ModelApprovalStatus", "ApprovalDescription"]
        assert approved.detail["UpdatedModelPackageFields"] == fields
        assert "CreateToken" not in approved.detail

    play(scene)
