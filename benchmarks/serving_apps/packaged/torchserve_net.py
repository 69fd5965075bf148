# ruff: noqa: ANN001, ANN201
"""The models in TorchServe: torchserve_net.py PORT. BATCH=32 for its own batches, one worker."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import workload

loaded = {}


def handle(data, context):
    import torch  # noqa: PLC0415

    if "net" not in loaded:
        loaded["net"] = workload.model()
    if data is None:
        return None
    inputs = [decoded(each, context, number) for number, each in enumerate(data)]
    rows = workload.forward(loaded["net"], torch.from_numpy(np.concatenate(inputs))).tolist()
    answers, first = [], 0
    for each in inputs:
        answers.append({"predictions": rows[first : first + len(each)]})
        first += len(each)
    return answers


def decoded(request, context, number):
    body = request.get("body")
    body = request.get("data") if body is None else body
    if isinstance(body, dict):
        return np.asarray(body["instances"], dtype=np.float32)
    kind = context.get_request_header(number, "Content-Type") or "application/json"
    return workload.decode(bytes(body), kind)


def main():
    port, batch = int(sys.argv[1]), int(os.environ.get("BATCH", "1"))
    tools = Path(sys.executable).parent
    folder = tempfile.mkdtemp()
    os.chdir(folder)
    os.environ["PATH"] = f"{tools}:{os.environ['PATH']}"
    archive = ["torch-model-archiver", "--model-name", "model", "--version", "1.0"]
    archive += ["--handler", __file__, "--extra-files", workload.__file__, "--export-path", folder]
    subprocess.run(archive, check=True)
    workers = 1 if batch > 1 else 2
    model = (
        f'{{"model": {{"1.0": {{"defaultVersion": true, "marName": "model.mar", '
        f'"minWorkers": {workers}, "maxWorkers": {workers}, "batchSize": {batch}, '
        '"maxBatchDelay": 5, "responseTimeout": 60}}}'
    )
    Path("config.properties").write_text(
        f"inference_address=http://127.0.0.1:{port}\n"
        f"management_address=http://127.0.0.1:{port + 1000}\n"
        f"metrics_address=http://127.0.0.1:{port + 2000}\n"
        f"grpc_inference_port={port + 3000}\ngrpc_management_port={port + 4000}\n"
        "disable_token_authorization=true\ndecode_input_request=false\n"
        f"enable_envvars_config=true\nload_models=model.mar\nmodels={model}\n"
    )
    command = ["torchserve", "--start", "--foreground", "--ncs", "--model-store", folder]
    command += ["--models", "model=model.mar", "--ts-config", "config.properties"]
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
