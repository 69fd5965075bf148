"""Every variable says who reads it and why, and a name that nearly is one is noticed."""

from __future__ import annotations

import pytest

from sagemaker_byoc.contract import variables
from sagemaker_byoc.contract.variables import SERVE, TRAIN


@pytest.mark.parametrize("variable", variables.every())
def test_has_a_source(variable):
    """A variable says who reads it and where its meaning comes from."""
    assert variable.reader in {variables.TRAIN, variables.SERVE, variables.BOTH, variables.CLIENT}
    assert variable.source


def test_each_name_is_there_once():
    """Two constants of one name could differ."""
    assert len(set(variables.every())) == len(variables.every())


@pytest.mark.parametrize(
    ("name", "reader", "meant"),
    [
        ("SAGEMAKER_MODEL_SERVER_WORKER", SERVE, "SAGEMAKER_MODEL_SERVER_WORKERS"),
        ("BYOC_BATCHES", SERVE, "BYOC_BATCH"),
        ("BYOC_TARGET_LATENCY", SERVE, "BYOC_TARGET_LATENCY_MS"),
        ("byoc_queue_mb", SERVE, "BYOC_QUEUE_MB"),
        ("BYOC_NPROCS", TRAIN, "BYOC_NPROC"),
        ("BYOC_STOPGRACE", TRAIN, "BYOC_STOP_GRACE"),
        ("SAGEMAKER_PROGRAMM", TRAIN, "SAGEMAKER_PROGRAM"),
        ("BYOC_ALOW_CPU", TRAIN, "BYOC_ALLOW_CPU"),
        ("BYOC_ALOW_CPU", SERVE, "BYOC_ALLOW_CPU"),
        ("BYOC_NPROCS", SERVE, None),
        ("BYOC_NPROC", SERVE, None),
        ("BYOC_BATCHES", TRAIN, None),
        ("SAGEMAKER_BATCH_STRATEGY", SERVE, None),
        ("SAGEMAKER_PROGRAM", SERVE, None),
        ("MODEL_SERVER_TIMEOUT", SERVE, None),
        ("SAGEMAKER_SOMETHING_ELSE", SERVE, None),
        ("PATH", SERVE, None),
    ],
)
def test_misspelt(name, reader, meant):
    """What is nearly the name of a variable of the image is named; nothing else is."""
    assert variables.misspelt([name], reader) == ({name: meant} if meant else {})
    lines = variables.warnings({name: "1"}, reader)
    assert len(lines) == bool(meant)
    assert all(name in line and meant in line for line in lines)
