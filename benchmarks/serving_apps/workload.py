# ruff: noqa: ANN001, ANN201, PLC0415
"""The models, bodies and decoders that all servers of the benchmark share; seeded, made on the fly.

w1: tiny MLP, one row of JSON. w2: the same, 100 rows of CSV. w3: a small convnet, one uint8 image
as .npy. w4: an MLP of 19 MB, bound by memory for one row and by arithmetic for many; one row of
JSON.
"""

from __future__ import annotations

import io
import json
import os

import numpy as np

NAME = os.environ.get("WORKLOAD", "w1")
TYPES = {
    "w1": "application/json",
    "w2": "text/csv",
    "w3": "application/x-npy",
    "w4": "application/json",
}


def body(name):
    rng = np.random.default_rng(7)
    if name == "w2":
        rows = rng.normal(size=(100, 13))
        return "".join(",".join(f"{v:.4f}" for v in row) + "\n" for row in rows).encode()
    if name == "w3":
        stream = io.BytesIO()
        np.save(stream, rng.integers(0, 256, (1, 3, 64, 64), dtype=np.uint8))
        return stream.getvalue()
    width = 13 if name == "w1" else 256
    return json.dumps({"instances": rng.normal(size=(1, width)).round(4).tolist()}).encode()


def model(name=NAME):
    import torch
    from torch import nn

    torch.set_num_threads(1)
    torch.manual_seed(7)
    if name == "w3":
        layers = [nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU()]
        layers += [nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        return nn.Sequential(*layers, nn.Linear(64, 10)).eval()
    if name == "w4":
        layers = [nn.Linear(256, 2048), nn.ReLU(), nn.Linear(2048, 2048), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(2048, 10)).eval()
    return nn.Sequential(nn.Linear(13, 64), nn.ReLU(), nn.Linear(64, 1)).eval()


def decode(data, content_type):
    if content_type == "application/json":
        return np.asarray(json.loads(data)["instances"], dtype=np.float32)
    if content_type == "text/csv":
        return np.loadtxt(io.BytesIO(data), delimiter=",", dtype=np.float32, ndmin=2)
    return np.load(io.BytesIO(data), allow_pickle=False)


def forward(net, tensor):
    import torch

    with torch.inference_mode():
        return net(tensor.float().div_(255) if tensor.dtype == torch.uint8 else tensor)


def answer(net, data, content_type):
    """All that a server without a framework does."""
    import torch

    rows = forward(net, torch.from_numpy(decode(data, content_type))).tolist()
    return json.dumps({"predictions": rows}).encode()
