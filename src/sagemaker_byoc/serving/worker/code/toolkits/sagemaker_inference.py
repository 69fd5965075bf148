"""Stand-in for the package sagemaker-inference, whose names handlers import.

It is found only if that package is not installed, which would bring boto3, scipy and psutil along.
It has what handlers use; what starts and runs AWS's own server is missing. Each section below is a
module in AWS's package; here the names of those modules all stand for this one.
"""

from __future__ import annotations

import importlib
import io
import json
import logging as _logging
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

# ── content_types ──

JSON = "application/json"
CSV = "text/csv"
OCTET_STREAM = "application/octet-stream"
ANY = "*/*"
NPY = "application/x-npy"
NPZ = "application/x-npz"
UTF8_TYPES = [JSON, CSV]

# ── parameters ──

BASE_PATH_ENV = "SAGEMAKER_BASE_DIR"
USER_PROGRAM_ENV = "SAGEMAKER_PROGRAM"
LOG_LEVEL_ENV = "SAGEMAKER_CONTAINER_LOG_LEVEL"
DEFAULT_INVOCATIONS_ACCEPT_ENV = "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT"
MODEL_SERVER_WORKERS_ENV = "SAGEMAKER_MODEL_SERVER_WORKERS"
MODEL_SERVER_TIMEOUT_ENV = "SAGEMAKER_MODEL_SERVER_TIMEOUT"
MODEL_SERVER_TIMEOUT_SECONDS_ENV = "SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS"
MODEL_SERVER_VMARGS = "SAGEMAKER_MODEL_SERVER_VMARGS"
STARTUP_TIMEOUT_ENV = "SAGEMAKER_STARTUP_TIMEOUT"
BIND_TO_PORT_ENV = "SAGEMAKER_BIND_TO_PORT"
SAFE_PORT_RANGE_ENV = "SAGEMAKER_SAFE_PORT_RANGE"
MULTI_MODEL_ENV = "SAGEMAKER_MULTI_MODEL"
MAX_REQUEST_SIZE = "SAGEMAKER_MAX_PAYLOAD_IN_MB"

# ── errors: the server answers with their status and message ──


class UnsupportedFormatError(Exception):
    """A media type that the handler does not support: 415 for a request, 406 for a reply."""

    def __init__(self, content_type: str, **kwargs: object) -> None:
        self._message = (
            f"Content type {content_type} is not supported: write an input_fn that reads it, or an "
            "output_fn that writes it"
        )
        super().__init__(self._message, **kwargs)


class BaseInferenceToolkitError(Exception):
    """Base of errors that set the status of the reply."""

    def __init__(self, status_code: int, message: str, phrase: str) -> None:
        self.status_code = status_code
        self.message = message
        self.phrase = phrase
        super().__init__(status_code, message, phrase)


class GenericInferenceToolkitError(BaseInferenceToolkitError):
    """Error that a handler raises to set the status of the reply."""

    def __init__(
        self, status_code: int, message: str | None = None, phrase: str | None = None
    ) -> None:
        text = message or "Invalid Request"
        super().__init__(status_code, text, phrase or text)


# ── decoder ──


def _json_to_numpy(string_like: str | bytes, dtype: Any = None) -> Any:
    return np.array(json.loads(string_like), dtype=dtype)


def _csv_to_numpy(string_like: str, dtype: Any = None) -> Any:
    return np.genfromtxt(io.StringIO(string_like), dtype=dtype, delimiter=",")


def _npy_to_numpy(npy_array: bytes) -> Any:
    """Load an array, but no pickled objects as AWS's does: they are programs sent by the caller."""
    return np.load(io.BytesIO(npy_array), allow_pickle=False)


def _npz_to_sparse(npz_bytes: bytes) -> Any:
    sparse = importlib.import_module("scipy.sparse")  # only the user's image has it
    return sparse.load_npz(io.BytesIO(npz_bytes))


_decoder_map: dict[str, Callable[[Any], Any]] = {
    NPY: _npy_to_numpy,
    CSV: _csv_to_numpy,
    JSON: _json_to_numpy,
    NPZ: _npz_to_sparse,
}


def decode(obj: Any, content_type: str) -> Any:
    """Return the body as an array; raise UnsupportedFormatError for an unknown media type."""
    if content_type not in _decoder_map:
        raise UnsupportedFormatError(content_type)
    return _decoder_map[content_type](obj)


# ── encoder ──


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def _array_to_json(array_like: Any) -> str:
    return json.dumps(array_like, default=_plain)


def _array_to_npy(array_like: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array_like)
    return buffer.getvalue()


def _array_to_csv(array_like: Any) -> str:
    stream = io.StringIO()
    np.savetxt(stream, array_like, delimiter=",", fmt="%s")
    return stream.getvalue()


_encoder_map: dict[str, Callable[[Any], Any]] = {
    NPY: _array_to_npy,
    CSV: _array_to_csv,
    JSON: _array_to_json,
}
SUPPORTED_CONTENT_TYPES = set(_encoder_map)


def encode(array_like: Any, content_type: str) -> Any:
    """Return an array as a body; raise UnsupportedFormatError for an unknown media type."""
    if content_type not in _encoder_map:
        raise UnsupportedFormatError(content_type)
    return _encoder_map[content_type](array_like)


# ── utils ──

CONTENT_TYPE_REGEX = re.compile("^[Cc]ontent-?[Tt]ype")


def read_file(path: str, mode: str = "r") -> Any:
    with Path(path).open(mode) as file:
        return file.read()


def write_file(path: str, data: Any, mode: str = "w") -> None:
    with Path(path).open(mode) as file:
        file.write(data)


def retrieve_content_type_header(request_property: Mapping[str, str]) -> str | None:
    """Return the Content-Type, in any of its spellings."""
    found = (text for name, text in request_property.items() if CONTENT_TYPE_REGEX.match(name))
    return next(found, None)


def parse_accept(accept: str) -> list[str]:
    return accept.replace(" ", "").split(",")


def remove_crlf(illegal_string: str) -> str:
    return illegal_string.replace("\r", " ").replace("\n", " ")


# ── environment ──

SAGEMAKER_BASE_PATH = "/opt/ml"
DEFAULT_MODULE_NAME = "inference.py"
base_dir = os.environ.get(BASE_PATH_ENV, SAGEMAKER_BASE_PATH)
is_multi_model = os.environ.get(MULTI_MODEL_ENV) == "true"
model_dir = os.path.join(base_dir, "models" if is_multi_model else "model")  # noqa: PTH118
code_dir = os.path.join(model_dir, "code")  # noqa: PTH118


class Environment:
    """A snapshot of the variables, as AWS's toolkit reads them."""

    def __init__(self) -> None:
        found = os.environ.get
        seconds = found(MODEL_SERVER_TIMEOUT_SECONDS_ENV)
        megabytes = found(MAX_REQUEST_SIZE)
        self.module_name = found(USER_PROGRAM_ENV, DEFAULT_MODULE_NAME).removesuffix(".py")
        self.model_server_timeout = int(found(MODEL_SERVER_TIMEOUT_ENV, "60"))
        self.model_server_timeout_seconds = int(seconds) if seconds is not None else None
        self.model_server_workers = found(MODEL_SERVER_WORKERS_ENV)
        self.startup_timeout = int(found(STARTUP_TIMEOUT_ENV, "600"))
        self.default_accept = found(DEFAULT_INVOCATIONS_ACCEPT_ENV, JSON)
        self.inference_http_port = self.management_http_port = found(BIND_TO_PORT_ENV, "8080")
        self.safe_port_range = found(SAFE_PORT_RANGE_ENV)
        self.max_request_size = int(megabytes) * 2**20 if megabytes is not None else None


# ── logging ──


def configure_logger() -> None:
    _logging.basicConfig(level=os.environ.get(LOG_LEVEL_ENV, "INFO"))


def get_logger() -> _logging.Logger:
    return _logging.getLogger("sagemaker-inference")


# ── default_inference_handler ──


class DefaultInferenceHandler:
    """The class that AWS's framework handlers derive from: it decodes and encodes; subclasses load
    and call the model."""

    def default_model_fn(self, model_dir: str, context: Any = None) -> Any:
        raise NotImplementedError("Please provide a model_fn implementation.")

    def default_input_fn(self, input_data: Any, content_type: str, context: Any = None) -> Any:
        return decode(input_data, content_type)

    def default_predict_fn(self, data: Any, model: Any, context: Any = None) -> Any:
        raise NotImplementedError("Please provide a predict_fn implementation.")

    def default_output_fn(self, prediction: Any, accept: str, context: Any = None) -> Any:
        """Return the body and its type: the first accepted type that can be written."""
        for content_type in parse_accept(accept):
            if content_type in SUPPORTED_CONTENT_TYPES:
                return encode(prediction, content_type), content_type
        raise UnsupportedFormatError(accept)


# ── the modules' names ──

__path__: list[str] = []  # `import sagemaker_inference.errors` requires a package
for _name in (
    *("content_types", "parameters", "errors", "decoder", "encoder", "utils"),
    *("environment", "logging", "default_inference_handler"),
):
    globals()[_name] = sys.modules[f"{__name__}.{_name}"] = sys.modules[__name__]
