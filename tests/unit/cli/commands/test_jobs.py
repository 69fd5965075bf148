"""Jobs of every kind by name: two kinds with one name, and a region that lacks a kind."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from botocore.exceptions import ClientError

from sagemaker_byoc.cli.commands.jobs import ENDPOINT, KINDS, _listed, _of_name


class Client:
    """boto3's client of a region with one job a day, each of a kind, all of one name."""

    def __init__(self, *kinds, code="UnknownOperationException"):
        self.kinds = kinds
        self.code = code

    def get_paginator(self, operation):
        self.operation = operation
        return self

    def paginate(self, **_):
        for day, kind in enumerate(self.kinds, 1):
            if self.operation == f"list_{kind.operation}s":
                summary = {
                    f"{kind.member}Name": "same",
                    f"{kind.member}Status": "InProgress",
                    "CreationTime": datetime(2026, 1, day, tzinfo=UTC),
                }
                return iter([{kind.items: [{**summary, f"{kind.member}Name": "other"}, summary]}])
        raise ClientError({"Error": {"Code": self.code, "Message": "not here"}}, self.operation)


def test_the_newest_of_a_name_comes_first():
    training, processing, transform, endpoint = KINDS
    assert endpoint is ENDPOINT
    found = _of_name(Client(processing, training, endpoint, transform), "same")
    assert [*found] == [transform, endpoint, training, processing]
    assert _of_name(Client(*KINDS), "absent") == {}


def test_a_region_without_a_kind_lists_none_of_it():
    training, processing, *_ = KINDS
    client = Client(training)
    assert [*_listed(client, processing)] == []
    assert len([*_listed(client, training)]) == 2
    with pytest.raises(ClientError):
        list(_listed(Client(code="AccessDenied"), training))
