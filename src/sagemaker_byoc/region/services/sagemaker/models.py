"""Models: under a name, containers with their image, variables and data, and the data itself."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from sagemaker_byoc.contract import archives
from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.region.containers.health import EndpointError
from sagemaker_byoc.region.services.s3.store.object_store import ObjectStore
from sagemaker_byoc.region.services.s3.store.objects import S3Error, parse_s3_uri
from sagemaker_byoc.region.services.sagemaker import state_changes
from sagemaker_byoc.region.services.sagemaker.context import RegionContext
from sagemaker_byoc.region.services.sagemaker.jobs.inputs import DownloadError, Item, check_paths
from sagemaker_byoc.region.services.sagemaker.model_registry.packages import ModelPackages
from sagemaker_byoc.region.services.sagemaker.model_registry.specifications import (
    RESOLVED,
    containers_of,
)
from sagemaker_byoc.region.services.sagemaker.resources import Kind, echoed, invalid, not_here
from sagemaker_byoc.region.wire.operations import AwsError, Operations, Parameters

MODEL = Kind(
    noun="model",
    member="Model",
    resource="model",
    folder="models",
    event=state_changes.MODEL,
)
MOST_CONTAINERS = 15
"""Source: service model, ContainerDefinitionList.max."""
MODEL_FOLDER = "model"
ADDITIONAL_FOLDER = "additional-model-data-sources"
"""Below /opt/ml, with a folder per ChannelName (developer guide: large-model-inference)."""


class Models:
    def __init__(self, context: RegionContext, packages: ModelPackages) -> None:
        self.resources = context.resources(MODEL)
        self._context = context
        self._packages = packages

    def operations(self) -> Operations:
        return {**self.resources.operations(), "CreateModel": self.create}

    async def create(self, asked: Parameters) -> Parameters:
        name = asked["ModelName"]
        if ("PrimaryContainer" in asked) == ("Containers" in asked):
            raise invalid("Give either PrimaryContainer or Containers")
        given = asked["Containers"] if "Containers" in asked else [asked["PrimaryContainer"]]
        containers = [found for each in given for found in self._expanded(each)]
        if not containers:
            raise invalid("Containers is empty: a model has at least one container")
        if len(containers) > MOST_CONTAINERS:
            raise invalid(f"A model has at most {MOST_CONTAINERS} Containers")
        for container in containers:
            await self._check(container)
        if len(containers) > 1 and any(map(is_multi_model, containers)):
            raise not_here("Mode MultiModel beside other containers", "Give it a separate model")
        _check_names(containers, asked.get("InferenceExecutionConfig", {}).get("Mode", "Serial"))
        document = self.resources.new(
            name, **{"EnableNetworkIsolation": False, **echoed(asked, "DescribeModelOutput")}
        )
        if "PrimaryContainer" in asked:
            document["PrimaryContainer"] = _described(asked["PrimaryContainer"])
        else:
            document["Containers"] = [_described(each) for each in given]
        if containers != given:
            document[RESOLVED] = containers
        self.resources.add(name, document, asked.get("Tags", ()))
        return {"ModelArn": document["ModelArn"]}

    def _expanded(self, container: Parameters) -> list[Parameters]:
        """Return the containers of a model package in the place of one that names it."""
        if "ModelPackageName" in container:
            return containers_of(self._packages.get(container["ModelPackageName"]), container)
        if "InferenceSpecificationName" in container:
            raise invalid("InferenceSpecificationName needs a ModelPackageName")
        return [container]

    async def _check(self, container: Parameters) -> None:
        if "Image" not in container:
            raise invalid("A container needs an Image")
        if is_multi_model(container):
            self._check_multi_model(container)
        if "ModelDataUrl" in container and "ModelDataSource" in container:
            raise invalid("Give either ModelDataUrl or ModelDataSource")
        _check_source(container.get("ModelDataSource", {}).get("S3DataSource"))
        _check_additional(container.get("AdditionalModelDataSources", []))
        run = self._context.threads.run
        await run(self._context.images.resolve, container["Image"])
        for data in sources_of(container).values():
            if not await run(is_there, data, self._context.store):
                raise invalid(f"Could not find model data at {data.uri}.")

    def _check_multi_model(self, container: Parameters) -> None:
        """Source: service model, ContainerDefinition.Mode, ModelDataSource."""
        if "ModelDataSource" in container:
            raise invalid("ModelDataSource is not supported for multi-model containers")
        if not container.get("ModelDataUrl"):
            raise invalid(
                "A container with Mode MultiModel needs a ModelDataUrl: s3://BUCKET/PREFIX/"
            )
        bucket, _ = parse_s3_uri(container["ModelDataUrl"])
        if not self._context.store.has_bucket(bucket):
            raise invalid(f"Could not find model data at {container['ModelDataUrl']}.")


def is_multi_model(container: Parameters) -> bool:
    return container.get("Mode") == "MultiModel"


def _check_names(containers: list[Parameters], mode: str) -> None:
    """Source: service model, ContainerHostname; developer guide, multi-container-create."""
    names = [each["ContainerHostname"] for each in containers if "ContainerHostname" in each]
    if len(set(names)) != len(names):
        raise invalid("Each ContainerHostname of a model must be unique")
    if len(names) == len(containers) or len(containers) == 1:
        return
    if mode == "Direct":
        raise invalid("Each container of a model with direct invocation needs a ContainerHostname")
    if names:
        raise invalid(
            "Give each container a ContainerHostname, or none of them: only "
            f"{', '.join(names)} have one"
        )


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


def _check_additional(sources: list[Parameters]) -> None:
    names = [each["ChannelName"] for each in sources]
    for name in names:
        if name in {".", ".."} or names.count(name) > 1:
            raise invalid(
                f"ChannelName {name} of AdditionalModelDataSources: each is the name of a folder, "
                "and of one source alone"
            )
    for each in sources:
        _check_source(each["S3DataSource"])


@dataclass(frozen=True, slots=True)
class ModelData:
    """An archive, or all objects under a prefix."""

    uri: str
    is_archive: bool


def sources_of(document: Parameters) -> dict[str, ModelData]:
    """Return the data of an accepted ContainerDefinition by its folders below /opt/ml.

    A multi-model container has no model when it starts.
    """
    found = {}
    if document.get("ModelDataUrl") and not is_multi_model(document):
        found[MODEL_FOLDER] = ModelData(document["ModelDataUrl"], is_archive=True)
    elif "S3DataSource" in document.get("ModelDataSource", {}):
        found[MODEL_FOLDER] = _data(document["ModelDataSource"]["S3DataSource"])
    for each in document.get("AdditionalModelDataSources", []):
        found[f"{ADDITIONAL_FOLDER}/{each['ChannelName']}"] = _data(each["S3DataSource"])
    return found


def _data(source: Parameters) -> ModelData:
    return ModelData(source["S3Uri"], is_archive=source["CompressionType"] == "Gzip")


def is_there(data: ModelData, store: ObjectStore) -> bool:
    """Return whether the object, or any below the prefix, exists. Raise AwsError for a bad URI."""
    bucket, key = parse_s3_uri(data.uri)
    try:
        if data.is_archive:
            store.get(bucket, key)
            return True
        return next(store.list(bucket, key), None) is not None
    except S3Error as error:
        if error.code in {"NoSuchBucket", "NoSuchKey"}:
            return False
        raise


def fetch(data: ModelData, store: ObjectStore, folder: Path, container: str) -> None:
    """Fill the empty `folder`. Raise EndpointError with SageMaker's sentence and the cause."""
    bucket, key = parse_s3_uri(data.uri)
    try:
        if data.is_archive:
            archives.unpack(store.get(bucket, key).path, folder)
        else:
            _copy_prefix(store, bucket, key, folder)
    except (AwsError, ContractError, DownloadError, OSError) as error:
        raise EndpointError(
            f'Failed to download model data for container "{container}" from URL: "{data.uri}". '
            "Please ensure that there is an object located at the URL and that the role passed to "
            f"CreateModel has permissions to download the object. ({error})",
            hint="Fix the object, then create the endpoint again",
        ) from error


def _copy_prefix(store: ObjectStore, bucket: str, prefix: str, folder: Path) -> None:
    infos = [*store.list(bucket, prefix)]
    if not infos:
        raise OSError(f"no object's key begins with {prefix!r}")
    # An S3Object is the one whose key is the prefix.
    names = {
        info.key: info.key[len(prefix) :].removeprefix("/") or info.key.rpartition("/")[2]
        for info in infos
    }
    files = {key: name for key, name in names.items() if name and not key.endswith("/")}
    check_paths(f"s3://{bucket}/{prefix}", [Item(bucket, key, files[key]) for key in files])
    for key, name in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        # Not a link: a container must not be able to change the object.
        shutil.copyfile(store.get(bucket, key).path, target)
