"""Alarms of a CloudWatch without a wire."""

from __future__ import annotations

import pytest
from tests.unit.region.services.cloudwatch.alarm_bench import Bench


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path)
    yield bench
    bench.close()
    bench.store.close()
