"""What nvidia-smi says of the GPUs, for /metrics. Called on one of Flask's threads."""

from __future__ import annotations

import shutil
import subprocess

GPU_QUERY = ("utilization.gpu", "memory.used", "memory.total", "temperature.gpu")
GPU_TIMEOUT = 2.0
MIB = 2**20
GPU_SCALES = (0.01, MIB, MIB, 1.0)
GPU_GAUGES = (
    ("gpu_utilization_ratio", "Share of the last moments in which a kernel ran."),
    ("gpu_memory_used_bytes", "Memory of the GPU that is in use, by whomever."),
    ("gpu_memory_total_bytes", "Memory of the GPU."),
    ("gpu_temperature_celsius", "Temperature of the GPU."),
)


def read_gpus() -> dict[str, tuple[str, dict[str, float]]]:
    """Gauges by GPU; empty where there is no nvidia-smi or no answer."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return {}
    command = [program, f"--query-gpu=index,{','.join(GPU_QUERY)}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, timeout=GPU_TIMEOUT, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    return parse_gpus(answer.stdout)


def parse_gpus(text: str) -> dict[str, tuple[str, dict[str, float]]]:
    """A value that a GPU does not have is `[N/A]` and is left out."""
    found: dict[str, tuple[str, dict[str, float]]] = {
        name: (help_, {}) for name, help_ in GPU_GAUGES
    }
    for line in text.splitlines():
        index, *values = (part.strip() for part in line.split(","))
        for (name, _), scale, value in zip(GPU_GAUGES, GPU_SCALES, values, strict=False):
            try:
                found[name][1][f'{{gpu="{index}"}}'] = float(value) * scale
            except ValueError:
                continue
    return {name: entry for name, entry in found.items() if entry[1]}
