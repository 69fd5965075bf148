"""The operations Search and GetSearchSuggestions, over the resources of the region."""

from __future__ import annotations

from collections.abc import Iterator

from botocore.model import StructureShape

from sagemaker_byoc.region.core import paging
from sagemaker_byoc.region.core.tags import as_list
from sagemaker_byoc.region.services.sagemaker.context import RegionContext
from sagemaker_byoc.region.services.sagemaker.resources import echoed, invalid, not_here
from sagemaker_byoc.region.services.sagemaker.search.expressions import (
    compile_expression,
    find_property,
    property_names,
    sort_text,
)
from sagemaker_byoc.region.wire import models
from sagemaker_byoc.region.wire.operations import Operations, Parameters

_PAGE = 10
"""Results of a page if the request does not say how many."""
_SUGGESTIONS = 10
_MODEL = "Model"
"""Its record has the model in a member Model, beside the endpoints that serve it."""


class Search:
    def __init__(self, context: RegionContext) -> None:
        self._context = context

    def operations(self) -> Operations:
        return {"Search": self.search, "GetSearchSuggestions": self.suggest}

    def search(self, asked: Parameters) -> Parameters:
        """Return a page of the resources that satisfy the expression; Results is always there."""
        resource = asked["Resource"]
        shape = self._shape(resource)
        if asked.get("VisibilityConditions"):
            raise not_here("VisibilityConditions", "Filter on Tags.KEY")
        expression = asked.get("SearchExpression", {})
        if resource == _MODEL:
            expression = _in_model(shape, expression)
        test = compile_expression(shape, expression)
        key = find_property(shape, _sort_name(shape, resource, asked.get("SortBy")))
        # Nothing is shared with this account by another.
        from_others = asked.get("CrossAccountFilterOption") == "CrossAccount"
        records = () if from_others else self._records(resource, shape)
        found = [(record, arn) for record, arn in records if test(record)]
        try:
            part, token = paging.page(
                found,
                lambda each: (sort_text(key, each[0]), each[1]),
                size=asked.get("MaxResults", _PAGE),
                token=asked.get("NextToken"),
                descending=asked.get("SortOrder", "Descending") == "Descending",
            )
        except paging.TokenError as error:
            raise invalid("Invalid pagination token: give the NextToken of an answer") from error
        return {
            "Results": [{resource: record} for record, _ in part],
            "TotalHits": {"Value": len(found), "Relation": "EqualTo"},
            **({"NextToken": token} if token else {}),
        }

    def suggest(self, asked: Parameters) -> Parameters:
        """Return names of properties in which the hint occurs."""
        shape = self._shape(asked["Resource"])
        query = asked.get("SuggestionQuery", {}).get("PropertyNameQuery", {})
        hint = query.get("PropertyNameHint", "").lower()
        names = [name for name in property_names(shape) if hint in name.lower()]
        return {
            "PropertyNameSuggestions": [{"PropertyName": name} for name in names[:_SUGGESTIONS]]
        }

    def _shape(self, resource: str) -> StructureShape:
        """Return the shape of a resource's record. Raise AwsError if the region has no such."""
        members = models.service_model("sagemaker").shape_for("SearchRecord").members
        if resource not in self._context.kinds:
            known = ", ".join(sorted(members.keys() & self._context.kinds.keys()))
            raise not_here(f"Search for {resource}", f"It searches {known}")
        found = members[resource]
        assert isinstance(found, StructureShape)
        return found

    def _records(self, resource: str, shape: StructureShape) -> Iterator[tuple[Parameters, str]]:
        """Yield each resource as Search returns it, with its ARN."""
        kind = self._context.kinds[resource]
        served = self._served() if resource == _MODEL else {}
        for document in kind:
            arn = document[kind.kind.arn_member]
            shown = "Model" if resource == _MODEL else shape.name
            record = echoed(kind.described(document), shown)
            if tags := kind.tags.get(arn):
                record["Tags"] = as_list(tags)
            if resource == _MODEL:
                name = document["ModelName"]
                record = {"Model": record, "Endpoints": served.get(name, [])}
            yield record, arn

    def _served(self) -> dict[str, list[Parameters]]:
        """Return the endpoints by the models that they serve."""
        found: dict[str, list[Parameters]] = {}
        for document in self._context.kinds.get("Endpoint", ()):
            for name in sorted({each["ModelName"] for each in document["Variants"]}):
                found.setdefault(name, []).append(echoed(document, "ModelDashboardEndpoint"))
        return found


def _sort_name(shape: StructureShape, resource: str, asked: str | None) -> str:
    if resource == _MODEL:
        return _model_property(shape, asked or "CreationTime")
    if asked is not None:
        return asked
    return "LastModifiedTime" if "LastModifiedTime" in shape.members else "CreationTime"


def _in_model(shape: StructureShape, expression: Parameters) -> Parameters:
    """Return an expression on models with the names that their records have.

    `ModelName` and `Model.ModelName` are the same.
    """
    found = dict(expression)
    if "Filters" in found:
        found["Filters"] = _filters_in_model(shape, found["Filters"])
    if "NestedFilters" in found:
        found["NestedFilters"] = [
            {
                "NestedPropertyName": _model_property(shape, each["NestedPropertyName"]),
                "Filters": _filters_in_model(shape, each["Filters"]),
            }
            for each in found["NestedFilters"]
        ]
    if "SubExpressions" in found:
        found["SubExpressions"] = [_in_model(shape, each) for each in found["SubExpressions"]]
    return found


def _filters_in_model(shape: StructureShape, filters: list[Parameters]) -> list[Parameters]:
    return [{**each, "Name": _model_property(shape, each["Name"])} for each in filters]


def _model_property(shape: StructureShape, name: str) -> str:
    return name if name.partition(".")[0] in shape.members else f"Model.{name}"
