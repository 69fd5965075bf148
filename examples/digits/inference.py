"""Serve the digit network: the four functions that SageMaker's PyTorch images look for."""

import json
from io import BytesIO, StringIO
from pathlib import Path

import numpy as np
import torch
from sagemaker_inference.errors import UnsupportedFormatError

from network import DigitNet


def model_fn(model_dir):
    weights = torch.load(Path(model_dir) / "model.pt", map_location="cpu", weights_only=True)
    model = DigitNet()
    model.load_state_dict(weights)
    return model.eval().to("cuda" if torch.cuda.is_available() else "cpu")


def input_fn(body, content_type):
    """Scans as JSON lists, CSV rows or a npy array: 64 grey values each, of any outer shape."""
    if content_type == "application/json":
        scans = np.asarray(json.loads(body), dtype=np.float32)
    elif content_type == "text/csv":
        scans = np.loadtxt(StringIO(body), delimiter=",", ndmin=2, dtype=np.float32)
    elif content_type == "application/x-npy":
        scans = np.load(BytesIO(body), allow_pickle=False).astype(np.float32)
    else:
        raise UnsupportedFormatError(content_type)  # the caller gets a 415
    return torch.from_numpy(scans.reshape(-1, 1, 8, 8))


@torch.inference_mode()
def predict_fn(scans, model):
    device = next(model.parameters()).device
    return torch.softmax(model(scans.to(device)), dim=1).cpu()


def output_fn(probabilities, accept):
    best = probabilities.max(dim=1)
    answers = [
        {"digit": int(digit), "probability": round(float(probability), 4)}
        for digit, probability in zip(best.indices, best.values, strict=True)
    ]
    return json.dumps(answers)
