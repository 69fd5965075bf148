"""How much arithmetic a training step is, and how much a GPU can do: what MFU is made of."""

from __future__ import annotations

import torch

PEAK_BF16: tuple[tuple[str, float], ...] = (
    # Dense bf16 FLOP/s by a part of the name that CUDA reports; the first match counts. The same
    # values as torchtitan's tools/utils.py at b5bcd76c, which has them from NVIDIA's data sheets.
    ("GB300", 2.5e15),
    ("GB200", 2.5e15),
    ("B300", 2.25e15),
    ("B200", 2.25e15),
    ("H200", 989e12),
    ("H100 NVL", 835e12),
    ("H100 PCIe", 756e12),
    ("H100", 989e12),
    ("A100", 312e12),
)


def peak_flops(device: torch.device) -> float | None:
    """Dense bf16 FLOP/s of `device`; None where that is not known, as on every CPU."""
    return peak_of_name(torch.cuda.get_device_name(device)) if device.type == "cuda" else None


def peak_of_name(name: str) -> float | None:
    return next((peak for part, peak in PEAK_BF16 if part in name), None)


def transformer(*, parameters: int, layers: int, width: int, tokens: int) -> float:
    """FLOPs for one token, forward and backward: 6·N + 12·L·d·T, the convention of the field.

    `width` is heads times head size, `tokens` the length of a sequence; recomputation for
    activation checkpointing does not count.
    """
    return 6.0 * parameters + 12.0 * layers * width * tokens
