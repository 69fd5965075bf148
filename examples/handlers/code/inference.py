import json
import logging
import os
import sys

import numpy as np
import torch

from net import Net

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)
logger.addHandler(logging.StreamHandler(sys.stdout))

JSON_CONTENT_TYPE = "application/json"
CSV_CONTENT_TYPE = "text/csv"


def model_fn(model_dir):
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    logger.info("Loading the model.")
    model = Net()
    with open(os.path.join(model_dir, "model.pth"), "rb") as f:
        model.load_state_dict(torch.load(f, map_location=device, weights_only=True))
    logger.info("Done loading model")
    return model.to(device).eval()


def input_fn(request_body, request_content_type):
    if request_content_type == JSON_CONTENT_TYPE:
        rows = json.loads(request_body)["patients"]
    elif request_content_type == CSV_CONTENT_TYPE:
        rows = np.loadtxt(request_body.splitlines(), delimiter=",", ndmin=2)
    else:
        raise ValueError(f"Unsupported content type: {request_content_type}")
    return torch.tensor(rows, dtype=torch.float32)


def predict_fn(input_object, model):
    device = next(model.parameters()).device
    with torch.no_grad():
        return 100 * model(input_object.to(device))


def output_fn(prediction, response_content_type):
    values = prediction.cpu().tolist()
    if response_content_type == CSV_CONTENT_TYPE:
        return "".join(f"{value:.1f}\n" for value in values), CSV_CONTENT_TYPE
    return json.dumps({"progress": values}), JSON_CONTENT_TYPE
