"""Models that are made from packages: approval, containers, variables, what is refused."""

from __future__ import annotations

import pytest
from tests.unit.region.services.sagemaker.endpoints.conftest import ARN
from tests.unit.region.services.sagemaker.model_registry.test_packages import (
    INSTANCES,
    PACKAGE,
    group,
    specification,
    update,
    version,
)

ONE = f"{PACKAGE}/1"


async def approved(region, *containers, **more):
    await group(region)
    await version(
        region,
        InferenceSpecification=specification(*containers),
        ModelApprovalStatus="Approved",
        **more,
    )


async def model(region, name="model", **container):
    primary = {"ModelPackageName": ONE, **container}
    await region.call("CreateModel", ModelName=name, PrimaryContainer=primary)
    return await region.call("DescribeModel", ModelName=name)


async def refused(region, **container):
    primary = {"ModelPackageName": ONE, **container}
    return await region.refused("CreateModel", ModelName="m", PrimaryContainer=primary)


def test_only_an_approved_version_is_deployed(play):
    """The model has what the package had then, whatever becomes of the package."""

    async def scene(region):
        await group(region)
        await version(region)
        for status in ("PendingManualApproval", "Rejected"):
            await update(region, ModelApprovalStatus=status)
            assert await refused(region) == (
                f"Model package {ONE} can't be deployed: its ModelApprovalStatus is {status}, and "
                "must be set to Approved to deploy the model"
            )
        await update(region, ModelApprovalStatus="Approved")
        containers = [{"ModelPackageName": ONE}]
        await region.call("CreateModel", ModelName="model", Containers=containers)
        await update(region, ModelApprovalStatus="Rejected")
        await region.call("DeleteModelPackage", ModelPackageName=ONE)
        found = await region.call("DescribeModel", ModelName="model")
        named = {"ModelPackageName": ONE, "Mode": "SingleModel", "Environment": {}}
        assert found["Containers"] == [named]
        await region.config()
        assert (await region.endpoint())["EndpointStatus"] == "InService"
        assert (await region.invoke(b"x")).body == b"x"

    play(scene)


def test_variables_of_the_model_win(play):
    async def scene(region):
        environment = {"PREFIX": "package:", "A": "1"}
        await approved(region, {"Image": "serve:1", "Environment": environment})
        found = await model(region, Environment={"PREFIX": "model:"})
        assert found["PrimaryContainer"]["Environment"] == {"PREFIX": "model:"}
        await region.config()
        await region.endpoint()
        assert (await region.invoke(b"x")).body == b"model:x"
        (container,) = region.engine.started
        assert container.variables["A"] == "1"

    play(scene)


def test_package_of_several_containers(play):
    """SDK 2 names it as the PrimaryContainer; an inference pipeline comes of it."""

    async def scene(region):
        await approved(
            region,
            *({"Image": "serve:1", "Environment": {"PREFIX": f"{name}:"}} for name in "abc"),
        )
        found = await model(region)
        assert found["PrimaryContainer"]["ModelPackageName"] == ONE
        assert "Containers" not in found
        await region.config()
        await region.endpoint()
        assert (await region.invoke(b"x")).body == b"c:b:a:x"
        assert "ContainerHostname can't name the several containers" in await refused(
            region, ContainerHostname="one"
        )

    play(scene)


def test_package_beside_other_containers(play):
    async def scene(region):
        await approved(region, {"Image": "serve:1", "Environment": {"PREFIX": "package:"}})
        own = {"Image": "serve:2", "ContainerHostname": "own", "Environment": {"PREFIX": "own:"}}
        named = {"ModelPackageName": ONE, "ContainerHostname": "registered"}
        await region.call("CreateModel", ModelName="model", Containers=[own, named])
        await region.config()
        await region.endpoint()
        assert (await region.invoke(b"x")).body == b"package:own:x"
        hosts = [each.spec.hostname for each in region.engine.started]
        assert sorted(hosts) == ["own", "registered"]

    play(scene)


def test_a_described_model_can_be_made_again(play):
    """DescribeModel answers what CreateModel was asked, as SDK 3 takes it for a pipeline."""

    async def scene(region):
        await approved(region)
        found = await model(region)
        again = await model(region, "again", **found["PrimaryContainer"])
        assert again["PrimaryContainer"] == found["PrimaryContainer"]
        await version(region, InferenceSpecification=None, SourceUri=found["ModelArn"])
        package = await region.call("DescribeModelPackage", ModelPackageName=f"{PACKAGE}/2")
        (container,) = package["InferenceSpecification"]["Containers"]
        assert container["Image"] == "serve:1"

    play(scene)


def test_additional_specification(play):
    async def scene(region):
        more = {"Name": "small", **specification({"Image": "serve:small"})}
        await approved(region, AdditionalInferenceSpecifications=[more])
        found = await model(region, InferenceSpecificationName="small")
        assert found["PrimaryContainer"]["InferenceSpecificationName"] == "small"
        await region.config()
        described = await region.endpoint()
        (image,) = described["ProductionVariants"][0]["DeployedImages"]
        assert image["SpecifiedImage"] == "serve:small"
        assert await refused(region, InferenceSpecificationName="large") == (
            f"Model package {ONE} has no inference specification named large. It has: small"
        )
        alone = {"Image": "serve:1", "InferenceSpecificationName": "small"}
        text = await region.refused("CreateModel", ModelName="m", PrimaryContainer=alone)
        assert text == "InferenceSpecificationName needs a ModelPackageName"

    play(scene)


def test_an_unversioned_package_needs_no_approval(play):
    async def scene(region):
        await region.call(
            "CreateModelPackage",
            ModelPackageName="digits",
            InferenceSpecification=specification(**INSTANCES),
        )
        found = await model(region, ModelPackageName="digits")
        assert found["PrimaryContainer"]["ModelPackageName"] == "digits"

    play(scene)


@pytest.mark.parametrize(
    ("container", "words"),
    [
        ({"Image": "absent:1"}, "Cannot find image absent:1"),
        ({"Image": "a", "ModelDataUrl": "s3://no/x"}, "Could not find model data at s3://no/x."),
        ({"ModelDataUrl": "s3://no/x"}, "needs an Image"),
    ],
)
def test_what_a_package_names_is_looked_for(play, container, words):
    async def scene(region):
        await approved(region, container)
        assert words in await refused(region)

    play(scene)


def test_what_is_refused(play):
    async def scene(region):
        await approved(region)
        for member, value in {
            "Image": "serve:1",
            "ModelDataUrl": "s3://a/b",
            "ModelDataSource": {"S3DataSource": {}},
        }.items():
            text = await refused(region, **{member: value})
            assert text == f"Give either ModelPackageName or {member}: the package has its own"
        assert await refused(region, ModelPackageName="none") == (
            f"ModelPackage {ARN}:model-package/none does not exist."
        )
        algorithms = {"SourceAlgorithms": [{"AlgorithmName": "mine"}]}
        await region.call(
            "CreateModelPackage",
            ModelPackageName="algorithmic",
            SourceAlgorithmSpecification=algorithms,
        )
        found = await region.call("DescribeModelPackage", ModelPackageName="algorithmic")
        assert found["SourceAlgorithmSpecification"] == algorithms
        assert "has no InferenceSpecification, which this local region needs" in await refused(
            region, ModelPackageName="algorithmic"
        )
        text = await region.refused("CreateModel", ModelName="m", Containers=[])
        assert "Containers is empty" in text
        several = [{"ModelPackageName": ONE}] * 16
        text = await region.refused("CreateModel", ModelName="m", Containers=several)
        assert "at most 15" in text

    play(scene)
