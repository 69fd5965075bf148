"""Models: the containers of an image, its variables and its data, under a name."""

from __future__ import annotations

from collections.abc import Mapping

from sagemaker_byoc.region.core.records import now
from sagemaker_byoc.region.services.sagemaker.catalog import (
    Catalog,
    invalid,
    list_page,
    not_here,
)
from sagemaker_byoc.region.services.sagemaker.endpoints import variants
from sagemaker_byoc.region.services.sagemaker.endpoints.hosting_context import HostingContext
from sagemaker_byoc.region.services.sagemaker.endpoints.variants import data_of
from sagemaker_byoc.region.wire.operations import Operation, Parameters

MOST_CONTAINERS = 15
"""Source: service model, ContainerDefinitionList.max."""
_UNKNOWN_PARTS = {
    "ModelPackageName": "Give Image and ModelDataUrl",
    "AdditionalModelDataSources": "Put all files into one model archive or prefix",
    "InferenceSpecificationName": "Give Image and ModelDataUrl",
}


class Models:
    def __init__(self, catalog: Catalog, context: HostingContext) -> None:
        self.catalog = catalog
        self._context = context

    def operations(self) -> Mapping[str, Operation]:
        return {
            "CreateModel": self.create,
            "DescribeModel": self.describe,
            "ListModels": self.list_page,
            "DeleteModel": self.delete,
        }

    async def create(self, asked: Parameters) -> Parameters:
        name = asked["ModelName"]
        if ("PrimaryContainer" in asked) == ("Containers" in asked):
            raise invalid("Give either PrimaryContainer or Containers")
        containers = asked.get("Containers") or [asked["PrimaryContainer"]]
        if len(containers) > MOST_CONTAINERS:
            raise invalid(f"A model has at most {MOST_CONTAINERS} Containers")
        for container in containers:
            await self._check(container)
        names = [each["ContainerHostname"] for each in containers if "ContainerHostname" in each]
        if len(set(names)) != len(names):
            raise invalid("Each ContainerHostname of a model must be another")
        document = {"EnableNetworkIsolation": False, **asked}
        document.pop("Tags", None)
        if "PrimaryContainer" in asked:
            document["PrimaryContainer"] = _described(asked["PrimaryContainer"])
        else:
            document["Containers"] = [_described(each) for each in containers]
        document |= {"ModelArn": self.catalog.arn(name), "CreationTime": now()}
        self.catalog.add(name, document, asked.get("Tags", ()))
        return {"ModelArn": document["ModelArn"]}

    async def describe(self, asked: Parameters) -> Parameters:
        return self.catalog.get(asked["ModelName"])

    async def list_page(self, asked: Parameters) -> Parameters:
        members = ("ModelName", "ModelArn", "CreationTime")
        return list_page(self.catalog, asked, items="Models", members=members, name="ModelName")

    async def delete(self, asked: Parameters) -> Parameters:
        self.catalog.remove(asked["ModelName"])
        return {}

    async def _check(self, container: Parameters) -> None:
        for part, hint in _UNKNOWN_PARTS.items():
            if part in container:
                raise not_here(part, hint)
        if container.get("Mode", "SingleModel") != "SingleModel":
            raise not_here("Mode MultiModel", "Create one model for each archive")
        if "Image" not in container:
            raise invalid("A container needs an Image")
        if "ModelDataUrl" in container and "ModelDataSource" in container:
            raise invalid("Give either ModelDataUrl or ModelDataSource")
        _check_source(container.get("ModelDataSource", {}).get("S3DataSource"))
        await self._context.run(self._context.images.resolve, container["Image"])
        data = data_of(container)
        if data is not None and not await self._context.run(
            variants.is_there, data, self._context.store
        ):
            raise invalid(f"Could not find model data at {data.uri}.")


def _described(container: Parameters) -> Parameters:
    """Add the members that DescribeModel always returns; SDKs rely on them."""
    return {"Mode": "SingleModel", "Environment": {}, **container}


def _check_source(source: Parameters | None) -> None:
    """Source: service model, S3ModelDataSource.CompressionType."""
    if source is None:
        return
    kind, compression = source["S3DataType"], source["CompressionType"]
    if compression == "Gzip" and kind != "S3Object":
        raise invalid("CompressionType Gzip needs S3DataType S3Object: one model.tar.gz")
    if compression == "None" and kind == "S3Prefix" and not source["S3Uri"].endswith("/"):
        raise invalid(f"The S3Uri of an S3Prefix must end with a slash: {source['S3Uri']}/")
