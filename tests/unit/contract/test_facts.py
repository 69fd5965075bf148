"""Every number of the contract has a source, and those from the service model are AWS's own."""

from __future__ import annotations

import functools
import importlib
import pkgutil
import re

import botocore.session
import pytest

import sagemaker_byoc.contract
from sagemaker_byoc.contract import gpu
from sagemaker_byoc.contract.facts import API_MODEL, Fact

PACKAGE = f"{sagemaker_byoc.contract.__name__}."
NAMES = [
    module.name.removeprefix(PACKAGE)
    for module in pkgutil.walk_packages(sagemaker_byoc.contract.__path__, PACKAGE)
]
FACTS = [
    (f"{module}.{name}", value)
    for module in NAMES
    for name, value in vars(importlib.import_module(f"sagemaker_byoc.contract.{module}")).items()
    if isinstance(value, Fact)
]


@functools.cache
def service_model(name):
    """Loading one takes a second."""
    return botocore.session.get_session().get_service_model(name)


METADATA = re.compile(rf"{API_MODEL}: ([a-z-]+)\.(\w+)\.(max|pattern)")


@pytest.mark.parametrize(("name", "fact"), FACTS, ids=[name for name, _ in FACTS])
def test_has_source_and_date(name, fact):
    """A fact says where it comes from and when that was read."""
    assert fact.source
    assert re.fullmatch(r"2\d{3}-\d{2}(-\d{2})?", fact.checked)
    assert fact.unit


@pytest.mark.parametrize(
    ("name", "fact"),
    [(name, fact) for name, fact in FACTS if METADATA.match(fact.source)],
    ids=[name for name, fact in FACTS if METADATA.match(fact.source)],
)
def test_equals_the_service_model(name, fact):
    """A limit that cites the service model has the value that AWS publishes there."""
    service, shape, key = METADATA.match(fact.source).groups()
    assert service_model(service).shape_for(shape).metadata[key] == fact.value


@pytest.mark.parametrize("name", [name for name, fact in FACTS if fact.unit == "header"])
def test_header_is_the_models_own(name):
    """A header of InvokeEndpoint is spelt as the service model spells it."""
    fact = dict(FACTS)[name]
    operation = service_model("sagemaker-runtime").operation_model("InvokeEndpoint")
    members = {**operation.output_shape.members, **operation.input_shape.members}
    assert members[fact.source.rsplit(".", 1)[1]].serialization["name"] == fact.value


def test_host_images_are_those_of_the_service_model():
    """A new one has to be entered with its driver, or launches go on without it."""
    known = {host.name for host in gpu.HOST_IMAGES.value if "inference" in host.name}
    published = service_model("sagemaker").shape_for("ProductionVariantInferenceAmiVersion").enum
    assert known == {name for name in published if "neuron" not in name}
