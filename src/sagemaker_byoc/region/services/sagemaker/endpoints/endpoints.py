"""The operations on endpoints, as SageMaker words them; what they start is in `endpoint`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from sagemaker_byoc.contract import folders
from sagemaker_byoc.contract.capture import is_enabled
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.region.core.polling import Subject
from sagemaker_byoc.region.core.records import now
from sagemaker_byoc.region.services.sagemaker import state_changes
from sagemaker_byoc.region.services.sagemaker.context import RegionContext
from sagemaker_byoc.region.services.sagemaker.endpoints.capture import Captures
from sagemaker_byoc.region.services.sagemaker.endpoints.configs import (
    EndpointConfigs,
    VariantPlan,
    check_count,
)
from sagemaker_byoc.region.services.sagemaker.endpoints.endpoint import (
    CHANGING,
    CREATING,
    Endpoint,
)
from sagemaker_byoc.region.services.sagemaker.endpoints.fleet import Fleet
from sagemaker_byoc.region.services.sagemaker.endpoints.instance import KIND, hosting_labels
from sagemaker_byoc.region.services.sagemaker.resources import Kind, Resources, invalid
from sagemaker_byoc.region.wire.operations import Operations, Parameters

ENDPOINT = Kind(
    noun="endpoint",
    member="Endpoint",
    resource="endpoint",
    folder=KIND,
    page=10,
    subject=Subject(
        look=lambda document: (document["EndpointStatus"],),
        has_ended=lambda document: document["EndpointStatus"] not in CHANGING,
        hold=10.0,
        sdk_first=50.0,
        sdk_hold=50.0,
    ),
    event=state_changes.ENDPOINT,
)


class _Resources(Resources):
    """What DescribeEndpoint answers has more than the document: what runs now."""

    def __init__(
        self, context: RegionContext, running: Mapping[str, Endpoint], captures: Captures
    ) -> None:
        super().__init__(ENDPOINT, context)
        self._running = running
        self._captures = captures

    def described(self, document: Parameters) -> Parameters:
        name = document["EndpointName"]
        endpoint = self._running.get(name)
        fleet = endpoint.fleet if endpoint is not None else None
        described = super().described(document)
        described["ProductionVariants"] = [
            _variant(variant, fleet, document.get("Images", {})) for variant in document["Variants"]
        ]
        capture = described.pop("DataCaptureConfig", None)
        if capture:
            is_on = is_enabled(capture)
            is_capturing = is_on and self._captures.is_working(name)
            described["DataCaptureConfig"] = {
                "EnableCapture": is_on,
                "CaptureStatus": "Started" if is_capturing else "Stopped",
                "CurrentSamplingPercentage": capture["InitialSamplingPercentage"],
                "DestinationS3Uri": capture["DestinationS3Uri"],
                "KmsKeyId": capture.get("KmsKeyId", ""),
            }
        return described


class Endpoints:
    """`by_name` holds every endpoint that has a record."""

    def __init__(self, context: RegionContext, configs: EndpointConfigs) -> None:
        self.captures = Captures(context.store, context.threads.run)
        self.by_name: dict[str, Endpoint] = {}
        self.resources = context.open(_Resources(context, self.by_name, self.captures))
        self.swept: asyncio.Task[None] | None = None
        """Ends once nothing of an earlier run is left; no container starts before."""
        self._configs = configs
        self._context = context

    def operations(self) -> Operations:
        return {
            **self.resources.operations(),
            "CreateEndpoint": self.create,
            "UpdateEndpoint": self.update,
            "UpdateEndpointWeightsAndCapacities": self.resize,
            "DeleteEndpoint": self.delete,
        }

    def start(self) -> None:
        """Bring up the recorded endpoints, after what an earlier run left has been removed."""
        self.resources.start()
        swept = asyncio.create_task(self._context.threads.run(self._clean), name="sweep hosting")
        self.swept = swept
        for document in [*self.resources]:
            self.adopt(document["EndpointName"]).recover(swept)

    async def close(self) -> None:
        """Stop all containers, with the contract's grace period; records stay."""
        if self.swept is not None:
            await asyncio.gather(self.swept, return_exceptions=True)
        await asyncio.gather(*(each.close() for each in self.by_name.values()))
        await self.captures.close()
        self.resources.records.flush()

    def _clean(self) -> None:
        """Remove everything with this region's labels: nothing of it runs yet."""
        work = self._context.work(KIND)
        trees = [Tree(folder) for folder in work.glob("*/*/i-*") if folder.is_dir()]
        if trees or work.is_dir():
            self._context.engine.sweep(hosting_labels(self._context), trees)
        folders.remove(work)

    def find(self, name: str) -> Endpoint:
        """Return the endpoint. Raise AwsError if there is none."""
        found = self.by_name.get(name)
        if found is None:
            raise ENDPOINT.missing(ENDPOINT, self.resources.arn(name))
        return found

    def adopt(self, name: str) -> Endpoint:
        """Make the endpoint of a record."""
        found = Endpoint(name, self.resources, self._context, on_gone=self._forget)
        self.by_name[name] = found
        return found

    def _forget(self, name: str) -> None:
        self.by_name.pop(name, None)
        self.captures.forget(name)

    async def create(self, asked: Parameters) -> Parameters:
        name, time = asked["EndpointName"], now()
        members = {"EndpointStatus": CREATING, "LastModifiedTime": time, **self._target(asked)}
        document = self.resources.new(name, CreationTime=time, **members)
        self.resources.add(name, document, asked.get("Tags", ()))
        self.adopt(name).create(self.swept)
        self.resources.expect(name)
        return {"EndpointArn": document["EndpointArn"]}

    async def update(self, asked: Parameters) -> Parameters:
        found = self._ready(asked["EndpointName"])
        target = self._target(asked)
        if asked.get("RetainAllVariantProperties"):
            excluded = {
                each["VariantPropertyType"]
                for each in asked.get("ExcludeRetainedVariantProperties", [])
            }
            target["Variants"] = _retained(found.document["Variants"], target["Variants"], excluded)
            if "DataCaptureConfig" not in excluded:
                target["DataCaptureConfig"] = found.document.get("DataCaptureConfig", {})
        found.update(target)
        self.resources.expect(found.name)
        return {"EndpointArn": self.resources.arn(found.name)}

    async def resize(self, asked: Parameters) -> Parameters:
        found = self._ready(asked["EndpointName"])
        if found.fleet is None:
            raise invalid(f'Endpoint "{self.resources.arn(found.name)}" has no running variant')
        weights: dict[str, float] = {}
        counts: dict[str, int] = {}
        for each in asked["DesiredWeightsAndCapacities"]:
            name = each["VariantName"]
            if name not in found.fleet.variants:
                config = found.document["EndpointConfigName"]
                raise invalid(
                    f'The variant name(s) "{name}" is/are not present within endpoint '
                    f'configuration "{config}".'
                )
            if "DesiredWeight" in each:
                weights[name] = each["DesiredWeight"]
            if "DesiredInstanceCount" in each:
                check_count(name, each["DesiredInstanceCount"], least=0)
                counts[name] = each["DesiredInstanceCount"]
        found.resize(weights, counts)
        return {"EndpointArn": self.resources.arn(found.name)}

    async def delete(self, asked: Parameters) -> Parameters:
        self._ready(asked["EndpointName"]).delete()
        return {}

    def _ready(self, name: str) -> Endpoint:
        found = self.find(name)
        if found.status in CHANGING:
            raise invalid(f'Cannot update in-progress endpoint "{self.resources.arn(name)}".')
        return found

    def _target(self, asked: Parameters) -> Parameters:
        """Return the part of a document that comes from the configuration, as it is now."""
        name = asked["EndpointConfigName"]
        config = self._configs.resources.get(name)
        target: Parameters = {
            "EndpointConfigName": name,
            "Variants": self._configs.variants(name),
            "DataCaptureConfig": config.get("DataCaptureConfig", {}),
        }
        if "DeploymentConfig" in asked:
            target["LastDeploymentConfig"] = asked["DeploymentConfig"]
        return target


def _retained(old: list[Parameters], new: list[Parameters], excluded: set[str]) -> list[Parameters]:
    """Return `new` with the current weights and counts of the variants of the same names."""
    properties = {
        "DesiredInstanceCount": "InitialInstanceCount",
        "DesiredWeight": "InitialVariantWeight",
    }
    kept = [key for word, key in properties.items() if word not in excluded]
    before = {variant["VariantName"]: variant for variant in old}
    return [
        {
            **variant,
            **{
                key: before[variant["VariantName"]][key]
                for key in kept
                if key in before.get(variant["VariantName"], {})
            },
        }
        for variant in new
    ]


def _variant(document: Parameters, fleet: Fleet | None, images: Mapping[str, Any]) -> Parameters:
    plan = VariantPlan.from_document(document)
    running = fleet.variants.get(plan.name) if fleet is not None else None
    summary: Parameters = {
        "VariantName": plan.name,
        "DeployedImages": [
            {
                "SpecifiedImage": each.image,
                "ResolvedImage": images[each.image]["Resolved"],
                "ResolutionTime": images[each.image]["Time"],
            }
            for each in plan.containers
            if each.image in images
        ],
        "CurrentWeight": running.weight if running is not None else 0.0,
        "DesiredWeight": plan.weight,
        "CurrentInstanceCount": running.healthy if running is not None else 0,
        "DesiredInstanceCount": plan.count,
    }
    if "ServerlessConfig" in document:
        summary["CurrentServerlessConfig"] = document["ServerlessConfig"]
    return summary
