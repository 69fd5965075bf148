# ruff: noqa: ANN001, ANN201, ARG001
"""Batches in bf16: images of uint8 come as .npy, and rows of several requests share a pass."""

import json
import os

import torch
import vit

batch = int(os.environ["GPU_BATCH"])
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def model_fn(model_dir):
    return vit.model(json.loads(os.environ["GPU_SIZES"]), DEVICE)


@torch.inference_mode()
def predict_fn(images, model):
    return model(images.to(DEVICE, non_blocking=True)).float().cpu()
