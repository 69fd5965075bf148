"""Which members of AWS's requests does an operation look at?"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from datetime import UTC, datetime

from sagemaker_byoc.region.wire import models
from sagemaker_byoc.region.wire.operations import AwsError


class Recorder(dict):
    """A mapping that knows which of its names were asked for; a loop over all asks for none."""

    def __init__(self, *values, **more):
        super().__init__(*values, **more)
        self.read = set()

    def __getitem__(self, name):
        self.read.add(name)
        return super().__getitem__(name)

    def get(self, name, default=None):
        self.read.add(name)
        return super().get(name, default)

    def __contains__(self, name):
        self.read.add(name)
        return super().__contains__(name)


def sample(shape, name="", **known):
    """A value that the model takes."""
    if name in known:
        return known[name]
    kind = shape.type_name
    if kind == "structure":
        return {
            member: sample(inner, member, **known)
            for member, inner in shape.members.items()
            if member in shape.required_members
        }
    if kind == "list":
        return [sample(shape.member, "", **known)]
    if kind == "map":
        return {"name": "value"}
    simple = {
        "boolean": True,
        "integer": 1,
        "long": 1,
        "timestamp": datetime(2030, 1, 1, tzinfo=UTC),
        "blob": b"",
    }
    enum = getattr(shape, "enum", None)
    return enum[0] if enum else simple.get(kind, "value")


def unread_members(service, operations, prepare=lambda: None, always=(), **known):
    """`Operation.member` of each input member that an operation of dicts does not look at.

    `prepare` is called before each request; `known` are values that make sense here, and
    `always` names the members that every request has, though the model does not demand them.
    """
    unread = set()
    for name, operation in operations.items():
        shape = models.service_model(service).operation_model(name).input_shape
        required = sample(shape, **known)
        required |= {member: known[member] for member in always if member in shape.members}
        for member, inner in shape.members.items():
            parameters = Recorder({**required, member: sample(inner, member, **known)})
            prepare()
            with contextlib.suppress(AwsError):
                result = operation(parameters)
                if inspect.isawaitable(result):
                    asyncio.run(result)
            if member not in parameters.read:
                unread.add(f"{name}.{member}")
    return unread
