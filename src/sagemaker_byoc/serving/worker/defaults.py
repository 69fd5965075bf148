"""The handlers for those who wrote none: any built-in type in, arrays or tensors, any built-in out.

torch is used if it is there already: loaded by the default model, or imported by the user's file.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from sagemaker_byoc.serving import media
from sagemaker_byoc.serving.bodies import Data
from sagemaker_byoc.serving.errors import BadInput, NotAcceptable, UnsupportedType
from sagemaker_byoc.serving.media import MediaType
from sagemaker_byoc.serving.worker import codecs, named, tables
from sagemaker_byoc.serving.worker.context import Context

ARRAYS = (media.JSON, media.JSON_LINES, media.CSV, media.NPY)
SUPPORTED = (
    *(*ARRAYS, media.NPZ, media.SAFETENSORS),
    *(tables.TYPES if tables.is_installed() else ()),
)


def torch_if_loaded() -> Any:
    """The torch module, or None; a model without torch must not pay for its import."""
    return sys.modules.get("torch")


def default_input(data: Data, media_type: MediaType, context: Context, csv_header: str) -> Any:
    """A tensor on the worker's device where torch is loaded, else an array; text as float32.

    A body that holds arrays by name gives a dict, or, if it holds only one, that one.
    """
    kind = media_type.canonical
    if kind not in SUPPORTED:
        raise UnsupportedType(
            f"No decoder for {media_type.essence}; supported are {', '.join(SUPPORTED)}, or define "
            "input_fn"
        )
    if len(data) == 0:
        raise BadInput("The body is empty")
    if kind in tables.TYPES:
        return _input(tables.decode(data, kind), context)
    if kind in ARRAYS:
        return _input(_array(data, media_type, context, csv_header), context)
    decode = named.decode_npz if kind == media.NPZ else named.decode_safetensors
    found = {name: _input(_native(a), context) for name, a in decode(data, media_type).items()}
    return next(iter(found.values())) if len(found) == 1 else found


def _input(array: codecs.Array, context: Context) -> Any:
    torch = torch_if_loaded()
    return array if torch is None else _tensor(torch, array, context.device)


def _array(data: Data, media_type: MediaType, context: Context, csv_header: str) -> codecs.Array:
    if media_type.canonical == media.JSON:
        array, key = codecs.decode_json(data, media_type)
        context.asked_for_predictions = key == "instances"
        return array
    if media_type.canonical == media.JSON_LINES:
        return codecs.decode_json_lines(data, media_type)
    if media_type.canonical == media.CSV:
        return codecs.decode_csv(data, media_type, header=csv_header)
    return _native(codecs.decode_npy(data, media_type))


def _native(array: codecs.Array) -> codecs.Array:
    """In this machine's byte order; doubles, which are numpy's default and no model's, halved."""
    if array.dtype == np.float64 or array.dtype.newbyteorder("=") == np.float64:
        return array.astype(np.float32)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _tensor(torch: Any, array: codecs.Array, device: str) -> Any:
    if not array.flags.writeable or any(stride < 0 for stride in array.strides):
        array = array.copy()  # torch can't know that nobody writes
    try:
        return torch.from_numpy(array).to(device)
    except TypeError as error:
        raise BadInput(f"No tensor can hold {array.dtype}: {error}") from None


def on_device(value: Any, device: str) -> Any:
    """Tensors moved, also inside of tuples and dicts; all else as it is."""
    torch = torch_if_loaded()
    if torch is not None and isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, tuple):
        return tuple(on_device(entry, device) for entry in value)
    if isinstance(value, dict):
        return {name: on_device(entry, device) for name, entry in value.items()}
    return value


def default_predict(data: object, model: Any) -> object:
    """Call the model; without gradients where torch is loaded."""
    torch = torch_if_loaded()
    if torch is None:
        return model(data)
    with torch.inference_mode():
        return model(data)


def default_output(prediction: object, essence: str, context: Context) -> bytes:
    """`prediction` in one of the supported types."""
    value = plain(prediction)
    canonical = media.ALIASES.get(essence, essence)
    if canonical == media.JSON:
        return codecs.encode_json(
            {"predictions": value} if context.asked_for_predictions else value
        )
    if canonical == media.JSON_LINES:
        rows = [value] if isinstance(value, dict) else value
        rows = rows if isinstance(rows, list | tuple) else np.atleast_1d(as_array(rows))
        return codecs.encode_json_lines(rows)
    if canonical == media.CSV:
        return codecs.encode_csv(as_array(value))
    if canonical == media.NPY:
        return codecs.encode_npy(as_array(value))
    arrays = value if isinstance(value, dict) else {"output": value}
    by_name = {str(name): as_array(entry) for name, entry in arrays.items()}
    if canonical in tables.TYPES:
        return tables.encode(tables.columns_of(by_name), canonical)
    encode = named.encode_npz if canonical == media.NPZ else named.encode_safetensors
    return encode(by_name)


def plain(value: object) -> Any:
    """Tensors as arrays, also inside of lists, tuples and dicts."""
    torch = torch_if_loaded()
    if torch is not None and isinstance(value, torch.Tensor):
        tensor: Any = value.detach().cpu()
        return (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).numpy()
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    return value


def as_array(value: object) -> codecs.Array:
    """NotAcceptable for what only JSON has a form for; TypeError for what nothing has."""
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise NotAcceptable(f"The result is no array: {error}; accept {media.JSON}") from None
    if not array.dtype.hasobject:
        return array
    name = type(value).__name__
    if isinstance(value, dict):
        raise NotAcceptable(f"The result is a {name}, and no array; accept {media.JSON}")
    raise TypeError(f"a result of type {name} can't be an array")
