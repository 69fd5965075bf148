"""Model packages: the versions of a group, and packages of their own name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from sagemaker_byoc.region.services.sagemaker.context import RegionContext
from sagemaker_byoc.region.services.sagemaker.model_registry.groups import (
    ModelPackageGroups,
    caller,
    does_not_exist,
    local_name,
)
from sagemaker_byoc.region.services.sagemaker.model_registry.specifications import (
    check_additional,
    check_unversioned,
    specification_of_model,
    with_digests,
)
from sagemaker_byoc.region.services.sagemaker.resources import (
    Kind,
    Resources,
    echoed,
    invalid,
    not_here,
)
from sagemaker_byoc.region.services.sagemaker.state_changes import MODEL_PACKAGE
from sagemaker_byoc.region.wire.operations import AwsError, Operations, Parameters

PENDING = "PendingManualApproval"
_DIGITS = 12
"""Digits of a version, at most: more than there will ever be."""
MOST_METADATA = 50
"""Source: service model, CustomerMetadataMap.max."""
_CREATED_BY = "CreateToken"
_CHANGED_BY = "UpdateToken"
"""Members of the document alone: the ClientToken of the request, with the digest of the rest."""
_ANSWER = "DescribeModelPackageOutput"
_UPDATED = (
    "ModelApprovalStatus",
    "ModelPackageRegistrationType",
    "ApprovalDescription",
    "InferenceSpecification",
    "SourceUri",
    "ModelLifeCycle",
)
"""Members that UpdateModelPackage replaces."""
_CARD_PATHS = (
    ("model_overview", "model_id"),
    ("model_overview", "model_name"),
    ("intended_uses", "risk_rating"),
    ("model_package_details", "model_package_group_name"),
    ("model_package_details", "model_package_arn"),
)
"""What IncludedData MetadataOnly leaves of a model card (service model)."""


def _already_exists(_kind: Kind, arn: str) -> AwsError:
    return invalid(f"ModelPackage already exists: {arn}")


class _PackageKind(Kind):
    """Versions have no name of their own, and are recorded as `GROUP.VERSION`."""

    __slots__ = ()

    @property
    def name_member(self) -> str:
        return "RecordName"


PACKAGE = _PackageKind(
    noun="model package",
    member="ModelPackage",
    resource="model-package",
    folder="model-packages",
    order="Ascending",
    missing=does_not_exist,
    taken=_already_exists,
    event=MODEL_PACKAGE,
)


class _Packages(Resources):
    def arn(self, name: str) -> str:
        return super().arn(name.replace(".", "/"))

    def name_in(self, arn: str) -> str | None:
        name = super().name_in(arn)
        return None if name is None else name.replace("/", ".")

    def name_of(self, document: Parameters) -> str:
        return str(document.get("ModelPackageName") or document["ModelPackageGroupName"])

    def place_of(self, document: Parameters) -> str:
        return f"{self.name_of(document)}.{document.get('ModelPackageVersion', 0):012}"

    def state(self, document: Parameters) -> dict[str, object]:
        updated = {name: document.get(name) for name in (*_UPDATED, "CustomerMetadataProperties")}
        return {**super().state(document), **updated}

    def only_in_event(self, changed: Sequence[str]) -> dict[str, object]:
        return {"UpdatedModelPackageFields": [*changed]} if changed else {}


class ModelPackages:
    def __init__(self, context: RegionContext, groups: ModelPackageGroups) -> None:
        self.resources = context.open(_Packages(PACKAGE, context))
        self._context = context
        self._groups = groups
        self._requests: dict[tuple[str, str], tuple[str, str]] = {}
        """By group, empty for packages without one, and ClientToken: the request's digest, and the
        package that it made."""
        for document in self.resources:
            self._remember(document)

    def operations(self) -> Operations:
        return {
            "CreateModelPackage": self.create,
            "DescribeModelPackage": self.describe,
            "BatchDescribeModelPackage": self.describe_batch,
            "ListModelPackages": self.list_page,
            "UpdateModelPackage": self.update,
            "DeleteModelPackage": self.delete,
        }

    def get(self, given: str) -> Parameters:
        """Return the document of a package by its name or ARN. Raise AwsError."""
        return self.resources.get(self._record_name(given))

    def _record_name(self, given: str) -> str:
        name, slash, version = local_name(self._context.account, PACKAGE, given).partition("/")
        if not slash:
            return name
        if not (version.isascii() and version.isdecimal() and len(version) <= _DIGITS):
            raise does_not_exist(PACKAGE, given)
        return f"{name}.{int(version)}"

    # ── create ──

    async def create(self, asked: Parameters) -> Parameters:
        group = self._group(asked)
        specification = self._specification(asked)
        document = self._document(asked, is_versioned=group is not None)
        if specification is not None:
            known = await self._context.threads.run(with_digests, specification, self._context)
            document["InferenceSpecification"] = known
        # No await from here on: the group can't go, and no other request does the same.
        earlier = self._created_by(document[_CREATED_BY], group)
        if earlier is not None:
            return {"ModelPackageArn": earlier}
        if group is None:
            name = document["ModelPackageName"] = asked["ModelPackageName"]
            self.resources.refuse_taken(name)
        else:
            version = self._groups.next_version(group, self._newest(group))
            name = f"{group}.{version}"
            document |= {"ModelPackageGroupName": group, "ModelPackageVersion": version}
        document = self.resources.new(name, **document)
        document["LastModifiedTime"] = document["CreationTime"]
        self.resources.add(name, document, asked.get("Tags", ()))
        self._remember(document)
        return {"ModelPackageArn": document["ModelPackageArn"]}

    def _newest(self, group: str) -> int:
        names = [name for name in self.resources.records if name.startswith(f"{group}.")]
        return max((int(name.rpartition(".")[2]) for name in names), default=0)

    def _group(self, asked: Parameters) -> str | None:
        """Return the group of a versioned package; None for a package with its own name."""
        if "ModelPackageName" in asked and "ModelPackageGroupName" in asked:
            raise invalid(
                "Both ModelPackageName and ModelPackageGroupName are provided in the input. "
                "Cannot determine which one to use."
            )
        if "ModelPackageGroupName" in asked:
            if asked.get("Tags"):
                raise invalid(
                    "Tags can't be given to a versioned model package: it uses those of its "
                    "ModelPackageGroupName"
                )
            return self._groups.name(asked["ModelPackageGroupName"])
        if "ModelPackageName" not in asked:
            raise invalid("Missing ARN. Give a ModelPackageGroupName or a ModelPackageName")
        return None

    def _remember(self, document: Parameters) -> None:
        _, token = place = _place(document)
        if token:
            digest = document[_CREATED_BY].partition(" ")[2]
            self._requests[place] = digest, document[PACKAGE.name_member]

    def _created_by(self, request: str, group: str | None) -> str | None:
        """Return the ARN of the package that an earlier request with the same token made."""
        token, _, digest = request.partition(" ")
        known, name = self._requests.get((group or "", token), ("", ""))
        if name not in self.resources:
            return None
        arn = self.resources.arn(name)
        if known != digest:
            raise AwsError(
                "ConflictException",
                f"ClientToken {token} was used for another request, which made {arn}. Give each "
                "request a new one",
            )
        return arn

    def _specification(self, asked: Parameters) -> Parameters | None:
        """Return the InferenceSpecification that is given, or that of SourceUri."""
        found: Parameters | None = asked.get("InferenceSpecification")
        source = asked.get("SourceUri", "")
        if source and "ModelPackageName" in asked:
            raise invalid("SourceUri is not supported for unversioned model packages")
        is_own = source.startswith("arn:") and ":sagemaker:" in source
        resource = source.rpartition(":")[2].partition("/")[0] if is_own else ""
        if resource in {"model", "model-package"}:
            if found is not None:
                raise invalid(
                    f"SourceUri {source} has its own InferenceSpecification: give one of the two"
                )
            return self._source(resource, source)
        if found is None and "ModelPackageName" in asked:
            if "SourceAlgorithmSpecification" not in asked:
                raise invalid("Give an InferenceSpecification or a SourceAlgorithmSpecification")
            return None
        if found is not None and "ModelPackageName" in asked:
            check_unversioned(found)
        return found

    def _source(self, resource: str, source: str) -> Parameters | None:
        if resource == "model-package":
            return self.get(source).get("InferenceSpecification")
        models = self._context.kinds["Model"]
        return specification_of_model(
            models.get(local_name(self._context.account, models.kind, source))
        )

    def _document(self, asked: Parameters, *, is_versioned: bool) -> Parameters:
        check_additional(asked.get("AdditionalInferenceSpecifications", []))
        if asked.get("ManagedStorageType"):
            raise not_here("ManagedStorageType", "Leave it out: the model data stays in S3")
        document = echoed(asked, _ANSWER)
        document.setdefault("CertifyForMarketplace", False)
        for member in ("ModelPackageName", "ModelPackageGroupName", "ModelApprovalStatus"):
            document.pop(member, None)
        if is_versioned:
            document["ModelApprovalStatus"] = asked.get("ModelApprovalStatus", PENDING)
        if "ModelCard" in document:
            document["ModelCard"] = {"ModelCardStatus": "Draft", **document["ModelCard"]}
        person = caller(self._context.account)
        return {
            **document,
            "CreatedBy": person,
            "LastModifiedBy": person,
            "ModelPackageStatus": "Completed",
            "ModelPackageStatusDetails": {"ValidationStatuses": [], "ImageScanStatuses": []},
            _CREATED_BY: _token(asked),
        }

    # ── read ──

    async def describe(self, asked: Parameters) -> Parameters:
        found = self.resources.described(self.get(asked["ModelPackageName"]))
        if asked.get("IncludedData") == "MetadataOnly" and "ModelCard" in found:
            card = found["ModelCard"]
            if "ModelCardContent" in card:
                card["ModelCardContent"] = _metadata_of_card(card["ModelCardContent"])
        return found

    async def describe_batch(self, asked: Parameters) -> Parameters:
        found: dict[str, Parameters] = {}
        errors: dict[str, Parameters] = {}
        for arn in asked["ModelPackageArnList"]:
            try:
                document = self.get(arn)
                if "ModelPackageVersion" not in document:
                    raise invalid(f"ModelPackage {arn} is not versioned")
            except AwsError as error:
                errors[arn] = {"ErrorCode": error.code, "ErrorResponse": error.message}
            else:
                found[arn] = echoed(document, "BatchDescribeModelPackageSummary")
        return {"ModelPackageSummaries": found, "BatchDescribeModelPackageErrorMap": errors}

    async def list_page(self, asked: Parameters) -> Parameters:
        group = asked.get("ModelPackageGroupName")
        wanted = asked.get("ModelPackageType", "Unversioned" if group is None else "Versioned")
        status = asked.get("ModelApprovalStatus")
        documents = self.resources if group is None else self._of_group(self._groups.name(group))
        found = [
            document
            for document in documents
            if wanted in {"Both", _type(document)}
            and status in {None, document.get("ModelApprovalStatus")}
        ]
        return self.resources.page(found, asked)

    def _of_group(self, group: str | None) -> list[Parameters]:
        """Return the versions of a group, or the packages without a group."""
        records = self.resources.records
        names = [
            name
            for name in records
            if (name.startswith(f"{group}.") if group is not None else "." not in name)
        ]
        return [document for name in names if (document := records.get(name)) is not None]

    # ── change ──

    async def update(self, asked: Parameters) -> Parameters:
        name = self._record_name(asked["ModelPackageArn"])
        token = _token(asked)
        changes = {member: asked[member] for member in _UPDATED if member in asked}
        if "InferenceSpecification" in changes:
            changes["InferenceSpecification"] = await self._context.threads.run(
                with_digests, changes["InferenceSpecification"], self._context
            )

        def edit(document: Parameters) -> bool:
            if token and document.get(_CHANGED_BY) == token:
                return False
            _edit(document, asked, changes)
            document["LastModifiedBy"] = caller(self._context.account)
            document[_CHANGED_BY] = token
            return True

        self.resources.change(name, edit)
        return {"ModelPackageArn": self.resources.arn(name)}

    async def delete(self, asked: Parameters) -> Parameters:
        name = self._record_name(asked["ModelPackageName"])
        document = self.resources.get(name)
        self.resources.remove(name)
        self._requests.pop(_place(document), None)
        return {}


def _place(document: Parameters) -> tuple[str, str]:
    """Return the group, empty without one, and the ClientToken that made a package."""
    return document.get("ModelPackageGroupName", ""), document[_CREATED_BY].partition(" ")[0]


def _edit(document: Parameters, asked: Parameters, changes: Parameters) -> None:
    """Change the document of a package as an update asks. Raise AwsError, changing nothing."""
    is_versioned = "ModelPackageVersion" in document
    if not is_versioned and "ModelApprovalStatus" in asked:
        raise invalid("ModelApprovalStatus is only supported for versioned model packages")
    if not is_versioned and "InferenceSpecification" in changes:
        check_unversioned(changes["InferenceSpecification"])
    metadata = {
        **document.get("CustomerMetadataProperties", {}),
        **asked.get("CustomerMetadataProperties", {}),
    }
    for key in asked.get("CustomerMetadataPropertiesToRemove", []):
        metadata.pop(key, None)
    if len(metadata) > MOST_METADATA:
        raise invalid(
            f"A model package has at most {MOST_METADATA} CustomerMetadataProperties, not "
            f"{len(metadata)}"
        )
    additional = [
        *document.get("AdditionalInferenceSpecifications", []),
        *asked.get("AdditionalInferenceSpecificationsToAdd", []),
    ]
    check_additional(additional)
    found = {
        **changes,
        "CustomerMetadataProperties": metadata,
        "AdditionalInferenceSpecifications": additional,
    }
    if "ModelCard" in asked:
        card = document.get("ModelCard", {"ModelCardStatus": "Draft"})
        found["ModelCard"] = {**card, **asked["ModelCard"]}
    document |= {member: value for member, value in found.items() if value not in ({}, [])}
    if not metadata:
        document.pop("CustomerMetadataProperties", None)


def _type(document: Parameters) -> str:
    return "Versioned" if "ModelPackageVersion" in document else "Unversioned"


def _token(asked: Parameters) -> str:
    """Return the ClientToken with the digest of the other members; empty without a token."""
    token = asked.get("ClientToken", "")
    if not token:
        return ""
    rest = {name: value for name, value in asked.items() if name != "ClientToken"}
    digest = hashlib.sha256(json.dumps(rest, sort_keys=True, default=str).encode()).hexdigest()
    return f"{token} {digest[:16]}"


def _metadata_of_card(content: str) -> str:
    """Return the model card with the members alone that AWS does not encrypt."""
    try:
        card = json.loads(content)
    except ValueError:
        return "{}"
    found: dict[str, dict[str, object]] = {}
    for part, member in _CARD_PATHS:
        section = card.get(part) if isinstance(card, dict) else None
        if isinstance(section, dict) and member in section:
            found.setdefault(part, {})[member] = section[member]
    return json.dumps(found)
