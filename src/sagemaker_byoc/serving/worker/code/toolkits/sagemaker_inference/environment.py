"""What the environment says, as AWS's toolkit reads it."""

from __future__ import annotations

import os

from . import content_types, parameters

SAGEMAKER_BASE_PATH = "/opt/ml"
DEFAULT_MODULE_NAME = "inference.py"
base_dir = os.environ.get(parameters.BASE_PATH_ENV, SAGEMAKER_BASE_PATH)
is_multi_model = os.environ.get(parameters.MULTI_MODEL_ENV) == "true"
model_dir = os.path.join(base_dir, "models" if is_multi_model else "model")  # noqa: PTH118
code_dir = os.path.join(model_dir, "code")  # noqa: PTH118


class Environment:
    """A snapshot."""

    def __init__(self) -> None:
        found = os.environ.get
        port = found(parameters.BIND_TO_PORT_ENV, "8080")
        seconds = found(parameters.MODEL_SERVER_TIMEOUT_SECONDS_ENV)
        megabytes = found(parameters.MAX_REQUEST_SIZE)
        program = found(parameters.USER_PROGRAM_ENV, DEFAULT_MODULE_NAME)
        self.module_name = program.removesuffix(".py")
        self.model_server_timeout = int(found(parameters.MODEL_SERVER_TIMEOUT_ENV, "60"))
        self.model_server_timeout_seconds = int(seconds) if seconds is not None else None
        self.model_server_workers = found(parameters.MODEL_SERVER_WORKERS_ENV)
        self.startup_timeout = int(found(parameters.STARTUP_TIMEOUT_ENV, "600"))
        self.default_accept = found(parameters.DEFAULT_INVOCATIONS_ACCEPT_ENV, content_types.JSON)
        self.inference_http_port = self.management_http_port = port
        self.safe_port_range = found(parameters.SAFE_PORT_RANGE_ENV)
        self.max_request_size = int(megabytes) * 2**20 if megabytes is not None else None
