"""The default handlers: any built-in type in, arrays or tensors to the model, any built-in type
out.

torch is used if it is already loaded, by the default model or by the user's file.
"""

from __future__ import annotations

import functools
import gc
import sys
import sysconfig
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import chain, islice
from types import CellType, CodeType, FunctionType, MappingProxyType, MethodType, ModuleType
from typing import Any

import numpy as np

from sagemaker_byoc.serving import media
from sagemaker_byoc.serving.bodies import INLINE, Data
from sagemaker_byoc.serving.error_replies import BadInput, UnsupportedType
from sagemaker_byoc.serving.media import MediaType
from sagemaker_byoc.serving.worker.code.model_files import ModelError
from sagemaker_byoc.serving.worker.formats import codecs, csv_format, named_arrays, values
from sagemaker_byoc.serving.worker.formats.values import Array, as_array, plain, torch_if_loaded
from sagemaker_byoc.serving.worker.request_context import Context

TEXT_ARRAYS = (media.JSON, media.JSON_LINES, media.CSV)
ARRAYS = (*TEXT_ARRAYS, media.NPY)
SUPPORTED = (
    *(*ARRAYS, media.NPZ, media.SAFETENSORS),
    *(named_arrays.TABLES if named_arrays.has_pyarrow() else ()),
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """The kinds of data that the function which receives the decoded body can take."""

    tensors: bool = True
    """Tensors if torch is loaded, else arrays."""
    anything: bool = False
    """Also data other than numbers, as Python's own values or as rows of text."""
    floats: str = "float32"
    """The type of a tensor made from text."""


NUMBERS_ONLY = Wanted()


def default_input(
    data: Data,
    media_type: MediaType,
    context: Context,
    csv_header: str,
    wanted: Wanted = NUMBERS_ONLY,
) -> Any:
    """Return a tensor on the worker's device if torch is loaded, else an array.

    The body's own types are kept; only a tensor made from text has floats, as in AWS's toolkit. A
    body that holds arrays by name gives a dict or, if it holds only one, that array.
    """
    if len(data) <= INLINE:
        return _read(data, media_type, context, csv_header, wanted)
    with _without_collector():
        return _read(data, media_type, context, csv_header, wanted)


def _read(
    data: Data, media_type: MediaType, context: Context, csv_header: str, wanted: Wanted
) -> Any:
    kind = media_type.canonical
    if kind not in SUPPORTED:
        raise UnsupportedType(
            f"No decoder for {media_type.essence}; supported are {', '.join(SUPPORTED)}, or define "
            "input_fn"
        )
    if len(data) == 0:
        raise BadInput("The body is empty")
    torch = torch_if_loaded() if wanted.tensors else None
    floats = None if torch is None else _FLOATS[wanted.floats]
    if kind == media.JSON:
        read: Any = _read_json(data, media_type, context, wanted, floats)
    elif kind in TEXT_ARRAYS:
        read = _read_rows(data, media_type, csv_header, wanted, floats)
    else:
        read = _read_binary(data, media_type, wanted)
    return read if torch is None else _tensors(torch, read, context.device, wanted)


_FLOATS = {name: np.dtype(name) for name in ("float32", "float64")}


@contextmanager
def _without_collector() -> Iterator[None]:
    """Pause the garbage collector, which would traverse the new rows repeatedly."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _read_binary(data: Data, media_type: MediaType, wanted: Wanted) -> Any:
    kind = media_type.canonical
    if kind in named_arrays.TABLES:
        return named_arrays.decode_table(data, kind)
    kinds = values.NUMBERS + codecs.TEXT if wanted.anything else values.NUMBERS
    if kind == media.NPY:
        return _native(codecs.decode_npy(data, kinds=kinds))
    if kind == media.SAFETENSORS:
        found: Any = named_arrays.decode_safetensors(data)
    else:
        found = named_arrays.decode_npz(data, kinds=kinds)
    if not isinstance(found, dict):
        return found  # scipy's sparse matrix
    found = {name: _native(array) for name, array in found.items()}
    return next(iter(found.values())) if len(found) == 1 else found


def _native(array: Array) -> Array:
    """Return the array in this machine's byte order, which is all that torch takes."""
    return array.astype(array.dtype.newbyteorder("="), copy=False)


# ── bodies that are text ──


def _read_rows(
    data: Data, media_type: MediaType, csv_header: str, wanted: Wanted, floats: Any
) -> Any:
    """Return the numbers; for other rows their documents or cells, if any data is wanted."""
    is_csv = media_type.canonical == media.CSV
    try:
        if not is_csv:
            return codecs.decode_json_lines(data, media_type, floats=floats)
        return codecs.decode_csv(data, media_type, header=csv_header, floats=floats)
    except BadInput as error:
        if not wanted.anything:
            raise
        if not is_csv:
            return codecs.parse_json_lines(data, media_type)
        if isinstance(error.__cause__, csv_format.NotNumbersError):
            return error.__cause__.rows
        raise


def _read_json(
    data: Data, media_type: MediaType, context: Context, wanted: Wanted, floats: Any
) -> Any:
    """Return the numbers; for another document all of it, if any data is wanted."""
    try:
        array, key = codecs.decode_json(data, media_type, floats=floats, alone=wanted.anything)
    except BadInput:
        if not wanted.anything:
            raise
        return codecs.parse_json(data, media_type)
    context.asked_for_predictions = key == "instances"
    return array


# ── tensors ──


def _tensors(torch: Any, read: Any, device: str, wanted: Wanted) -> Any:
    if type(read) is np.ndarray:
        return _tensor(torch, read, device, wanted)
    if hasattr(read, "toarray") and not wanted.anything:
        read = named_arrays.dense(read)
    if isinstance(read, dict) and all(isinstance(entry, np.ndarray) for entry in read.values()):
        return {name: _tensor(torch, entry, device, wanted) for name, entry in read.items()}
    return _tensor(torch, read, device, wanted) if isinstance(read, np.ndarray) else read


def _tensor(torch: Any, array: Array, device: str, wanted: Wanted) -> Any:
    is_view = array.base is not None
    if is_view and (not array.flags.writeable or min(array.strides, default=0) < 0):
        array = array.copy()  # torch can't know that nobody writes
    try:
        tensor = torch.from_numpy(array)
    except TypeError as error:
        if wanted.anything:
            return array
        raise BadInput(f"No tensor can hold {array.dtype}: {error}") from None
    return tensor if device == "cpu" else tensor.to(device)


def on_device(value: Any, device: Any, types: Mapping[Any, Any] = MappingProxyType({})) -> Any:
    """Return `value` with its tensors moved, also inside lists, tuples and dicts.

    `types` maps types of tensors to those they are converted to.
    """
    torch = torch_if_loaded()
    if torch is not None and isinstance(value, torch.Tensor):
        return value.to(device, types.get(value.dtype, value.dtype))
    if isinstance(value, dict):
        return {name: on_device(entry, device, types) for name, entry in value.items()}
    if not isinstance(value, list | tuple):
        return value
    moved = [on_device(entry, device, types) for entry in value]
    if isinstance(value, list):
        return moved
    return type(value)(*moved) if hasattr(value, "_fields") else tuple(moved)


# ── the model ──


def is_estimator(model: object) -> bool:
    """Return whether `model` has the interface of scikit-learn, which takes arrays."""
    return all(callable(getattr(model, name, None)) for name in ("predict", "get_params"))


def is_pipeline(model: object) -> bool:
    """Return whether `model` is a pipeline of transformers', which takes text and much else."""
    modules = (kind.__module__ for kind in type(model).__mro__)
    return any(module.startswith("transformers.pipelines") for module in modules)


def modules_in(torch: Any, model: object) -> list[Any]:
    """Return the modules that a model is or holds, without those that are parts of others.

    A module's `eval()` does not reach what it keeps in a list, a dict or a plain attribute. Nor is
    a module the only thing that can be called: there are also user objects, methods, functions in
    functions, functions with a module among their defaults or in their file's globals.
    """
    found: list[Any] = []
    seen: dict[int, object] = {}
    waiting: deque[tuple[object, int]] = deque([(model, 0)])
    never = (*_NEVER_HOLDS, torch.Tensor)
    while waiting and len(seen) < HELD:
        value, depth = waiting.popleft()
        if id(value) in seen:
            continue
        seen[id(value)] = value
        if _is(value, torch.nn.Module):
            module: Any = value
            found.append(module)
            parts = list(module.modules())
            seen |= {id(part): part for part in parts}
            attributes = chain.from_iterable(vars(part).values() for part in parts)
            entries: Iterable[object] = chain(attributes, map(type, parts))
        else:
            entries = _entries(value) if depth < DEPTH else ()
        may_hold = (entry for entry in entries if not _is(entry, never))
        waiting += [(entry, depth + 1) for entry in islice(may_hold, HELD)]
    return found


HELD, DEPTH = 10_000, 8
"""Objects inspected in the search for modules, and their distance from the model."""
_NEVER_HOLDS = (str, bytes, int, float, ModuleType, np.ndarray, type(None))
_LIBRARIES = tuple(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))


def _is(value: object, kinds: Any) -> bool:
    """Do as isinstance; return False for a proxy that cannot tell what it stands for."""
    try:
        return isinstance(value, kinds)
    except Exception:  # noqa: BLE001 - `__class__` is user code
        return False


def _entries(value: Any) -> Iterable[object]:
    """Return what an object holds; nothing if it cannot be inspected."""
    try:
        if isinstance(value, FunctionType):
            return _entries_of_function(value)
        if isinstance(value, functools.partial):
            return [value.func, *value.args, *value.keywords.values()]
        if isinstance(value, MethodType):
            return [value.__self__, value.__func__]
        if isinstance(value, type):
            return [*vars(value).values(), *value.__bases__] if _is_own(value.__module__) else []
        return [*_items(value), *_attributes(value)]
    except Exception:  # noqa: BLE001 - a property or a proxy of the user's
        return []


def _items(value: Any) -> Iterable[object]:
    if isinstance(value, dict):
        return islice(value.values(), HELD)
    return islice(value, HELD) if isinstance(value, list | tuple | set | frozenset | deque) else ()


def _attributes(value: Any) -> Iterable[object]:
    """Return the attributes of an object, those in slots too, and its class."""
    slots = [vars(kind).get("__slots__", ()) for kind in type(value).__mro__]
    names = chain.from_iterable([each] if isinstance(each, str) else each for each in slots)
    found = [getattr(value, name, None) for name in names]
    return [*getattr(value, "__dict__", {}).values(), *found, type(value)]


def _is_own(module: str | None) -> bool:
    """Return whether a module is the user's own, not a library's."""
    file = getattr(sys.modules.get(module or ""), "__file__", None)
    return file is not None and not file.startswith(_LIBRARIES)


def _entries_of_function(function: FunctionType) -> Iterable[object]:
    """Return what a function refers to; only a user's own function refers to globals."""
    cells = [cell for cell in function.__closure__ or () if cell != CellType()]  # not empty ones
    found = [cell.cell_contents for cell in cells]
    found += [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    found += [getattr(function, "__wrapped__", None)]
    if not str(function.__globals__.get("__file__", "")).startswith(_LIBRARIES):
        found += [function.__globals__.get(name) for name in _names(function.__code__)]
    return found


def _names(code: CodeType) -> Iterator[str]:
    """Return the names that a function, and those defined inside it, look up."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _held(modules: list[Any]) -> list[Any]:
    return [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]


class Predictor:
    """The default predict_fn of one model, made once it is loaded.

    It does what AWS's defaults for PyTorch and scikit-learn do: modules are put into evaluation
    mode and onto the GPU, their data is moved to the same device, and no gradients are kept; an
    object that cannot be called has its `predict` called.
    """

    def __init__(self, model: Any, device: str) -> None:
        self.device: Any = device
        self.wanted = Wanted()
        self._types: dict[Any, Any] = {}
        """Types of tensors that the model cannot take, with those that it can."""
        if type(model).__name__ == "ExportedProgram":
            model = model.module()  # it can't be called itself, and says so at each request
        self._model = model
        self.problem = ""
        """Why the model cannot be called; empty if it can."""
        self._call: Callable[[Any], object] = self._called_by(model)
        torch = torch_if_loaded()
        modules = [] if torch is None else modules_in(torch, model)
        if modules:
            self._prepare(torch, modules)
        elif type(model).__module__.startswith("torch._inductor"):
            self._types = {torch.float64: torch.float32}  # it has no parameters to ask

    def _called_by(self, model: Any) -> Callable[[Any], object]:
        if is_pipeline(model):
            self.wanted = Wanted(tensors=False, anything=True)
            return self._call_pipeline
        if callable(model):
            return model  # type: ignore[no-any-return]
        self.wanted = Wanted(tensors=False)
        if not callable(getattr(model, "predict", None)):
            self.problem = (
                f"the model is a {type(model).__name__}, which can't be called and has no "
                "predict: define predict_fn"
            )
        return self._predict

    def check(self) -> None:
        """Raise ModelError if the model can't be called."""
        if self.problem:
            raise ModelError(self.problem)

    def _call_pipeline(self, data: Any) -> object:
        """Call it as AWS's Hugging Face toolkit does."""
        if not isinstance(data, dict):
            return self._model(data)
        rest = dict(data)
        parameters = rest.pop("parameters", None) or {}
        if not isinstance(parameters, dict):
            raise BadInput("'parameters' is not an object")
        return self._model(rest.get("inputs", rest), **parameters)

    def _predict(self, data: Any) -> object:
        """Call `predict`; a single row becomes a table, as in AWS's scikit-learn container."""
        self.check()
        is_row = isinstance(data, np.ndarray) and data.ndim == 1
        return self._model.predict(data.reshape(1, -1) if is_row else data)

    def _prepare(self, torch: Any, modules: list[Any]) -> None:
        for module in modules:
            with suppress(NotImplementedError):  # an exported program stays as it was exported
                module.eval()
        held = _held(modules)
        is_on_cpu = all(tensor.device.type == "cpu" for tensor in held)
        if self.device != "cpu" and is_on_cpu and self.wanted.tensors:
            for module in modules:
                module.to(self.device)
            held = _held(modules)
        if held:
            self.device = held[0].device
        dtypes = [tensor.dtype for tensor in held if tensor.is_floating_point()]
        if not dtypes:
            return
        if dtypes[0] is torch.float64:
            self.wanted = replace(self.wanted, floats="float64")
        else:
            self._types[torch.float64] = dtypes[0]
        if len(set(dtypes)) == 1:  # else the module has a type for each of its parts
            others = {torch.float16, torch.float32} - set(dtypes)
            self._types |= dict.fromkeys(others, dtypes[0])

    def __call__(self, data: object) -> object:
        torch = torch_if_loaded()
        if torch is None:
            return self._call(data)
        with torch.no_grad():
            return self._call(on_device(data, self.device, self._types))


# ── replies ──


def default_output(prediction: object, essence: str, context: Context) -> bytes:
    """Write `prediction` in one of the supported types."""
    try:
        return _written(prediction, essence, context)
    except RecursionError:
        raise TypeError("the result is nested too deeply, or contains itself") from None


def _written(prediction: object, essence: str, context: Context) -> bytes:
    torch = torch_if_loaded()
    if torch is not None and isinstance(prediction, torch.Tensor):
        prediction = values.array_of(prediction)
    canonical = media.canonical(essence)
    if canonical == media.JSON:
        is_wrapped = context.asked_for_predictions
        return codecs.encode_json({"predictions": prediction} if is_wrapped else prediction)
    if canonical == media.JSON_LINES:
        return codecs.encode_json_lines(_lines(prediction))
    if canonical == media.CSV:
        return csv_format.encode(prediction)
    if canonical == media.NPY:
        return codecs.encode_npy(as_array(prediction))
    by_name = {str(name): as_array(entry) for name, entry in _named(prediction)}
    if canonical in named_arrays.TABLES:
        return named_arrays.encode_table(named_arrays.table_columns(by_name), canonical)
    encode = named_arrays.encode_npz if canonical == media.NPZ else named_arrays.encode_safetensors
    return encode(by_name)


def _named(prediction: Any) -> Iterable[tuple[object, object]]:
    names = values.columns_of(prediction)
    if names is not None:
        return [(name, prediction[name]) for name in names]
    return prediction.items() if isinstance(prediction, dict) else [("output", prediction)]


def _lines(prediction: object) -> Any:
    """Return what is written one per line: rows, records, or the one value."""
    value: Any = plain(prediction)
    while not isinstance(value, str | dict | list | tuple | np.ndarray | int | float | None):
        value = values.simpler(value)
    if isinstance(value, list | tuple):
        return value
    return np.atleast_1d(value) if isinstance(value, np.ndarray) else [value]
