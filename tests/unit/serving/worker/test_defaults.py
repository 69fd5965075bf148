"""The handlers for those who wrote none, through the worker's pipeline."""

from __future__ import annotations

import collections
import contextlib
import ctypes
import dataclasses
import decimal
import functools
import gc
import io
import json
import math
import pickle
import types
import warnings
import zipfile

import numpy as np
import pytest
import scipy.sparse
from tests.support.arrays import npy

from sagemaker_byoc.serving import media
from sagemaker_byoc.serving.bodies import Body
from sagemaker_byoc.serving.error_replies import BadInput, NotAcceptable
from sagemaker_byoc.serving.link import Frame, Kind
from sagemaker_byoc.serving.media import MediaType
from sagemaker_byoc.serving.settings import HandlerFile, Settings
from sagemaker_byoc.serving.worker import defaults
from sagemaker_byoc.serving.worker.code import default_model
from sagemaker_byoc.serving.worker.code.handlers import Handler, Handlers
from sagemaker_byoc.serving.worker.code.model_files import ModelError
from sagemaker_byoc.serving.worker.formats import codecs, csv_format, named_arrays, values
from sagemaker_byoc.serving.worker.formats.forms import RowCheck
from sagemaker_byoc.serving.worker.pipeline import Pipeline
from sagemaker_byoc.serving.worker.request_context import Context

torch = pytest.importorskip("torch")
PLAIN = MediaType("x/y")


class Worker:
    """A pipeline on a model that model_fn returns, with these functions of a user's."""

    def __init__(self, folder, model, **functions):
        defined = {
            name: Handler(name, function, takes_context=False)
            for name, function in {"model_fn": lambda _folder: model, **functions}.items()
        }
        settings = Settings.from_environ({"SAGEMAKER_BASE_DIR": str(folder)})
        self.pipeline = Pipeline(settings, Handlers(defined, HandlerFile(None, None, ())), 0)
        self.pipeline.load()

    def ask(self, body, content_type=media.JSON, accept=""):
        (reply,) = self.ask_all([body], content_type, accept)
        if "error" in reply.meta:
            return reply.meta["error"]["status"], reply.meta["error"]["message"]
        return reply.meta["content_type"], bytes(reply.body.view()[:])

    def ask_all(self, bodies, content_type=media.JSON, accept=""):
        meta = {"content_type": content_type, "accept": accept, "deadline": 0}
        frames = [
            Frame(Kind.REQUEST, number, {"request_id": f"{number}", **meta}, Body(body))
            for number, body in enumerate(bodies)
        ]
        return [frame for group in self.pipeline.answer(frames) for frame in group]


@pytest.fixture
def worker(tmp_path):
    return lambda model, **functions: Worker(tmp_path, model, **functions)


# ── S1: the model as AWS's default predict_fn runs it ──


def network():
    return torch.nn.Sequential(
        torch.nn.Linear(2, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(), torch.nn.Linear(8, 1)
    )


def test_evaluation_mode(worker):
    """A module left in training mode answers the same each time, and learns nothing from it."""
    model = network().train()
    mean = model[1].running_mean.clone()
    asked = worker(model)
    first = asked.ask(b"[[1, 2], [3, 4]]")
    assert first == asked.ask(b"[[1, 2], [3, 4]]")
    expected = model.eval()(torch.tensor([[1.0, 2], [3, 4]])).tolist()
    np.testing.assert_allclose(json.loads(first[1]), expected, rtol=1e-5)
    assert torch.equal(model[1].running_mean, mean)


class Holder:
    """A callable object of the user's that has a module."""

    def __init__(self, module):
        self.module = module

    def __call__(self, data):
        return self.module(data)


class Ensemble(torch.nn.Module):
    """A module that keeps others where its own eval() does not look."""

    def __init__(self, modules):
        super().__init__()
        self.kept = {"all": modules}

    def forward(self, data):
        return sum(module(data) for module in self.kept["all"])


class Slots:
    __slots__ = ("empty", "module")

    def __init__(self, module):
        self.module = module

    def __call__(self, data):
        return self.module(data)


def keyword_only(module):
    def call(data, *, kept=module):
        return kept(data)

    return call


def of_globals(module, source):
    """A function of a file that has the module among its globals."""
    return eval(source, {"MODEL": module, "__file__": "/opt/ml/model/code/inference.py"})


def calls_first(kept, data):
    """Call what stands at the bottom of these containers."""
    while isinstance(kept, list | tuple | dict):
        (kept,) = kept.values() if isinstance(kept, dict) else kept
    return kept(data)


@pytest.mark.parametrize(
    "wrap",
    [
        Holder,
        lambda module: Holder(module).__call__,
        lambda module: lambda data: module(data),  # noqa: PLW0108 - a function that holds it
        functools.partial,
        lambda module: Ensemble([module, module]),
        lambda module: Holder(Ensemble((module,))),
        torch.nn.DataParallel,
        lambda module: Slots(module),  # noqa: PLW0108 - defined below
        lambda module: lambda data, kept=module: kept(data),
        lambda module: keyword_only(module),  # noqa: PLW0108
        lambda module: Holder(
            type("Own", (Holder,), {"__init__": lambda _: None, "module": module})().__call__
        ),
        lambda module: functools.partial(calls_first, [[[{"a": ({"b": [module]},)}]]]),
        lambda module: of_globals(module, "lambda data: MODEL(data)"),
        lambda module: type(
            "Own", (torch.nn.Module,), {"forward": of_globals(module, "lambda _, x: MODEL(x)")}
        )(),
        lambda module: of_globals(module, "lambda data: (lambda: MODEL(data))()"),
        lambda module: type("Own", (), {"__call__": of_globals(module, "lambda _, x: MODEL(x)")})(),
    ],
)
def test_modules_that_are_held(worker, wrap):
    """What can be called need not be a module: those that it holds are evaluated, too."""
    module = network()
    asked = worker(wrap(module))
    assert not any(part.training for part in module.modules())
    assert asked.ask(b"[[1, 2]]")[0] == media.JSON


def test_modules_without_end():
    """Objects that refer to each other are looked at once; what has no tensors is left alone."""
    model = Holder(None)
    model.module = [model, {"me": model}]
    assert defaults.modules_in(torch, model) == []
    module = network()
    assert defaults.modules_in(torch, Holder([module, module[0]])) == [module]


def test_modules_among_much_else(worker):
    """A vocabulary takes no time, and a proxy that can't be looked at ends nothing."""

    class Proxy:
        @property
        def __class__(self):
            raise RuntimeError("outside of a request")

    model = Holder(network())
    model.vocabulary = dict.fromkeys(range(1_000_000), 1)
    model.proxies = [Proxy(), model.vocabulary]
    assert defaults.modules_in(torch, model) == [model.module]
    assert worker(model).ask(b"[[1, 2]]")[0] == media.JSON


@pytest.mark.slow
def test_exported_program(worker):
    """What torch.export.load returns can't be called itself."""
    program = torch.export.export(network().eval(), (torch.zeros(1, 2),))
    assert worker(program).ask(b"[[1, 2]]")[0] == media.JSON


def test_own_predict_fn(worker):
    """A predict_fn of the user's gets the model as model_fn returned it, as in AWS's toolkits."""
    model = network().train()
    asked = worker(model, predict_fn=lambda data, model: {"training": model.training})
    assert json.loads(asked.ask(b"[[1, 2]]")[1]) == {"training": True}


def test_gradients_in_the_model(worker):
    """A model that needs a gradient inside can switch it on, which inference mode forbids."""

    class Force(torch.nn.Module):
        def forward(self, place):
            with torch.enable_grad():
                place = place.clone().requires_grad_()
                return torch.autograd.grad((place**2).sum(), place)[0]

    assert worker(Force()).ask(b"[1.5]")[1] == b"[3.0]"


def test_device():
    """A module on the CPU goes to the GPU as a whole; one that is elsewhere in part stays there."""
    model = torch.nn.Linear(2, 1)
    assert defaults.Predictor(model, "meta").device.type == "meta"
    assert model.weight.device.type == "meta"
    model.bias = torch.nn.Parameter(torch.zeros(1))
    assert defaults.Predictor(model, "meta").device.type == "meta"
    assert model.bias.device.type == "cpu"


def test_data_on_device():
    """Tensors are moved inside lists, tuples and dicts too."""
    pair = collections.namedtuple("pair", "a b")
    moved = defaults.on_device({"a": [pair(torch.ones(1), 2)], "b": (torch.ones(1),)}, "meta")
    assert moved["a"][0].a.device.type == moved["b"][0].device.type == "meta"
    assert moved["a"][0].b == 2
    seen = []
    model = torch.nn.Identity()
    model.register_buffer("scale", torch.ones(1, device="meta"))
    model.register_forward_pre_hook(lambda module, given: seen.append(given[0].device.type))
    defaults.Predictor(model, "cpu")(torch.ones(1))
    assert seen == ["meta"]


@pytest.mark.parametrize(
    ("dtype", "body", "content_type", "digits"),
    [
        (torch.float32, npy(np.array([[0.1, 2]])), media.NPY, 0.1),
        (torch.bfloat16, npy(np.array([[0.1, 2]])), media.NPY, 0.1),
        (torch.float64, npy(np.array([[0.1, 2]])), media.NPY, 0.1),
        (torch.float64, b"[[0.1, 2]]", media.JSON, 0.1),
        (torch.float64, npy(np.array([[0.5, 2]], np.float32)), media.NPY, 0.5),
        (torch.bfloat16, b"[[0.1, 2]]", media.JSON, 0.1),
        (torch.float16, b"0.1,2", media.CSV, 0.1),
        (torch.float32, npy(np.array([[0.5, 2]], np.float16)), media.NPY, 0.5),
    ],
)
def test_floats(worker, dtype, body, content_type, digits):
    """Floats of another type become the model's; a model of doubles gets all their digits."""
    seen = []
    model = torch.nn.Linear(2, 1, dtype=dtype)
    model.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    assert worker(model).ask(body, content_type)[0] == media.JSON
    assert seen[0].dtype is dtype
    assert seen[0][0, 0].item() == torch.tensor(digits, dtype=dtype).item()


@pytest.mark.slow
def test_script_and_exported(worker):
    """A ScriptModule is evaluated; an exported program, which can't be, runs as it is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = torch.jit.script(torch.nn.Sequential(torch.nn.Dropout(0.99))).train()
    assert worker(script).ask(b"[1, 2]")[1] == b"[1.0,2.0]"
    exported = torch.export.export(torch.nn.Linear(2, 1).eval(), (torch.zeros(1, 2),)).module()
    assert worker(exported).ask(b"[[1, 2]]")[0] == media.JSON


class Estimator:
    """As scikit-learn's."""

    def predict(self, rows):
        assert isinstance(rows, np.ndarray)
        return rows[:, 0] - 1_700_000_000

    def get_params(self):
        return {}


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"[[1700000001, 0.5]]", media.JSON),
        (b"[1700000001, 0.5]", media.JSON),
        (b"1700000001,0.5\n", media.CSV),
        (npy(np.array([[1700000001, 0.5]])), media.NPY),
    ],
)
def test_estimator(worker, body, content_type):
    """A model of scikit-learn's gets arrays with all their digits, though torch is loaded."""
    assert worker(Estimator()).ask(body, content_type)[1] == b"[1.0]"
    own = worker(Estimator(), predict_fn=lambda rows, model: model.predict(np.atleast_2d(rows)))
    assert own.ask(body, content_type)[1] == b"[1.0]"


def test_neither(worker):
    """A model that can't be called is refused when it is loaded, unless it is for a chat."""
    model = {"encoder": network()}
    with pytest.raises(ModelError, match=r"a dict, .*define predict_fn"):
        worker(model)
    assert worker(model, chat_fn=lambda request, model: "").ask(b"[1]")[0] == 500
    assert worker(model, predict_fn=lambda data, model: len(model)).ask(b"[1]")[1] == b"1"
    assert worker(lambda data: data * 2).ask(b"[1]")[1] == b"[2.0]"


def test_pipeline_of_transformers(worker):
    """Called as AWS's Hugging Face toolkit calls it, with what the body holds."""

    class Base:
        __module__ = "transformers.pipelines.base"

        def __call__(self, inputs, **parameters):
            return [inputs, parameters]

    asked = worker(type("Classifier", (Base,), {})())
    assert asked.ask(b'{"inputs": "a", "parameters": {"k": 2}}')[1] == b'["a",{"k":2}]'
    assert asked.ask(b'{"inputs": [[1, 2.5]]}')[1] == b"[[[1,2.5]],{}]"
    assert asked.ask(b'{"question": "a"}')[1] == b'[{"question":"a"},{}]'
    assert asked.ask(b'["a", "b"]')[1] == b'[["a","b"],{}]'
    assert asked.ask(b'{"inputs": "a", "parameters": 3}')[0] == 400
    assert asked.ask(b"a text", "text/plain")[1] == b'["a text",{}]'


# ── S5: pairs ──


def test_pair_of_predict_fn(worker):
    """Two texts are a result, not a body with its type."""
    asked = worker(None, predict_fn=lambda data, model: ("positive", "text/sentiment"))
    assert asked.ask(b"[1]") == (media.JSON, b'["positive","text/sentiment"]')
    asked = worker(None, predict_fn=lambda data, model: (b"\x00", "image/x-own"))
    assert asked.ask(b"[1]") == ("image/x-own", b"\x00")


@pytest.mark.parametrize(
    ("returned", "reply"),
    [
        (("<p>", "text/html; charset=utf-8"), ("text/html; charset=utf-8", b"<p>")),
        ((b"\x00", "image/png"), ("image/png", b"\x00")),
    ],
)
@pytest.mark.parametrize("name", ["output_fn", "transform_fn"])
def test_pair_of_output_fn(worker, name, returned, reply):
    """A body with its type, from the functions that AWS's toolkits take it from."""
    asked = worker(lambda data: data, **{name: lambda *arguments: returned})
    assert asked.ask(b"[1]") == reply


def test_pair_without_a_type(worker):
    """The second value is not a media type: two values, or bytes that nobody can label."""
    asked = worker(lambda data: data, output_fn=lambda *arguments: ("positive", "sentiment"))
    assert asked.ask(b"[1]") == (media.JSON, b'["positive","sentiment"]')
    asked = worker(lambda data: data, output_fn=lambda *arguments: ("{}", "*/*"))
    assert asked.ask(b"[1]") == (media.JSON, b"{}")
    latin = "text/plain; charset=latin-1"
    asked = worker(lambda data: data, output_fn=lambda *arguments: ("é", latin))
    assert asked.ask(b"[1]") == (latin, b"\xe9")
    asked = worker(lambda data: data, output_fn=lambda *arguments: ("a", "text/b", 200))
    assert asked.ask(b"[1]") == ("text/b", b"a")  # AWS's toolkits, too, ignore what follows
    asked = worker(lambda data: data, output_fn=lambda *arguments: (b"x", "sentiment"))
    assert "not a media type" in asked.ask(b"[1]")[1]


# ── S7: bodies that are not numbers ──


@pytest.mark.parametrize(
    ("content_type", "body", "reply"),
    [
        (media.JSON, b'{"inputs": "a text", "parameters": {"k": 1}}', b'["inputs","parameters"]'),
        (media.JSON, b'["a", "b"]', b'["a","b"]'),
        (media.CSV, b'a,"b\n"\n', b'[["a","b\\n"]]'),
        (media.JSON_LINES, b'{"a": 1}\n{"a": 2}\n', b'[{"a":1},{"a":2}]'),
        ("text/plain; charset=latin1", "é".encode("latin1"), '["é"]'.encode()),
    ],
)
def test_text(worker, content_type, body, reply):
    """A predict_fn without an input_fn gets what was decoded; without either it is a 400 or 415."""
    assert (
        worker(None, predict_fn=lambda data, model: list(data)).ask(body, content_type)[1] == reply
    )
    assert worker(lambda data: data).ask(body, content_type)[0] in {400, 415}


def test_long_text():
    """Texts of very different lengths are never an array as wide as the longest."""
    body = json.dumps(["x" * 10**6, *["y"] * 10**5]).encode()
    wanted = defaults.Wanted(anything=True)
    read = defaults.default_input(body, MediaType(media.JSON), context(), "absent", wanted)
    assert len(read) == 10**5 + 1
    with pytest.raises(BadInput, match="must hold numbers"):
        codecs.decode_json(body, PLAIN)


def context():
    return Context("/m", "cpu", 0)


@pytest.mark.parametrize("body", [b"1,?\n3,4\n", b"-,2\n3,4\n", b'"1","x"\n3,4\n'])
def test_bad_cell_is_no_header(body):
    """A first row with a number is one of data, whatever else it has: it is never left out."""
    with pytest.raises(BadInput, match="row 1, column"):
        codecs.decode_csv(body, PLAIN, header="auto")


# ── S6: headers ──


@pytest.mark.parametrize(
    ("body", "rows"),
    [
        (b"1,\n3,4\n", 2),
        (b"NA,2\n3,4\n", 2),
        ("\ufeff1,2\n3,4\n".encode(), 2),
        ('\ufeff"a",b\n1,2\n'.encode(), 1),
        (b"a,\n1,2\n", 1),
        (b'"a, b","c\nd"\n1,2\n', 1),
        (b"a,b\n1,2.5\n3,4\n", 2),
    ],
)
def test_automatic_header(body, rows):
    """Only text above a number is a header; a cell without a value is not."""
    assert codecs.decode_csv(body, PLAIN, header="auto").shape == (rows, 2)


@pytest.mark.parametrize(
    ("body", "dtype"),
    [
        (b'{"instances": [1, 2]}', "int64"),
        (b'{"instances": [1e3, 2]}', "float64"),
        (b'{"instances": [1E3]}', "float64"),
        (b'{"instances": [1e30, 2]}', "float64"),
        (b'{"version": "1.5", "instances": [9007199254740993]}', "int64"),
        (b"[[true, false]]", "bool"),
        (b"[null, 1]", "float64"),
        (b"[1.5, 18446744073709551616]", "float64"),
        (b"[]", "float64"),
    ],
)
def test_types_of_json(body, dtype):
    """Integers stay integers, whatever else the body has."""
    array, _ = codecs.decode_json(body, PLAIN)
    assert array.dtype == dtype
    assert dtype != "int64" or array.tolist()[0] in {1, 9007199254740993}


def test_cell_that_is_text():
    """The refusal says where, and how to name a header."""
    with pytest.raises(BadInput, match=r"row 1, column 2 holds 'b'.*header=present"):
        codecs.decode_csv(b"1,b\n2,3\n", PLAIN, header="absent")
    with pytest.raises(BadInput, match="separated by commas"):
        codecs.decode_csv(b"1;2\n", PLAIN, header="absent")


@pytest.mark.parametrize("width", [1, 3, 20])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_csv_widths(width, end):
    """Few columns and many are read in different ways, to the same."""
    table = np.arange(5 * width).reshape(5, width) + 2**53
    body = "".join(",".join(map(str, row)) + end for row in table.tolist()).encode()
    np.testing.assert_array_equal(codecs.decode_csv(body, PLAIN, header="absent"), table)
    with pytest.raises(BadInput):
        codecs.decode_csv(body + b"1,2" + end.encode(), PLAIN, header="absent")


def test_csv_both_ways():
    """What we write, Python's own reader reads as it was."""
    import csv

    rows = [["a,b", 'say "hi"', "two\nlines", "one\rend", " spaces ", "", "é"]]
    written = csv_format.encode(rows).decode()
    assert list(csv.reader(io.StringIO(written, newline=""))) == rows


def test_row_check(worker, capfd):
    """A quoted line end is not another row in batch transform."""
    asked = worker(None, predict_fn=lambda rows, model: [row[0] for row in rows])
    asked.pipeline.row_check = RowCheck("absent")
    assert asked.ask(b'"a\nb",1\nc,2\n', media.CSV, media.CSV) == (media.CSV, b'"a\nb"\nc\n')
    assert "rows and its reply" not in capfd.readouterr().err


# ── S12, S14 ──


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "dia", "bsr"])
@pytest.mark.parametrize("kind", ["matrix", "array"])
def test_sparse(form, kind):
    """scipy's matrices come as what was saved."""
    saved = getattr(scipy.sparse, f"{form}_{kind}")(np.array([[0, 5], [6, 0]]))
    stream = io.BytesIO()
    scipy.sparse.save_npz(stream, saved)
    read = named_arrays.decode_npz(stream.getvalue())
    assert type(read) is type(saved)
    np.testing.assert_array_equal(read.toarray(), saved.toarray())


@pytest.mark.parametrize(
    "changed",
    [
        {"indices": np.array([7])},
        {"indptr": np.array([0, 9, 9])},
        {"shape": np.array([2])},
        {"format": np.array(b"xyz")},
        {"format": np.array([b"a", b"b"])},
        {"data": np.array([[1.0]])},
        {"shape": np.array([-1, 2])},
        {"shape": np.array([1.5, np.nan])},
    ],
)
def test_sparse_forged(changed):
    """An index that would lead out of the memory is refused, as is what is not a matrix at all."""
    parts = {"data": np.array([5.0]), "indices": np.array([1]), "indptr": np.array([0, 1, 1])}
    parts |= {"shape": np.array([2, 2]), "format": np.array(b"csr")}
    stream = io.BytesIO()
    np.savez(stream, **(parts | changed))
    with pytest.raises(BadInput):
        named_arrays.decode_npz(stream.getvalue())


def test_many_arrays():
    """An archive of tens of thousands of arrays is refused before it is opened."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for number in range(named_arrays.MEMBERS + 1):
            archive.writestr(f"{number}.npy", b"")
    with pytest.raises(BadInput, match="more than 1024 arrays"):
        named_arrays.decode_npz(stream.getvalue())


def test_shape_of_booleans():
    """True counts as one for numpy's reader, and as nothing for its reshape."""
    body = npy(np.zeros(1, np.int8)).replace(b"(1,), }   ", b"(True,), }")
    assert b"(True,)" in body
    with pytest.raises(BadInput, match="shape"):
        codecs.decode_npy(body[: 128 + 1])


@pytest.mark.parametrize(
    "charset",
    ["ascii", "US-ASCII", "latin1", "ISO_8859-1", "l1", "cp1252", "UTF8", "utf-16le", "utf_32"],
)
def test_charsets(charset):
    """Any spelling that Python knows."""
    body = '["a"]'.encode(charset)
    assert codecs.parse_json(body, MediaType(media.JSON, {"charset": charset})) == ["a"]


@pytest.mark.parametrize("charset", ["rot13", "zlib", "unicode_escape", "x" * 99, "\0", ""])
def test_no_charsets(charset):
    """Not any codec that Python happens to have."""
    with pytest.raises(BadInput, match="is not one of"):
        codecs.parse_json(b"[]", MediaType(media.JSON, {"charset": charset}))


@pytest.mark.parametrize(
    ("payload", "hint"),
    [
        (b"c__main__\nNet\n.", "file of its own"),
        (b"cnopackage.sub\nNet\n.", "the image lacks nopackage: add nopackage to requirements.txt"),
        (b"ccollections\nNoSuchName\n.", "another version"),
    ],
)
def test_pickle_of_an_unknown_class(tmp_path, payload, hint):
    """A class that this process does not have comes with what to do about it."""
    (tmp_path / "model.pkl").write_bytes(payload)
    with pytest.raises(ModelError, match=hint):
        default_model.load(tmp_path, allow_pickle=True)


def test_pickled_estimator(tmp_path):
    """The object itself is the model, so that a predict_fn can call its other methods."""
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(Estimator()))
    assert isinstance(default_model.load(tmp_path, allow_pickle=True).model, Estimator)


# ── results ──


def test_batch_of_tuples():
    """Two outputs of two rows are not one row each."""
    from sagemaker_byoc.serving.worker import batches

    result = values.plain((torch.tensor([[1], [2]]), torch.tensor([[3], [4]])))
    first, second = batches.split(result, [1, 1])
    assert [part.tolist() for part in first] == [[[1]], [[3]]]
    assert [part.tolist() for part in second] == [[[2]], [[4]]]


def deep(levels):
    value = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("accept", [media.JSON, media.JSON_LINES])
def test_depth(accept):
    """Three hundred lists are written; endless ones are an error of the handler's."""
    written = defaults.default_output(deep(300), accept, context())
    assert written.strip() in {b"[" * 300 + b"1" + b"]" * 300, b"[" * 299 + b"1" + b"]" * 299}
    endless = []
    endless.append(endless)
    with pytest.raises(TypeError, match="contains itself"):
        defaults.default_output(endless, accept, context())


@pytest.mark.parametrize("unit", ["D", "h", "s", "ns"])
def test_moments(unit):
    """A moment that is none is null, and the first of 1970 is itself."""
    moments = np.array(["1970-01-01", "NaT"], f"M8[{unit}]")
    assert codecs.encode_json({"at": moments}) == b'{"at":["1970-01-01T00:00:00",null]}'


class Columns(tuple):
    """Names, each of which stands once."""

    __slots__ = ()
    is_unique = True


class Frame_:  # noqa: N801 - a stand-in for pandas' DataFrame, which is not a dependency
    """What is asked of a data frame."""

    iloc = None
    columns = Columns(("a", "b"))

    def to_dict(self, orient):
        rows = [[1, "x"], [2, float("nan")]]
        if orient == "tight":
            return {"columns": ["a", "b"], "data": rows}
        assert orient == "records"
        return [dict(zip("ab", row, strict=True)) for row in rows]

    def __getitem__(self, name):
        return np.array([1, 2]) if name == "a" else np.array(["x", None], object)


def test_frame():
    """Records in JSON, rows in CSV, columns by name elsewhere."""
    assert codecs.encode_json({"all": Frame_()}) == b'{"all":[{"a":1,"b":"x"},{"a":2,"b":null}]}'
    assert csv_format.encode(Frame_()) == b"1,x\n2,\n"
    lines = defaults.default_output(Frame_(), media.JSON_LINES, context())
    assert lines == b'{"a":1,"b":"x"}\n{"a":2,"b":null}\n'
    with pytest.raises(NotAcceptable):
        defaults.default_output(Frame_(), media.NPZ, context())


class Foreign:
    """An array of another library's."""

    def __init__(self, value):
        self.value = np.asarray(value)

    def __array__(self, dtype=None, copy=None):
        return self.value

    def __len__(self):
        return len(self.value)

    def __iter__(self):
        return map(Foreign, self.value)

    def __contains__(self, value):
        return value in self.value


def test_foreign_array():
    """What says how it becomes an array is written as that one."""
    assert csv_format.encode(Foreign([[0.5, 1], [2, 3]])) == b"0.5,1.0\n2.0,3.0\n"
    assert csv_format.encode(Foreign([1, 2])) == b"1\n2\n"
    assert csv_format.encode(Foreign(0.5)) == b"0.5\n"
    assert codecs.encode_json({"a": Foreign([1, 2])}) == b'{"a":[1,2]}'


@dataclasses.dataclass
class Point:
    x: float
    y: object


class Attrs:
    """As attrs makes a class, and pydantic 1: fields with or without names of their own."""

    __attrs_attrs__ = (types.SimpleNamespace(name="x"), types.SimpleNamespace(name="y"))

    def __init__(self, x, y):
        self.x, self.y = x, y


class Pydantic1:
    __fields__ = {"x": None, "y": None}  # noqa: RUF012 - as pydantic has it
    __init__ = Attrs.__init__


@pytest.mark.parametrize("kind", [Point, Attrs, Pydantic1])
def test_objects_with_fields(kind):
    """They are objects in JSON, and rows of CSV."""
    result = [kind(0.5, "a"), kind(np.float32(2), None)]
    assert codecs.encode_json(result) == b'[{"x":0.5,"y":"a"},{"x":2.0,"y":null}]'
    assert csv_format.encode(result) == b"0.5,a\n2.0,\n"


def test_type_without_module():
    """The name of a type is asked for when something is wrong already."""
    with pytest.raises(TypeError, match="c_double_Array_2 has no form in JSON"):
        values.simpler((ctypes.c_double * 2)(1, 2))


class TestWithPandas:
    """pandas is the user's to install; these run where it is."""

    @pytest.fixture(autouse=True)
    def pandas(self):
        self.pandas = pytest.importorskip("pandas", reason="pandas is the user's to install")

    def test_results(self):
        """Each of its types has a form."""
        pd = self.pandas
        frame = pd.DataFrame({"a": [1, 2], "b": ["x", None], "c": pd.to_datetime(["2020", None])})
        rows = b'[{"a":1,"b":"x","c":"2020-01-01T00:00:00"},{"a":2,"b":null,"c":null}]'
        assert codecs.encode_json(frame) == rows
        assert csv_format.encode(frame) == b"1,x,2020-01-01T00:00:00\n2,,\n"
        several = [pd.Series([1.5]), pd.Categorical(["u"]), pd.NA, pd.NaT, pd.Index([1])]
        assert codecs.encode_json(several) == b'[[1.5],["u"],null,null,[1]]'
        assert codecs.encode_json(pd.Timestamp("2020", tz="UTC")) == b'"2020-01-01T00:00:00+00:00"'

    def test_cells(self):
        """CSV has each cell in its column's own type: large integers, moments with their zone."""
        pd = self.pandas
        frame = pd.DataFrame(
            {"a": [2**53 + 1], "b": [0.5], "c": pd.to_datetime(["2020-01-01T00:00:00+01:00"])}
        )
        assert csv_format.encode(frame) == b"9007199254740993,0.5,2020-01-01T00:00:00+01:00\n"
        column = pd.Series([2**53 + 1, None], dtype="Int64")
        assert csv_format.encode(column) == b'9007199254740993\n""\n'
        assert csv_format.encode(pd.Timestamp("2020-01-01T00:00:00+01:00")).endswith(b"+01:00\n")

    def test_columns_by_name(self):
        """Also of the tables of other libraries."""
        frame = self.pandas.DataFrame({"a": [1, 2], "b": [0.5, 1]})
        written = defaults.default_output(frame, media.NPZ, context())
        assert sorted(np.load(io.BytesIO(written))) == ["a", "b"]

    def test_equal_names(self):
        """Neither of two columns of one name is left out."""
        frame = self.pandas.DataFrame([[1, 2]], columns=["a", "a"])
        assert csv_format.encode(frame) == b"1,2\n"
        with pytest.raises(TypeError, match="two columns"):
            codecs.encode_json(frame)


class Polars:
    """A stand-in for polars' data frame."""

    columns = ("a", "b")

    def to_dicts(self):
        return [{"a": 1, "b": 0.5}]

    def __getitem__(self, name):
        return np.array([self.to_dicts()[0][name]])


class Arrow(Polars):
    """A stand-in for pyarrow's table."""

    schema, column_names = None, Polars.columns
    to_dicts = columns = property()
    to_pylist = Polars.to_dicts

    def __getitem__(self, name):
        return np.array([self.to_pylist()[0][name]])


@pytest.mark.parametrize("table", [Polars(), Arrow()])
def test_tables_by_name(table):
    """Arrays by name are a table's columns, whichever library it is of."""
    written = defaults.default_output(table, media.NPZ, context())
    assert {name: array.tolist() for name, array in np.load(io.BytesIO(written)).items()} == {
        "a": [1],
        "b": [0.5],
    }
    assert csv_format.encode(table) == b"1,0.5\n"


class Listed:
    """A stand-in for the tables and columns of pyarrow and polars."""

    def __init__(self, name, value):
        setattr(self, name, lambda: value)


@pytest.mark.parametrize(
    ("result", "json", "csv"),
    [
        (np.ma.array([1.5, 2.5], mask=[0, 1]), b"[1.5,null]", b'1.5\n""\n'),
        (np.ma.array([1, 2], mask=[0, 1])[1], b"null", b'""\n'),
        (np.matrix([[1, 2]]), b"[[1,2]]", b"1,2\n"),
        (np.array(["a", "bb"], np.dtypes.StringDType()), b'["a","bb"]', b"a\nbb\n"),
        (Listed("to_pylist", [{"a": 1, "b": None}]), b'[{"a":1,"b":null}]', b"1,\n"),
        (
            Listed("to_list", [2**53 + 1, None]),
            b"[9007199254740993,null]",
            b'9007199254740993\n""\n',
        ),
        (Listed("as_py", 5), b"5", b"5\n"),
        ([decimal.Decimal(2**53 + 1)], b"[9007199254740993]", b"9007199254740993\n"),
        (collections.UserString("ab"), b'"ab"', None),
    ],
)
def test_result(result, json, csv):
    """What is masked is not told, and no number changes on its way."""
    assert codecs.encode_json(result) == json
    if csv is not None:
        assert csv_format.encode(result) == csv


def test_masked_array():
    """npy has no form for what is masked but NaN."""
    masked = values.as_array(np.ma.array([1, 2], mask=[0, 1]))
    np.testing.assert_array_equal(masked, [1, np.nan])
    assert values.as_array(np.ma.array([1, 2])).dtype == np.int64


@pytest.mark.parametrize(
    ("body", "numbers", "dtype"),
    [
        (b"[18446744073709551615, 1]", [2**64 - 1, 1], np.uint64),
        (b"[Infinity, -Infinity]", [math.inf, -math.inf], np.float64),
        (b"[NaN, Infinity]", [math.nan, math.inf], np.float64),
    ],
)
def test_largest(body, numbers, dtype):
    """64 bits without a sign are used if they do; an infinity is not an integer."""
    array, _ = codecs.decode_json(body, MediaType(media.JSON))
    assert array.dtype == dtype
    np.testing.assert_array_equal(array, np.array(numbers, dtype))
    if dtype is np.uint64:
        rows = codecs.decode_csv(body.strip(b"[]"), PLAIN, header="absent")
        assert rows.tolist() == [numbers]


@pytest.mark.parametrize("body", [b'"1\n2"', b'"1\n2",3', b'"1', b'1,"2'])
def test_cell_across_lines(body):
    """A quoted cell that continues in the next line is not a number."""
    with pytest.raises(BadInput):
        codecs.decode_csv(body, PLAIN, header="absent")


def test_sparse_too_large(monkeypatch):
    """A sparse result that would fill the memory is refused."""
    monkeypatch.setattr(values, "CELLS", 3)
    with pytest.raises(NotAcceptable, match="sparse"):
        codecs.encode_json(scipy.sparse.csr_matrix((2, 2)))


def test_stream(worker):
    """A generator's items have the same forms."""
    asked = worker(None, predict_fn=lambda data, model: iter([{1: np.array(["a"])}, {2: None}]))
    frames = asked.ask_all([b"[1]"], accept=media.EVENT_STREAM)
    text = b"".join(bytes(frame.body.view()[:]) for frame in frames)
    assert text == b'data: {"1":["a"]}\n\ndata: {"2":null}\n\n'


@pytest.mark.parametrize("body", [b"[" + b"1," * 50_000 + b"1]", b"[" * 100_000])
def test_collector(body):
    """The garbage collector runs again after a large body, a broken one too."""
    with contextlib.suppress(BadInput):
        defaults.default_input(body, MediaType(media.JSON), context(), "absent")
    assert gc.isenabled()
