"""Searches over the resources of a region with a fake engine."""

from tests.unit.region.services.sagemaker.endpoints.conftest import play  # noqa: F401
