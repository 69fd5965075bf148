"""The user's functions: imported from their file, checked, called with or without `context`."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

from sagemaker_byoc.contract import http
from sagemaker_byoc.serving.link import FRAMES
from sagemaker_byoc.serving.settings import HandlerFile
from sagemaker_byoc.serving.worker.code import apps, coroutines, services
from sagemaker_byoc.serving.worker.code.apps import SHADOWED, App, AppError
from sagemaker_byoc.serving.worker.request_context import Context

Function: TypeAlias = Callable[..., object]

ARGUMENTS = {
    "pre_model_fn": ("model_dir",),
    "model_fn": ("model_dir",),
    "model_warmup_fn": ("model_dir", "model"),
    "input_fn": ("body", "content_type"),
    "predict_fn": ("data", "model"),
    "output_fn": ("prediction", "accept"),
    "load_adapter_fn": ("model", "name", "folder"),
    "unload_adapter_fn": ("model", "name"),
    "chat_fn": ("request", "model"),
    "bidirectional_fn": ("messages", "model"),
    "redact_fn": ("request", "reply"),
    "transform_fn": ("model", "body", "content_type", "accept"),
}
"""Arguments of each function; `context` may follow."""
WITHOUT_TRANSFORM = ("input_fn", "predict_fn", "output_fn")
FUNCTIONS = (*WITHOUT_TRANSFORM, "transform_fn", "model_fn")
TALKS = ("chat_fn", "bidirectional_fn")
"""Functions beside predict_fn that get the model."""
THREADED = "each two-way stream has a thread to itself"
TOOLKITS = Path(__file__).parent / "toolkits"
"""Stand-ins for packages of AWS that handlers import and the image lacks."""
_OF_THE_SERVER = (
    "It is a part of AWS's own model server, which does not run here. Define model_fn, input_fn, "
    "predict_fn and output_fn, or a class with initialize and handle; if your code needs it "
    "anyway, add to requirements.txt: "
)
_NOT_INDEXED = "what your code uses of it; no package index has it"
AWS_PACKAGES = {
    "sagemaker_inference": f"{_OF_THE_SERVER}sagemaker-inference",
    "sagemaker_pytorch_serving_container": f"{_OF_THE_SERVER}sagemaker-pytorch-inference",
    "sagemaker_huggingface_inference_toolkit": (
        f"{_OF_THE_SERVER}sagemaker-huggingface-inference-toolkit, transformers, multi-model-server"
    ),
    "sagemaker_mxnet_serving_container": f"{_OF_THE_SERVER}sagemaker-mxnet-inference",
    "sagemaker_containers": f"{_OF_THE_SERVER}sagemaker-containers",
    "sagemaker_sklearn_container": f"{_OF_THE_SERVER}{_NOT_INDEXED}",
    "sagemaker_xgboost_container": f"{_OF_THE_SERVER}{_NOT_INDEXED}",
    "mms": f"{_OF_THE_SERVER}multi-model-server",
    "ts": f"{_OF_THE_SERVER}torchserve",
}
CONTEXT_NAMES = frozenset({"context", "ctx", "_context"})


class HandlerError(Exception):
    """The handlers cannot be used; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Handler:
    """One of the user's functions."""

    name: str
    function: Function
    takes_context: bool
    by_keyword: bool = False
    """`context` can only be named, as in `def predict_fn(data, model, *, context)`."""

    def __call__(self, *arguments: object, context: Context) -> object:
        if self.by_keyword:
            result = self.function(*arguments, context=context)
        elif self.takes_context:
            result = self.function(*arguments, context)
        else:
            result = self.function(*arguments)
        return coroutines.settled(result)


@dataclass(frozen=True, slots=True)
class Handlers:
    """The handlers that the user's file defines."""

    defined: dict[str, Handler]
    file: HandlerFile
    batch: int = 1
    """Requests that predict_fn takes as one, their rows one after the other."""
    app: App | None = None
    """The user's application, for its own routes."""
    is_app: bool = False
    """True if the application also answers /invocations, instead of the functions."""
    make_model: Callable[[], Any] | None = None
    """Makes the module that weights without model_fn are loaded into."""
    buckets: tuple[int, ...] = ()
    """The only numbers of rows that predict_fn is called with, rising."""
    example_input: Any = None
    """Rows to warm the buckets with, or a function that makes them."""

    def get(self, name: str) -> Handler | None:
        return self.defined.get(name)

    def change_adapter(
        self, asked: Mapping[str, str], model: Any, loaded: dict[str, str], context: Context
    ) -> None:
        """Load an adapter, replace it by one from another folder, or unload it.

        `loaded` holds the folders of those that are loaded, by name.
        """
        name, folder = asked["name"], asked["folder"]
        unload, load = self.get("unload_adapter_fn"), self.get("load_adapter_fn")
        if loaded.pop(name, None) is not None and unload is not None:
            unload(model, name, context=context)
        if asked["what"] == "load":
            assert load is not None
            load(model, name, folder, context=context)
            loaded[name] = folder

    @property
    def app_routes(self) -> list[str]:
        """Return the server's routes that the application answers."""
        if self.app is None or not self.is_app:
            return []
        parameters = http.EXECUTION_PARAMETERS.value
        more = [parameters] if self.app.serves("GET", parameters) else []
        return [http.INVOCATIONS.value, *more]

    def table(self) -> str:
        """Return which function comes from where, for the log."""
        where = self.file.chosen
        if self.is_app:
            routes = " and ".join(self.app_routes)
            return f"app from {where} answers {routes}{self._passed_over()}"
        sources = [
            f"{name} from {where}" if name in self.defined else f"{name} default"
            for name in ("model_fn", *self._request_functions())
        ]
        extra = [f"{name} from {where}" for name in self.defined if name.endswith("model_fn")]
        extra += [f"{name} from {where}" for name in self.defined if name == "model_warmup_fn"]
        extra += [f"redact_fn from {where}"] if "redact_fn" in self.defined else []
        extra += [f"make_model from {where}"] if self.make_model is not None else []
        extra += [f"buckets of {', '.join(map(str, self.buckets))} rows"] if self.buckets else []
        extra += [f"batches of up to {self.batch}"] if self.batch > 1 else []
        extra += [f"routes of app from {where}"] if self.app is not None else []
        return "; ".join(dict.fromkeys([*sources, *extra]))

    def lack(self) -> str:
        """Return a note if the user's file has nothing that answers a request; empty if it has."""
        if self.file.chosen is None or self.make_model or set(FUNCTIONS) & self.defined.keys():
            return ""  # a file is not needed, nor is any one of the functions
        if self.app is not None:
            return f"; app from {self.file.chosen} has no route for POST {http.INVOCATIONS.value}"
        return f"; {self.file.chosen} defines none of {', '.join(FUNCTIONS)}, handle, app"

    def _passed_over(self) -> str:
        """Return a note on the parts of the user's file that are not called."""
        assert self.app is not None
        routes = [path for path in SHADOWED if self.app.serves("GET", path)]
        said = f"; its {', '.join(routes)}: the server answers" if routes else ""
        names = [name for name in FUNCTIONS if name in self.defined]
        return said + (f"; {', '.join(names)}: only if it calls them" if names else "")

    def _request_functions(self) -> tuple[str, ...]:
        return ("transform_fn",) if "transform_fn" in self.defined else WITHOUT_TRANSFORM


def load(file: HandlerFile) -> Handlers:
    """Run the user's file, with its folder first on sys.path."""
    if file.chosen is None or file.folder is None:
        return Handlers({}, file)
    for folder in dict.fromkeys((str(file.chosen.parent), str(file.folder))):
        sys.path.insert(0, folder)
    if str(TOOLKITS) not in sys.path:
        sys.path.append(str(TOOLKITS))  # last: where AWS's own package is installed it is used
    return of_module(_execute(file.chosen), file)


def of_module(module: ModuleType, file: HandlerFile) -> Handlers:
    """Return the handlers that an imported file defines."""
    defined = {
        name: _handler(name, getattr(module, name))
        for name in ARGUMENTS
        if callable(getattr(module, name, None))
    }
    has_functions = any(name in defined for name in FUNCTIONS)
    has_own = has_functions or hasattr(module, "make_model") or any(map(defined.get, TALKS))
    app = _app(module, may_make=not has_functions)
    is_app = app is not None and _answers_invocations(app, has_own=has_own)
    if not is_app and not has_functions:
        defined |= _service(module)
    clash = [name for name in WITHOUT_TRANSFORM if name in defined]
    if "transform_fn" in defined and clash and not is_app:
        raise HandlerError(
            f"{file.chosen} defines transform_fn and also {', '.join(clash)}; transform_fn does "
            "the work of all three, so keep one way"
        )
    make_model = getattr(module, "make_model", None) if "model_fn" not in defined else None
    if make_model is not None and not callable(make_model):
        raise HandlerError(f"make_model is {make_model!r}: give a class or a function")
    return Handlers(
        defined,
        file,
        batch=1 if is_app else _batch(module, defined),
        app=app,
        is_app=is_app,
        make_model=make_model,
        buckets=() if is_app else _buckets(module),
        example_input=getattr(module, "example_input", None),
    )


def _answers_invocations(app: App, *, has_own: bool) -> bool:
    """Return whether requests to the model go to the application.

    An explicit route to /invocations was written to be called. An application whose routes cannot
    be known gets them if the file has no functions of its own (`has_own`) to answer with.
    """
    serves = app.serves("POST", http.INVOCATIONS.value)
    return not has_own if serves is None else serves


def _service(module: ModuleType) -> dict[str, Handler]:
    """Return `handle(data, context)`, as multi-model-server and TorchServe call it, as two
    functions."""
    found = services.find(module)
    if found is None:
        return {}
    return {
        "model_fn": Handler("model_fn", found.load, takes_context=True),
        "transform_fn": Handler("transform_fn", found.transform, takes_context=True),
    }


def _batch(module: ModuleType, defined: dict[str, Handler]) -> int:
    """Return the batch size: `batch = 32` beside predict_fn says that it treats rows as
    independent."""
    batch = getattr(module, "batch", max(_buckets(module), default=1))
    if isinstance(batch, ModuleType) or callable(batch):
        return 1  # something of that name which is not meant for us
    if not isinstance(batch, int) or isinstance(batch, bool) or not 1 <= batch <= FRAMES:
        raise HandlerError(
            f"batch is {batch!r}: give the largest number of rows, 1 to {FRAMES}, or remove it"
        )
    predict = defined.get("predict_fn")
    if batch > 1 and predict is not None and predict.takes_context:
        raise HandlerError("with batch, predict_fn runs for many requests: it can't take a context")
    if batch > 1 and "transform_fn" in defined:
        raise HandlerError("batch needs predict_fn, not transform_fn, which does everything itself")
    return batch


def _buckets(module: ModuleType) -> tuple[int, ...]:
    """Return `batch_buckets = (1, 4, 16)`, for models that are compiled for each number of rows."""
    buckets = getattr(module, "batch_buckets", ())
    is_numbers = isinstance(buckets, tuple | list) and all(type(size) is int for size in buckets)
    if not is_numbers or not all(1 <= size <= FRAMES for size in buckets):
        raise HandlerError(
            f"batch_buckets is {buckets!r}: give numbers of rows, each 1 to {FRAMES}, or remove it"
        )
    if buckets and getattr(module, "example_input", None) is None:
        raise HandlerError(
            "batch_buckets needs example_input beside it: rows as predict_fn takes them, or a "
            "function that returns them, to warm every bucket up with"
        )
    return tuple(sorted(set(buckets)))


def _app(module: ModuleType, *, may_make: bool) -> App | None:
    try:
        return apps.find(module, may_make=may_make)
    except AppError as error:
        raise HandlerError(f"app can't be served: {error}") from None


def _execute(path: Path) -> ModuleType:
    """Import a file under its own name, by which objects in saved models may refer to it."""
    name = path.stem if path.stem not in sys.modules else f"user_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise HandlerError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except SystemExit as error:
        raise HandlerError(f"{path} called sys.exit({error.code}) while it was imported") from error
    except ImportError as error:
        package = (error.name or "").split(".")[0]
        if package not in AWS_PACKAGES:
            raise
        raise HandlerError(f"{path}: {error}. {AWS_PACKAGES[package]}") from error
    return module


def _handler(name: str, function: Function) -> Handler:
    """Return the handler; it takes `context` if it has a further argument that is required or has
    that name."""
    expected = ARGUMENTS[name]
    if name == "bidirectional_fn" and _is_async(function):
        raise HandlerError(f"{name} is async: define it with def; {THREADED}")
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return Handler(name, function, takes_context=False)
    only_named = {entry.name for entry in parameters if entry.kind is entry.KEYWORD_ONLY}
    by_keyword = bool(only_named & {"context"})
    if any(entry.kind is entry.VAR_POSITIONAL for entry in parameters):
        return Handler(name, function, takes_context=by_keyword, by_keyword=by_keyword)
    positional = [
        entry
        for entry in parameters
        if entry.kind in {entry.POSITIONAL_ONLY, entry.POSITIONAL_OR_KEYWORD}
    ]
    required = sum(entry.default is entry.empty for entry in positional)
    count = len(expected)
    if required > count + 1 or len(positional) < count or _needs_keywords(parameters):
        raise HandlerError(
            f"{name}{inspect.signature(function)} is called as {name}({', '.join(expected)}) or "
            f"{name}({', '.join(expected)}, context)"
        )
    is_named = len(positional) > count and positional[count].name in CONTEXT_NAMES
    takes = by_keyword or is_named or required == count + 1
    return Handler(name, function, takes_context=takes, by_keyword=by_keyword)


def _is_async(function: Function) -> bool:
    inner = function if inspect.isroutine(function) else type(function).__call__
    return inspect.iscoroutinefunction(inner) or inspect.isasyncgenfunction(inner)


def _needs_keywords(parameters: list[inspect.Parameter]) -> bool:
    return any(
        entry.kind is entry.KEYWORD_ONLY
        and entry.default is entry.empty
        and entry.name != "context"
        for entry in parameters
    )
