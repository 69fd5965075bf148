"""The registry beside the endpoints that its models are deployed to."""

from tests.unit.region.services.sagemaker.endpoints.conftest import play  # noqa: F401
