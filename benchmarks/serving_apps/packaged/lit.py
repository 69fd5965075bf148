# ruff: noqa: ANN001, ANN201
"""The models in LitServe: lit.py PORT. BATCH=32 for its dynamic batches, with one worker."""

import os
import sys
from typing import Annotated

import litserve
import numpy as np
import workload
from fastapi import Body

BATCH = int(os.environ.get("BATCH", "1"))
TYPE = workload.TYPES[workload.NAME]


class Net(litserve.LitAPI):
    def setup(self, device):  # noqa: ARG002
        self.net = workload.model()

    def predict(self, x):
        import torch  # noqa: PLC0415

        return workload.forward(self.net, torch.from_numpy(x)).tolist()

    def batch(self, inputs):
        return np.concatenate(inputs)

    def unbatch(self, output):
        return [[row] for row in output]

    def encode_response(self, output):
        return {"predictions": output}


class FromJson(Net):
    def decode_request(self, request):
        return np.asarray(request["instances"], dtype=np.float32)


class FromBytes(Net):
    def decode_request(self, request: Annotated[bytes, Body()]):
        return workload.decode(request, TYPE)


if __name__ == "__main__":
    kind = FromJson if TYPE == "application/json" else FromBytes
    batches = {"max_batch_size": BATCH, "batch_timeout": 0.005} if BATCH > 1 else {}
    server = litserve.LitServer(
        kind(api_path="/invocations", **batches),
        accelerator="cpu",
        devices=1,
        workers_per_device=1 if BATCH > 1 else 2,
        healthcheck_path="/ping",
    )
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=1,
        generate_client_file=False,
        log_level="warning",
        access_log=False,
    )
