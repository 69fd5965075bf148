"""A grammar of what handlers return, raise and do to their process, written as JSON.

{"raise": NAME}, {"do": NAME, "then": SPEC}, {"value": NAME}, {"plain": JSON}, {"list": [SPEC]},
{"tuple": [SPEC]}, {"dict": {KEY: SPEC}}, {"items": [SPEC], "close": SPEC}: the last is a generator.
"""

import _thread
import array
import asyncio
import collections
import datetime as dt
import decimal
import gc
import io
import json
import os
import pathlib
import signal
import socket
import sys
import tempfile
import threading
import time
import types
import warnings

import numpy as np


class Own(BaseException):
    """The user's, and not an Exception."""


class Text(str):
    """Says other things than it holds."""

    __slots__ = ()

    def __len__(self):
        return 7

    def __str__(self):
        return "other"

    def __getitem__(self, key):
        raise Own("no item")

    def encode(self, *_, **__):
        return 5

    split = splitlines = strip = __eq__ = __iter__ = encode
    __hash__ = str.__hash__


class Bytes(bytes):
    def __len__(self):
        return 1

    def __bytes__(self):
        raise Own("no bytes")

    def decode(self, *_, **__):
        raise Own("no text")

    __getitem__ = __iter__ = decode


def broken(base=object, *names, **more):
    """An instance of a class of which these methods raise."""

    def method(*_, **__):
        raise Own("a method that raises")

    return type("Broken", (base,), {**dict.fromkeys(names, method), **more})


def fails(*names, **more):
    return broken(Exception, *names, **more)


class LyingError(Exception):
    @property
    def __class__(self):
        raise Own("no class")


class Named(type):
    @property
    def __name__(cls):
        raise Own("no name")

    @property
    def __mro__(cls):
        raise Own("no mro")


class EndlessError(Exception):
    @property
    def __cause__(self):
        return EndlessError()

    __context__ = __cause__


class DeepError(Exception):
    def __str__(self):
        return str(self)


def chain(length):
    error = None
    for number in range(length):
        new = ValueError(number)
        new.__cause__ = error
        error = new
    return error


def ring():
    first, second = ValueError("one"), ValueError("two")
    first.__context__, second.__context__ = second, first
    return first


def nested_groups(depth):
    error = ValueError("inner")
    for _ in range(depth):
        error = BaseExceptionGroup("group", [error, Own("beside")])
    return error


def noted(notes):
    error = ValueError("noted")
    error.__notes__ = notes
    return error


def refusal(**attributes):
    from sagemaker_byoc.serving.error_replies import BadInput

    error = BadInput("of the handler's")
    for name, value in attributes.items():
        setattr(error, name, value)
    return error


class Status(int):
    """Says another number than it is."""

    def __int__(self):
        return 200

    def __le__(self, other):
        return True

    __ge__ = __lt__ = __gt__ = __eq__ = __le__
    __hash__ = int.__hash__


def named(**attributes):
    """An error that names the status of its reply, as those of toolkits do."""
    error = Exception("named")
    for name, value in attributes.items():
        setattr(error, name, value)
    return error


def recurse():
    return recurse()


def recurse_and_raise():
    try:
        return recurse_and_raise()
    except RecursionError as error:
        raise fails("__str__", "__repr__")() from error


def raised(error):
    raise error


RAISES = {
    "value": lambda: raised(ValueError("plain")),
    "lines": lambda: raised(ValueError("one\ntwo\r\nthree\x1b[2J\0")),
    "str": lambda: raised(fails("__str__")()),
    "repr": lambda: raised(fails("__repr__", "__str__", "__getattribute__")()),
    "str_none": lambda: raised(fails(__str__=lambda self: None)()),
    "str_subclass": lambda: raised(fails(__str__=lambda self: Text("\ud800"))()),
    "str_huge": lambda: raised(fails(__str__=lambda self: "\U0001f600" * 20_000_000)()),
    "str_wide": lambda: raised(fails(__str__=lambda self: "\U0001f600" * 2_000)()),
    "huge": lambda: raised(ValueError("x" * 50_000_000)),
    "surrogate": lambda: raised(ValueError("\ud800 and \udfff")),
    "text_subclass": lambda: raised(ValueError(Text("odd"))),
    "name_huge": lambda: raised(type("N" * 100_000, (Exception,), {})()),
    "keyboard": lambda: raised(KeyboardInterrupt("keys")),
    "generator_exit": lambda: raised(GeneratorExit("generator")),
    "cancelled": lambda: raised(asyncio.CancelledError("cancelled")),
    "exit": lambda: sys.exit(0),
    "exit_odd": lambda: sys.exit(Text("\ud800")),
    "own": lambda: raised(Own("own")),
    "stop": lambda: raised(StopIteration("stop")),
    "stop_async": lambda: raised(StopAsyncIteration("stop")),
    "recursion": recurse,
    "recursion_odd": recurse_and_raise,
    "recursion_text": lambda: raised(DeepError()),
    "memory": lambda: raised(MemoryError("no room")),
    "memory_real": lambda: bytearray(2**61),
    "lying": lambda: raised(LyingError("lies")),
    "metaclass": lambda: raised(Named("N", (Exception,), {})("named")),
    "endless": lambda: raised(EndlessError("endless")),
    "chain": lambda: raised(chain(5000)),
    "ring": lambda: raised(ring()),
    "group": lambda: raised(nested_groups(2)),
    "group_deep": lambda: raised(nested_groups(3000)),
    "group_wide": lambda: raised(ExceptionGroup("wide", [ValueError(n) for n in range(9999)])),
    "notes": lambda: raised(noted(["a note", 5, Text("\ud800"), "x" * 10_000_000])),
    "notes_odd": lambda: raised(noted(broken(object, "__getitem__", "__iter__")())),
    "refusal": lambda: raised(refusal()),
    "refusal_status": lambda: raised(refusal(status="x")),
    "refusal_low": lambda: raised(refusal(status=200)),
    "refusal_text": lambda: raised(refusal(message="\ud800" * 100_000, code=5)),
    "named": lambda: raised(named(status_code=Status(404), message=Text("\ud800" * 5000))),
    "named_low": lambda: raised(named(status_code=Status(200), message="fine")),
    "named_deep": lambda: raised(named(code=404, description=deep(100_000))),
    "named_odd": lambda: raised(named(error_code=404, detail=broken(object, "__bool__")())),
    "unicode": b"\xff".decode,
    "syntax": lambda: compile("a = (", "\ud800", "exec"),
    "syntax_odd": lambda: raised(SyntaxError("s", ("f", "line", [], object()))),
    "del": lambda: raised(fails("__del__")("deleted")),
    "no_traceback": lambda: raised(ValueError("bare").with_traceback(None)),
    "class": lambda: raised(ValueError),
    "not_one": lambda: raised(5),
    "os": lambda: pathlib.Path("/nowhere/\udcff").stat(),
    "link": lambda: raised(
        __import__("sagemaker_byoc.serving.link").serving.link.LinkError("mine")
    ),
    "key": lambda: {}[Text("odd")],
    "warning": lambda: raised(UserWarning("a warning")),
}


def deep(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


def inside_itself():
    value = []
    value.append(value)
    return value


async def coroutine():
    return 1


async def async_generator():
    yield 1


def stubborn():
    """Does not end when it is closed."""
    while True:
        try:
            yield 1
            yield 2
        except GeneratorExit:
            pass
        else:
            return


class Closing:
    """An iterator whose end fails."""

    def __init__(self):
        self.left = 2

    def __iter__(self):
        return self

    def __next__(self):
        self.left -= 1
        if self.left < 0:
            raise StopIteration
        return "item"

    def close(self):
        raise Own("close")


VALUES = {
    "none": lambda: None,
    "nan": lambda: float("nan"),
    "large_int": lambda: 2**70,
    "surrogate": lambda: "\ud800",
    "surrogate_key": lambda: {"\ud800": 1},
    "int_key": lambda: {1: 2, None: 3, (1, 2): 4},
    "nul": lambda: "a\0b",
    "lines": lambda: "a\rb\r\nc\nd",
    "bytes": lambda: b"\xff\xfe",
    "bytearray": lambda: bytearray(b"abc"),
    "memory": lambda: memoryview(b"abcdef")[::2],
    "text_subclass": lambda: Text("text"),
    "bytes_subclass": lambda: Bytes(b"bytes"),
    "int_subclass": lambda: type("I", (int,), {"__index__": lambda self: 5, "__str__": 5})(3),
    "dict_subclass": lambda: broken(dict, "items", "keys", "__iter__", "__len__")({"a": 1}),
    "dict_odd": lambda: type("D", (dict,), {"items": lambda self: [1, 2, 3]})({"a": 1}),
    "list_subclass": lambda: broken(list, "__iter__", "__len__", "__getitem__")([1, 2]),
    "tuple_subclass": lambda: broken(tuple, "__iter__", "__len__", "__getitem__")([1, 2]),
    "set": lambda: {1, 2},
    "object": object,
    "complex": lambda: 1j,
    "decimal": lambda: decimal.Decimal("1.5"),
    "date": lambda: dt.datetime(2020, 1, 1, tzinfo=dt.UTC),
    "deque": lambda: collections.deque([1]),
    "range": lambda: range(3),
    "map": lambda: map(str, [1, 2]),
    "zip": lambda: zip([1], [2], strict=True),
    "function": lambda: deep,
    "class": lambda: Own,
    "error": lambda: ValueError("returned, not raised"),
    "module": lambda: os,
    "file": lambda: io.BytesIO(b"abc\n"),
    "coroutine": coroutine,
    "async_generator": async_generator,
    "stubborn": stubborn,
    "closing": Closing,
    "pair": lambda: (b"x", "text/plain"),
    "pair_header": lambda: (b"x", "text/plain\r\nX-Evil: 1"),
    "pair_long": lambda: (b"x", "text/" + "p" * 15_000),
    "pair_odd": lambda: (Text("x"), Text("text/plain")),
    "pair_none": lambda: (None, None),
    "array": lambda: np.arange(6.0).reshape(2, 3),
    "array_text": lambda: np.array(["cat", "dog"]),
    "array_object": lambda: np.array([object(), None], object),
    "array_dates": lambda: np.array(["2020-01-01", "NaT"], "datetime64[D]"),
    "array_record": lambda: np.zeros(2, [("a", "f4"), ("b", "i4")]),
    "array_big": lambda: np.arange(3, dtype=">i4"),
    "array_scalar": lambda: np.float16(2),
    "array_empty": lambda: np.zeros((0, 3)),
    "array_subclass": lambda: np.zeros((2, 2)).view(broken(np.ndarray, "tolist", "__iter__")),
    "array_masked": lambda: np.ma.masked_array([1.0, 2.0], [True, False]),
    "c_array": lambda: array.array("d", [1, 2]),
    "large": lambda: "x" * 5_000_000,
    "large_array": lambda: np.zeros(200_000),
    "deep": lambda: deep(100_000),
    "deep_little": lambda: deep(200),
    "inside_itself": inside_itself,
    "lying": broken(object, __class__=property(lambda self: 1 / 0)),
    "broken_array": broken(object, "__array__", "__len__", "__iter__"),
    "broken_list": broken(object, "tolist", "__float__", "__int__", "__bool__"),
    "broken_all": broken(
        object, "__getattribute__", "__eq__", "__hash__", "__repr__", "__str__", "__del__"
    ),
    "namespace": lambda: types.SimpleNamespace(shape=(1, 2), dtype="f4", ndim=2),
}


def ignore_all(*_):
    return None


def leave_thread():
    threading.Thread(target=time.sleep, args=[3600], name="left").start()


def fork():
    """The child comes back from the handler as the parent does."""
    # What is raised inside of os.fork leaves the lock of `logging` held, for every later fork.
    signal.setitimer(signal.ITIMER_REAL, 0)
    sys.settrace(None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.fork()


def late_signal():
    """An exception between two requests."""

    def handler(*_):
        raise Own("late")

    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.02)


def close_descriptors():
    """As a daemon does, the link to the front with them."""
    os.closerange(3, 100)


def close_everything():
    os.closerange(0, 1000)


def replace_stream(stream):
    def replace():
        sys.stdout = sys.stderr = stream()

    return replace


FULL = []


def full_pipe():
    _, write = os.pipe()
    file = os.fdopen(write, "w", buffering=10_000_000)
    file.write("x" * 1_000_000)
    FULL.append(file)  # it would be flushed at its end, and wait
    return file


def closed_file():
    with tempfile.TemporaryFile("w") as file:
        return file


def never_blocks():
    os.set_blocking(2, False)


def trace(*_):
    raise Own("trace")


ACTS = {
    "close_1": lambda: os.close(1),
    "close_1_2": lambda: os.closerange(0, 3),
    "stdout_none": replace_stream(lambda: None),
    "stdout_object": replace_stream(object),
    "stdout_closed": replace_stream(closed_file),
    "stdout_full": lambda: setattr(sys, "stdout", full_pipe()),
    "stdout_broken": replace_stream(broken(object, "write", "flush", "__getattribute__")),
    "recursion_low": lambda: sys.setrecursionlimit(len(traceback_depth()) + 40),
    "recursion_high": lambda: sys.setrecursionlimit(3000),
    "term_ignored": lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN),
    "late_signal": late_signal,
    "interrupt": _thread.interrupt_main,
    "chdir": lambda: os.chdir(tempfile.mkdtemp()),
    "fork": fork,
    "thread": leave_thread,
    "no_collection": gc.disable,
    "faults_off": lambda: __import__("faulthandler").disable(),
    "timeout": lambda: socket.setdefaulttimeout(0.5),
    "hooks": lambda: setattr(sys, "excepthook", broken()) or setattr(sys, "unraisablehook", 5),
    "trace": lambda: sys.settrace(trace),
    "umask": lambda: os.umask(0o777),
    "environ": os.environ.clear,
    "close_descriptors": close_descriptors,
    "close_everything": close_everything,
}
"""What a worker is to live through. Of the last two, the request that does them is lost."""


def end_by_alarm():
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    time.sleep(30)


DEATHS = {
    "exit": lambda: os._exit(3),
    "abort": os.abort,
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "real_time": lambda: os.kill(os.getpid(), signal.SIGRTMIN + 3),
    "alarm": end_by_alarm,
}
"""What ends it."""


def traceback_depth():
    frame = sys._getframe()
    found = []
    while frame is not None:
        found.append(frame)
        frame = frame.f_back
    return found


def restore():
    """For the test: streams that show what comes next."""
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
    signal.setitimer(signal.ITIMER_REAL, 0)


def made(spec):
    """The value that a spec describes; raises what it says."""
    kind = next(kind for kind in MAKERS if kind in spec)
    return MAKERS[kind](spec)


def _done(spec):
    {**ACTS, **DEATHS}[spec["do"]]()
    return made(spec.get("then", {"plain": "done"}))


def _items(spec):
    try:
        for entry in spec["items"]:
            yield made(entry)
    finally:
        if "close" in spec:
            made(spec["close"])


MAKERS = {
    "raise": lambda spec: RAISES[spec["raise"]](),
    "do": _done,
    "value": lambda spec: VALUES[spec["value"]](),
    "list": lambda spec: [made(entry) for entry in spec["list"]],
    "tuple": lambda spec: tuple(made(entry) for entry in spec["tuple"]),
    "dict": lambda spec: {key: made(entry) for key, entry in spec["dict"].items()},
    "items": _items,
    "plain": lambda spec: spec["plain"],
}


def read(body):
    """The whole document: places, each with its spec."""
    return json.loads(body)
