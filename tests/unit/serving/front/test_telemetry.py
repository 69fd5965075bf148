"""What /metrics reports of GPUs."""

from __future__ import annotations

import os

import pytest

from sagemaker_byoc.serving.front import telemetry


def test_gpus():
    """In bytes and shares; what a GPU does not know is left out."""
    found = telemetry.parse_gpus("0, 37, 1024, 81920, 41\n1, [N/A], 0, 81920, [N/A]\n")
    assert found["gpu_utilization_ratio"][1] == {'{gpu="0"}': pytest.approx(0.37)}
    assert found["gpu_memory_used_bytes"][1] == {'{gpu="0"}': 2**30, '{gpu="1"}': 0.0}
    assert found["gpu_temperature_celsius"][1] == {'{gpu="0"}': 41.0}


@pytest.mark.parametrize(
    ("script", "names"),
    [
        ("echo '0, 5, 1, 2, 3'", 4),
        ("exit 9", 0),
        ("echo 'No devices were found'", 0),
        ("echo broken; exit 0", 0),
    ],
)
def test_nvidia_smi(tmp_path, monkeypatch, script, names):
    """Asked as a program; where it fails there are no figures and no error."""
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/bin")
    assert len(telemetry.read_gpus()) == names


def test_no_nvidia_smi(monkeypatch):
    """Most machines."""
    monkeypatch.setenv("PATH", "/nowhere")
    assert telemetry.read_gpus() == {}
