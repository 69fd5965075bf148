"""The hosting of endpoints on a fake engine, for invocations."""

from __future__ import annotations

from tests.unit.region.services.sagemaker.endpoints.conftest import play

__all__ = ["play"]
