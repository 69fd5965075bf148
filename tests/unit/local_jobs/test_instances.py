"""What an instance type is on this machine."""

from __future__ import annotations

import pytest

from sagemaker_byoc.local.engines.container import Limits
from sagemaker_byoc.local.instances import describe, on_this_machine

GIB = 2**30


@pytest.mark.parametrize(
    ("kind", "gpus", "limits"),
    [
        ("ml.m5.large", 0, Limits(2, 8 * GIB)),
        ("ml.c5.4xlarge", 0, Limits(16, 32 * GIB)),
        ("ml.r7i.xlarge", 0, Limits(4, 32 * GIB)),
        ("ml.t3.medium", 0, Limits(2, 4 * GIB)),
        ("ml.g5.xlarge", 1, None),
        ("ml.g5.12xlarge", 4, None),
        ("ml.p4d.24xlarge", 8, None),
        ("ml.trn1.2xlarge", 0, None),
        ("ml.x9.xlarge", 0, None),
        ("local_gpu", None, None),
    ],
)
def test_types(kind, gpus, limits):
    """As AWS's pages list them; what is not known has no limits."""
    instance = describe(kind)
    assert (instance.gpus, instance.limits) == (gpus, limits)


def test_never_more_than_the_machine_has():
    """A larger type is this machine."""
    instance = on_this_machine("ml.m5.24xlarge", 0)
    assert instance.limits.cpus < 96
    assert on_this_machine("ml.p4d.24xlarge", 2).gpus == 2
    assert on_this_machine("local", 3).gpus is None
