"""Finding the user's file, its functions, and how they are called."""

from __future__ import annotations

import io
import pathlib
import sys

import numpy as np
import pytest

from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.serving.bodies import Body
from sagemaker_byoc.serving.link import Frame, Kind
from sagemaker_byoc.serving.media import MediaType
from sagemaker_byoc.serving.settings import Settings, find_handlers, is_remote
from sagemaker_byoc.serving.worker import pipeline
from sagemaker_byoc.serving.worker.code import apps, guard, handlers
from sagemaker_byoc.serving.worker.code.handlers import HandlerError
from sagemaker_byoc.serving.worker.code.model_files import ModelError
from sagemaker_byoc.serving.worker.formats import forms
from sagemaker_byoc.serving.worker.request_context import Context

pytest.importorskip("flask")  # here, since `tree` replaces sys.modules


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "modules", {**sys.modules})
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def settings(**environ):
        return Settings.from_environ(
            {
                "SAGEMAKER_BASE_DIR": str(tmp_path),
                "BYOC_PROGRAM_DIR": str(tmp_path / "program"),
                **environ,
            }
        )

    def write(folder, text, name="inference.py"):
        path = tmp_path / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return settings, write


def context():
    return Context("/m", "cpu", 0, content_type="text/csv; charset=latin-1")


def test_order_of_search(tree):
    """What was said, then the model's, then the image's; the others are named."""
    settings, write = tree
    baked = write("program", "")
    assert find_handlers(settings()).chosen == baked
    of_model = write("model/code", "")
    said = write("said", "")
    found = find_handlers(settings(SAGEMAKER_SUBMIT_DIRECTORY=f"file://{said.parent}"))
    assert (found.chosen, found.passed_over) == (said, (of_model, baked))


def test_a_program_in_s3_is_not_read(tree):
    settings, write = tree
    baked = write("program", "")
    found = settings(SAGEMAKER_SUBMIT_DIRECTORY="s3://bucket/sourcedir.tar.gz")
    assert is_remote(found)
    assert find_handlers(found).chosen == baked
    assert not is_remote(settings(SAGEMAKER_SUBMIT_DIRECTORY=f"file://{baked.parent}"))


def test_no_file(tree):
    """Fine, unless one was named."""
    settings, _ = tree
    assert handlers.load(find_handlers(settings())).defined == {}
    with pytest.raises(ContractError, match=r"mine\.py"):
        find_handlers(settings(SAGEMAKER_PROGRAM="mine.py"))


def test_folder_is_importable(tree):
    """Modules beside the file are found."""
    settings, write = tree
    write("model/code", "answer = 42", "beside_it.py")
    write("model/code", "import beside_it\ndef model_fn(d): return beside_it.answer")
    loaded = handlers.load(find_handlers(settings()))
    assert loaded.get("model_fn")("/m", context=context()) == 42
    assert "model_fn from" in loaded.table()
    assert "input_fn default" in loaded.table()


@pytest.mark.parametrize(
    ("signature", "takes"),
    [
        ("data, model", False),
        ("data, model, context", True),
        ("data, model, anything", True),
        ("data, model, context=None", True),
        ("data, model, temperature=1.0", False),
        ("*arguments", False),
        ("data, model, *, flag=True", False),
        ("data, model, *, context", True),
        ("data, model, *, context=None", True),
        ("*arguments, context", True),
        ("data, model, **more", False),
    ],
)
def test_context_by_signature(tree, signature, takes):
    """One argument more is the context, if it is required or has that name."""
    settings, write = tree
    write("model/code", f"def predict_fn({signature}): pass")
    handler = handlers.load(find_handlers(settings())).get("predict_fn")
    assert handler.takes_context is takes
    handler(1, 2, context=context())


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (
            "def predict_fn(data): pass",
            r"predict_fn\(data\) is called as predict_fn\(data, model\)",
        ),
        ("def model_fn(a, b, c): pass", "model_dir"),
        ("def input_fn(a, b, *, c): pass", "content_type"),
        ("def transform_fn(a,b,c,d): pass\ndef input_fn(a,b): pass", "keep one way"),
        ("import sys; sys.exit(3)", r"sys\.exit\(3\)"),
    ],
)
def test_unusable(tree, text, part):
    """What can't work is said at the start."""
    settings, write = tree
    write("model/code", text)
    with pytest.raises(HandlerError, match=part):
        handlers.load(find_handlers(settings()))


def test_body_as_toolkits_give_it():
    """CSV and JSON as text under the bare type, all else as bytes under the whole header."""
    csv = MediaType("text/csv", {"charset": "latin-1"})
    assert forms.user_body(b"\xe4", csv, context()) == ("ä", "text/csv")
    other = Context("/m", "cpu", 0, content_type="image/png; a=b")
    assert forms.user_body(b"\xe4", MediaType("image/png"), other) == (b"\xe4", "image/png; a=b")


def test_context_guards_headers():
    """A handler can't break the reply."""
    guarded = context()
    guarded.set_response_header(0, "X-Own", "1")
    guarded.set_response_content_type(0, "text/plain")
    assert (guarded.reply_headers, guarded.reply_content_type) == ({"X-Own": "1"}, "text/plain")
    for name, value in (("Content-Length", "1"), ("X-A", "1\r\nX-B: 2"), ("a b", "1")):
        with pytest.raises(ValueError, match="header"):
            guarded.set_response_header(0, name, value)
    with pytest.raises(ValueError, match="1024"):
        guarded.set_custom_attributes("x" * 1025)


def test_transform(tree):
    """transform_fn does it all, with the toolkit's order of arguments."""
    settings, write = tree
    write(
        "model/code",
        "def model_fn(d): return 'm'\n"
        "def transform_fn(model, body, content_type, accept):\n"
        "    return f'{model} {body} {content_type}', accept",
    )
    chosen = settings()
    loaded = pipeline.Pipeline(chosen, handlers.load(find_handlers(chosen)), 0)
    loaded.load()
    meta = {"request_id": "r", "content_type": "application/json", "accept": "a/b"}
    ((reply,),) = loaded.answer([Frame(Kind.REQUEST, 1, {**meta, "deadline": 0}, Body(b"[1]"))])
    assert (reply.meta["content_type"], reply.body.data) == ("a/b", b"m [1] application/json")
    assert pathlib.Path(chosen.root).is_dir()


@pytest.mark.parametrize("content_type", ["image/png", "application/octet-stream", "audio/x-own"])
def test_bytes_pass_through(tree, content_type):
    """A predict_fn alone gets images and the like as bytes, and may answer with some."""
    settings, write = tree
    write(
        "model/code",
        "def model_fn(d): return b'm'\n"
        "def predict_fn(data, model): return model + data, 'image/x-own'",
    )
    chosen = settings()
    loaded = pipeline.Pipeline(chosen, handlers.load(find_handlers(chosen)), 0)
    loaded.load()
    reply = answer_of(loaded, content_type, b"\x89P")
    assert (reply.meta["content_type"], reply.body.data) == ("image/x-own", b"m\x89P")


def answer_of(loaded, content_type, body):
    meta = {"request_id": "r", "content_type": content_type, "accept": "*/*", "deadline": 0}
    ((reply,),) = loaded.answer([Frame(Kind.REQUEST, 1, meta, Body(body))])
    return reply


def load(tree, text, name="inference.py", **environ):
    settings, write = tree
    write("model/code", text, name)
    chosen = settings(**environ)
    loaded = pipeline.Pipeline(chosen, handlers.load(find_handlers(chosen)), 0)
    loaded.load()
    return loaded


MODEL = "def model_fn(d): return 2\n"
JSON = "application/json"


@pytest.mark.parametrize(
    "text",
    [
        "async def input_fn(b, t): return [1]\nasync def predict_fn(d, m): return m * d[0]",
        "class P:\n    def __call__(self, d, m): return m\npredict_fn = P()",
        "class P:\n    async def __call__(self, d, m, context): return m\npredict_fn = P()",
        "import functools\ndef f(k, d, m): return k * m\npredict_fn = functools.partial(f, 1)",
        "def f(d, m): return m\npredict_fn = staticmethod(f)",
        "class P(int):\n    def __new__(c, d, m): return m\npredict_fn = P",
        "input_fn = lambda b, t: 2\npredict_fn = min",
        (
            "import functools\n"
            "def w(f): return functools.wraps(f)(lambda *a: f(*a))\n"
            "@w\ndef predict_fn(d, m): return m"
        ),
        "def predict_fn(d, m, *, context): return m if context.request_id == 'r' else 0",
    ],
)
def test_kinds_of_functions(tree, text):
    """Whatever can be called with the arguments is, and waited for if it is to be awaited."""
    assert answer_of(load(tree, MODEL + text), JSON, b"[1]").body.data == b"2"


def test_async_items_are_a_stream(tree):
    """An asynchronous generator streams; what it raises cuts the stream, sys.exit too."""
    text = (
        "import asyncio\n"
        "async def predict_fn(d, m):\n"
        "    yield 'a'\n"
        "    await asyncio.sleep(0)\n"
        "    yield 'b'\n"
        "    raise SystemExit(3)\n"
    )
    loaded = load(tree, MODEL + text)
    for _ in range(2):  # the loop has outlived the first
        frames = [
            frame
            for batch in loaded.answer([frame_of(JSON, b"[1]", accept="text/plain, */*")])
            for frame in batch
        ]
        assert [frame.body.data for frame in frames[:2]] == [b"a", b"b"]
        assert "SystemExit" in frames[-1].meta["error"]["message"]


def frame_of(content_type, body, accept="*/*"):
    meta = {"request_id": "r", "content_type": content_type, "accept": accept, "deadline": 0}
    return Frame(Kind.REQUEST, 1, meta, Body(body))


def test_async_conversation_is_refused(tree):
    with pytest.raises(HandlerError, match="bidirectional_fn is async"):
        load(tree, MODEL + "async def bidirectional_fn(messages, model): yield 1")


def test_status_by_context(tree):
    """set_response_status goes with the reply, and only with its own request's."""
    text = (
        "def predict_fn(d, m): return 1\n"
        "def output_fn(p, accept, context):\n"
        "    if context.content_type != 'text/csv':\n"
        "        context.set_response_status(code=202, phrase='Accepted')\n"
        "    return 'x'\n"
    )
    loaded = load(tree, MODEL + text)
    assert answer_of(loaded, JSON, b"[1]").meta["status"] == 202
    assert "status" not in answer_of(loaded, "text/csv", b"1").meta


def test_context_is_never_shared(tree):
    """A predict_fn with a context runs for one request, even if the operator asks for batches."""
    loaded = load(tree, MODEL + "def predict_fn(d, m, context): return m", BYOC_BATCH="8")
    assert loaded.batch == 1


@pytest.mark.parametrize(
    ("text", "status", "code", "message"),
    [
        (
            "import flask\ndef input_fn(b, t): flask.abort(403, 'not you')",
            403,
            "Forbidden",
            "not you",
        ),
        (
            (
                "from sagemaker_inference import errors\n"
                "def input_fn(b, t): raise errors.GenericInferenceToolkitError(409, 'again')"
            ),
            409,
            "Conflict",
            "again",
        ),
        (
            (
                "from sagemaker_inference import decoder\n"
                "def input_fn(b, t): return decoder.decode(b, 'text/own')"
            ),
            415,
            "UnsupportedMediaType",
            "text/own is not supported",
        ),
        (
            (
                "from sagemaker_inference import encoder\n"
                "def output_fn(p, accept): return encoder.encode(p, 'text/own')"
            ),
            406,
            "NotAcceptable",
            "text/own is not supported",
        ),
        ("def input_fn(b, t): raise ValueError('x')", 500, "ModelError", "ValueError: x"),
    ],
)
def test_errors_with_a_status(tree, text, status, code, message):
    error = answer_of(load(tree, f"{MODEL}def predict_fn(d, m): return m\n{text}"), JSON, b"[1]")
    error = error.meta["error"]
    assert (error["status"], error["code"]) == (status, code)
    assert message in error["message"]


@pytest.mark.parametrize("name", ["output_fn", "predict_fn", "transform_fn"])
def test_response_objects(tree, name):
    """A Flask response is the reply: its status, type, headers and body."""
    arguments = {"output_fn": "p, a", "predict_fn": "d, m", "transform_fn": "m, b, t, a"}[name]
    before = "def predict_fn(d, m): return m\n" if name == "output_fn" else ""
    text = (
        f"import flask\n{before}"
        f"def {name}({arguments}):\n"
        "    reply = flask.Response('made', 207, mimetype='text/own')\n"
        "    reply.set_cookie('a', '1')\n"
        "    reply.set_cookie('b', '2')\n"
        "    return reply\n"
    )
    reply = answer_of(load(tree, MODEL + text), JSON, b"[1]")
    assert (reply.meta["status"], reply.body.data) == (207, b"made")
    assert reply.meta["content_type"] == "text/own; charset=utf-8"
    assert [header for header, _ in reply.meta["headers"]] == ["Set-Cookie", "Set-Cookie"]


SERVICE = (
    "class Service:\n"
    "    def __init__(self): self.model_dir = None\n"
    "    def initialize(self, context):\n"
    "        self.model_dir = context.system_properties.get('model_dir')\n"
    "    def handle(self, data, context):\n"
    "        body = data[0].get('body')\n"
    "        kind = context.request_processor[0].get_request_properties()['Content-Type']\n"
    "        if body == b'bad':\n"
    "            context.set_response_status(code=422, phrase='x')\n"
    "            return ['no such row\\nTraceback (most recent call last):\\n  File']\n"
    "        context.set_response_content_type(0, 'text/own')\n"
    "        return [f'{body} {kind} {self.model_dir is not None}']\n"
)


@pytest.mark.parametrize(
    "more",
    [
        "",
        (
            "_service = Service()\n"
            "def handle(data, context):\n"
            "    if not _service.model_dir: _service.initialize(context)\n"
            "    return None if data is None else _service.handle(data, context)\n"
        ),
        "class Base(Service):\n    pass\n",
    ],
)
def test_handler_services(tree, more):
    """A class, a function beside an object, a class with a parent."""
    loaded = load(tree, SERVICE + more)
    reply = answer_of(loaded, JSON, b"[1]")
    assert reply.body.data == b"b'[1]' application/json True"
    assert reply.meta["content_type"] == "text/own"
    error = answer_of(loaded, "text/csv", b"bad").meta["error"]
    assert (error["status"], error["message"]) == (422, "no such row")


def test_service_with_wrong_result(tree):
    """A result other than a list of one reply is named."""
    text = (
        "class S:\n"
        "    def initialize(self, context): pass\n"
        "    def handle(self, data, context): return 'text'\n"
    )
    error = answer_of(load(tree, text), JSON, b"[1]").meta["error"]
    assert (error["status"], "list of one reply" in error["message"]) == (500, True)


@pytest.mark.parametrize(
    ("text", "package"),
    [
        ("from sagemaker_inference import model_server", "sagemaker-inference"),
        ("import sagemaker_inference.transformer", "sagemaker-inference"),
        (
            "import sagemaker_pytorch_serving_container.handler_service",
            "sagemaker-pytorch-inference",
        ),
        ("from sagemaker_containers.beta.framework import worker", "sagemaker-containers"),
        ("from mms.service import PredictionException", "multi-model-server"),
    ],
)
def test_parts_of_the_server(tree, text, package):
    """What this image has no part of is named, with what would bring it."""
    settings, write = tree
    write("model/code", text)
    with pytest.raises(HandlerError, match=f"does not run here.*{package}"):
        handlers.load(find_handlers(settings()))


def test_stand_in_reads_no_pickle(tree):
    """An array of objects is a program of the caller's."""
    text = (
        "from sagemaker_inference import decoder\ndef input_fn(b, t): return decoder.decode(b, t)\n"
    )
    body = io.BytesIO()
    np.save(body, np.array([{"a": 1}]), allow_pickle=True)
    error = answer_of(load(tree, PREDICT + text), "application/x-npy", body.getvalue()).meta[
        "error"
    ]
    assert "allow_pickle=False" in error["message"]


FLASK = "import flask\napp = flask.Flask('x')\n"
INVOKES = "@app.post('/invocations')\ndef f(): return 'own'\n"
FACTORY = (
    "import flask\n"
    "def create_app({}):\n"
    "    app = flask.Flask('x')\n"
    "    app.post('/invocations')(lambda: 'own')\n"
    "    return app\n"
)
OPAQUE = (
    "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'own']\n"
)
PREDICT = "def model_fn(d): return 2\ndef predict_fn(d, m): return m\n"


@pytest.mark.parametrize(
    ("text", "is_app"),
    [
        (FLASK + INVOKES, True),
        (FLASK + INVOKES + PREDICT, True),
        (FLASK + INVOKES.replace("post", "get"), False),
        (FLASK + PREDICT, False),
        (FLASK + PREDICT + "@app.post('/<path:p>')\ndef f(p): return 'own'\n", False),
        (FLASK + "@app.post('/<path:p>')\ndef f(p): return 'own'\n", True),
        (FLASK.replace("app =", "application =") + INVOKES.replace("app.", "application."), True),
        (
            "import flask\napp = flask.Blueprint('b', __name__)\n" + INVOKES,
            True,
        ),
        (FLASK.replace("app =", "server =") + INVOKES.replace("app.", "server."), True),
        (FLASK.replace("app =", "server =") + INVOKES.replace("app.", "server.") + PREDICT, False),
        ("import flask\nfirst, second = flask.Flask('a'), flask.Flask('b')\n", False),
        ("app = 3\n" + PREDICT, False),
        ("class A:\n    def __call__(self): pass\napp = A()\n" + PREDICT, False),
        (FACTORY.format("config=None, **more"), True),
        (FACTORY.format("config"), False),
        (FACTORY.format("") + PREDICT, False),
        (OPAQUE, True),
        ("import werkzeug\n@werkzeug.Request.application\ndef app(request): pass\n", True),
        (OPAQUE + PREDICT, False),
        (OPAQUE + "make_model = dict\n", False),
        ("async def app(scope, receive, send): pass\n", True),
        ("class A:\n    async def __call__(self, scope, receive, send): pass\napp = A()\n", True),
        (PREDICT + "app = None\n", False),
        (PREDICT, False),
    ],
)
def test_which_is_the_handler(tree, text, is_app):
    """A route to /invocations is meant to be called; a catch-all is if nothing else is there."""
    settings, write = tree
    write("model/code", text)
    found = handlers.load(find_handlers(settings()))
    assert found.is_app is is_app
    assert ("answers /invocations" in found.table()) is is_app


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("app = 3", "it is int: give a WSGI or ASGI application"),
        ("class A:\n    def __call__(self): pass\napp = A()\n", "it is .*A, neither WSGI nor ASGI"),
        ("class app:\n    def __init__(self, scope): pass\n", "neither WSGI nor ASGI"),
    ],
)
def test_app_that_is_none(tree, text, reason):
    """It ends the start at once if there is nothing else that could answer."""
    settings, write = tree
    write("model/code", text)
    with pytest.raises(HandlerError, match=reason):
        handlers.load(find_handlers(settings()))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("def main():\n    app = 1\n", r"inference\.py defines none of .*predict_fn.*, app$"),
        (FLASK, r"app from .*inference\.py has no route for POST /invocations$"),
        ("def input_fn(body, content_type): pass\n", r"top of the archive\?$"),
    ],
)
def test_file_without_handlers(tree, text, reason):
    """An empty model folder is not all that there is to say of a file that defines nothing."""
    with pytest.raises(ModelError, match=reason):
        load(tree, text)


def test_handlers_at_the_top(tree):
    """Handlers beside the model instead of in code/ are named when they are missed."""
    settings, write = tree
    write("model", PREDICT)
    chosen = settings()
    found = pipeline.Pipeline(chosen, handlers.load(find_handlers(chosen)), 0)
    with pytest.raises(ModelError, match=r"inference\.py at the top of the archive is not read"):
        found.load()


def test_pickle_of_main_in_model_fn(tree):
    """The hint is in the log, also if the user's own model_fn unpickles."""
    text = "import pickle\ndef model_fn(d): return pickle.loads(b'c__main__\\nAbsent\\n.')\n"
    with pytest.raises(AttributeError) as caught:
        load(tree, text)
    assert "Move it to a file of its own" in guard.report_of(caught.value)


def test_ping_that_fails(tree, monkeypatch, capfd):
    """The traceback of the application's /ping is in the log once, however often it is asked."""
    monkeypatch.setattr(apps, "PING_PAUSE", 0)
    pings = (
        "asked = []\n@app.get('/ping')\ndef ping():\n    asked.append(1)\n"
        "    if len(asked) < 9: raise KeyError('weights')\n    return ''\n"
        "app.config['PROPAGATE_EXCEPTIONS'] = True\n"
    )
    load(tree, FLASK + INVOKES + pings)
    assert capfd.readouterr().err.count("Traceback (most recent call last)") == 1


def test_application_files(tree):
    """wsgi.py before predictor.py, neither before a program that is there or named."""
    settings, write = tree
    predictor = write("program", FLASK + INVOKES, "predictor.py")
    assert find_handlers(settings()).chosen == predictor
    wsgi = write("program", "from predictor import app", "wsgi.py")
    found = find_handlers(settings())
    assert (found.chosen, found.passed_over) == (wsgi, ())
    inference = write("program", PREDICT)
    assert find_handlers(settings()).chosen == inference
    with pytest.raises(ContractError, match=r"mine\.py"):
        find_handlers(settings(SAGEMAKER_PROGRAM="mine.py"))


def test_app_startup_that_fails(tree):
    """The message of the lifespan is the cause."""
    text = (
        "async def app(scope, receive, send):\n"
        "    await receive()\n"
        "    await send({'type': 'lifespan.startup.failed', 'message': 'no weights'})\n"
    )
    with pytest.raises(apps.AppError, match="no weights"):
        load(tree, text)
