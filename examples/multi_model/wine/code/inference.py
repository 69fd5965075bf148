import torch

from labels import LABELS


def predict_fn(rows, model):
    with torch.inference_mode():
        return [LABELS[kind] for kind in model(rows).argmax(dim=1).tolist()]
