"""Search over a region's resources: results, pages, orders, and what it lacks."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from tests.support.members import unread_members
from tests.unit.region.services.sagemaker.endpoints.conftest import ARN, HostingRegion

from sagemaker_byoc.region.services.sagemaker.training_jobs.record import TRAINING_JOB
from sagemaker_byoc.region.wire import models
from sagemaker_byoc.region.wire.json11 import encode


async def search(region, resource, *filters, **more):
    expression = {"SearchExpression": {"Filters": [*filters]}} if filters else {}
    found = await region.call("Search", Resource=resource, **expression, **more)
    shape = models.service_model("sagemaker").shape_for("SearchResponse")
    encode(shape, found)  # raises for members that AWS's answer lacks
    return found


def named(name, value):
    return {"Name": name, "Operator": "Equals", "Value": value}


async def groups(region, *names):
    for name in names:
        await region.call("CreateModelPackageGroup", ModelPackageGroupName=name)


def names(found, record="ModelPackageGroup"):
    return [each[record][f"{record}Name"] for each in found["Results"]]


def test_results_are_there_though_nothing_is_found(play):
    """SDK 2 falls back to a list, or fails, without the key."""

    async def scene(region):
        found = await search(region, "ModelPackageGroup", named("ModelPackageGroupName", "digits"))
        assert found == {"Results": [], "TotalHits": {"Value": 0, "Relation": "EqualTo"}}

    play(scene)


def test_groups_and_packages(play):
    async def scene(region):
        await groups(region, "digits", "words")
        for group in ("digits", "digits", "words"):
            await region.call(
                "CreateModelPackage",
                ModelPackageGroupName=group,
                InferenceSpecification={"Containers": [{"Image": "serve:1"}]},
                CustomerMetadataProperties={"owner": group},
            )
        name = {"SortBy": "ModelPackageGroupName"}
        assert names(await search(region, "ModelPackageGroup", **name)) == ["words", "digits"]
        found = await search(region, "ModelPackage", named("ModelPackageGroupName", "digits"))
        packages = [each["ModelPackage"] for each in found["Results"]]
        assert [each["ModelPackageVersion"] for each in packages] == [2, 1]
        assert "ModelPackageName" not in packages[0]
        assert found["TotalHits"]["Value"] == 2
        for name, value, hits in (
            ("ModelPackageVersion", "2", 1),
            ("ModelApprovalStatus", "PendingManualApproval", 3),
            ("CustomerMetadataProperties.owner", "words", 1),
            ("InferenceSpecification.Containers.Image", "serve:1", 3),
        ):
            found = await search(region, "ModelPackage", named(name, value))
            assert found["TotalHits"]["Value"] == hits, name

    play(scene)


def test_tags(play):
    async def scene(region):
        await groups(region, "digits", "words")
        tags = [{"Key": "team", "Value": "red"}]
        arn = f"{ARN}:model-package-group/words"
        await region.call("AddTags", ResourceArn=arn, Tags=tags)
        found = await search(region, "ModelPackageGroup", named("Tags.team", "red"))
        assert names(found) == ["words"]
        assert found["Results"][0]["ModelPackageGroup"]["Tags"] == tags

    play(scene)


def test_models_and_endpoints(play):
    """A model's record has the endpoints that serve it; its properties have two names each."""

    async def scene(region):
        await region.model()
        await region.model("idle", A="b")
        await region.config()
        await region.endpoint()
        found = await search(region, "Endpoint", named("EndpointStatus", "InService"))
        assert names(found, "Endpoint") == ["one"]
        (variant,) = found["Results"][0]["Endpoint"]["ProductionVariants"]
        assert variant["CurrentInstanceCount"] == 1
        for name in ("ModelName", "Model.ModelName"):
            found = await search(region, "Model", named(name, "model"), SortBy=name)
            (record,) = found["Results"]
            assert record["Model"]["Model"]["ModelName"] == "model"
            (endpoint,) = record["Model"]["Endpoints"]
            assert endpoint["EndpointName"] == "one"
        found = await search(region, "Model", named("PrimaryContainer.Environment.A", "b"))
        assert found["Results"][0]["Model"]["Endpoints"] == []
        found = await search(region, "Model", named("Endpoints.EndpointName", "one"))
        assert found["TotalHits"]["Value"] == 1
        expression = {
            "SubExpressions": [{"Filters": [named("ModelName", "idle")]}],
            "NestedFilters": [
                {
                    "NestedPropertyName": "Endpoints",
                    "Filters": [named("Endpoints.EndpointName", "one")],
                }
            ],
            "Operator": "Or",
        }
        found = await region.call("Search", Resource="Model", SearchExpression=expression)
        assert found["TotalHits"]["Value"] == 2

    play(scene)


def test_training_jobs(play):
    """As SDK 2's model card looks for the job of its model data."""

    async def scene(region):
        jobs = region.context.resources(TRAINING_JOB)
        for name, accuracy in {"a": 0.8, "b": 0.9}.items():
            document = jobs.new(
                name,
                TrainingJobStatus="Completed",
                HyperParameters={"lr": "0.1"},
                ModelArtifacts={"S3ModelArtifacts": f"s3://jobs/{name}/model.tar.gz"},
                FinalMetricDataList=[
                    {
                        "MetricName": "acc",
                        "Value": accuracy,
                        "Timestamp": datetime(2026, 1, 1, tzinfo=UTC),
                    }
                ],
            )
            jobs.add(name, document)
        artifacts = named("ModelArtifacts.S3ModelArtifacts", "s3://jobs/a/model.tar.gz")
        assert names(await search(region, "TrainingJob", artifacts), "TrainingJob") == ["a"]
        best = {"SortBy": "Metrics.acc"}
        assert names(await search(region, "TrainingJob", **best), "TrainingJob") == ["b", "a"]
        good = {"Name": "Metrics.acc", "Operator": "GreaterThan", "Value": "0.85"}
        assert names(await search(region, "TrainingJob", good), "TrainingJob") == ["b"]

    play(scene)


def test_no_member_is_ignored(tmp_path):
    async def main():
        async with HostingRegion(tmp_path) as region:
            operations = {
                name: region.operations[name] for name in ("Search", "GetSearchSuggestions")
            }
            known = {"Resource": "ModelPackageGroup", "SortBy": "CreationTime"}
            return await asyncio.to_thread(unread_members, "sagemaker", operations, **known)

    assert asyncio.run(main()) == set()


def test_pages(play):
    """A resource that is made between two pages does not shift the next one."""

    async def scene(region):
        await groups(region, *(f"g{number:02}" for number in range(12)))
        by_name = {"SortBy": "ModelPackageGroupName", "SortOrder": "Ascending"}
        first = await search(region, "ModelPackageGroup", **by_name)
        assert names(first) == [f"g{number:02}" for number in range(10)]
        assert first["TotalHits"]["Value"] == 12
        await groups(region, "a")
        more = {"NextToken": first["NextToken"], **by_name}
        rest = await search(region, "ModelPackageGroup", **more)
        assert names(rest) == ["g10", "g11"]
        assert "NextToken" not in rest
        text = await region.refused("Search", Resource="ModelPackageGroup", NextToken="x")
        assert text.startswith("Invalid pagination token")
        found = await search(region, "ModelPackageGroup", MaxResults=3, **by_name)
        assert names(found) == ["a", "g00", "g01"]

    play(scene)


def test_order_of_times(play):
    async def scene(region):
        await groups(region, "old", "new")
        times = {"old": datetime(2026, 1, 1, tzinfo=UTC), "new": datetime(2026, 1, 2, tzinfo=UTC)}
        kind = region.context.kinds["ModelPackageGroup"]
        for name, time in times.items():
            kind.records.put(name, {**kind.get(name), "CreationTime": time})
        assert names(await search(region, "ModelPackageGroup")) == ["new", "old"]
        later = {"Name": "CreationTime", "Operator": "GreaterThan", "Value": "2026-01-01T12:00:00"}
        assert names(await search(region, "ModelPackageGroup", later)) == ["new"]

    play(scene)


def test_what_is_refused(play):
    async def scene(region):
        text = await region.refused("Search", Resource="ExperimentTrialComponent")
        assert text.startswith("Search for ExperimentTrialComponent is not supported by this local")
        assert "Endpoint, Model, ModelPackage, ModelPackageGroup" in text
        condition = {"SearchExpression": {"Filters": [named("TrialName", "a")]}}
        text = await region.refused("Search", Resource="ModelPackage", **condition)
        assert text == "Unknown property name: TrialName"
        text = await region.refused("Search", Resource="ModelPackage", SortBy="None")
        assert text == "Unknown property name: None"
        visible = [{"Key": "a", "Value": "b"}]
        text = await region.refused("Search", Resource="Model", VisibilityConditions=visible)
        assert "VisibilityConditions is not supported" in text
        await groups(region, "digits")
        found = await search(region, "ModelPackageGroup", CrossAccountFilterOption="CrossAccount")
        assert found["Results"] == []

    play(scene)


def test_suggestions(play):
    async def scene(region):
        query = {"PropertyNameQuery": {"PropertyNameHint": "approval"}}
        found = await region.call(
            "GetSearchSuggestions", Resource="ModelPackage", SuggestionQuery=query
        )
        suggested = [each["PropertyName"] for each in found["PropertyNameSuggestions"]]
        assert suggested == ["ModelApprovalStatus", "ApprovalDescription"]
        every = await region.call("GetSearchSuggestions", Resource="ModelPackage")
        assert len(every["PropertyNameSuggestions"]) == 10

    play(scene)
