"""Finding the user's file, its functions, and how they are called."""

from __future__ import annotations

import pathlib
import sys

import pytest

from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.serving import handler_file
from sagemaker_byoc.serving.bodies import Body
from sagemaker_byoc.serving.link import Frame, Kind
from sagemaker_byoc.serving.media import MediaType
from sagemaker_byoc.serving.settings import Settings
from sagemaker_byoc.serving.worker import forms, handlers, pipeline
from sagemaker_byoc.serving.worker.context import Context
from sagemaker_byoc.serving.worker.handlers import HandlerError


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
    assert handler_file.find(settings()).chosen == baked
    of_model = write("model/code", "")
    said = write("said", "")
    found = handler_file.find(settings(SAGEMAKER_SUBMIT_DIRECTORY=f"file://{said.parent}"))
    assert (found.chosen, found.passed_over) == (said, (of_model, baked))


def test_no_file(tree):
    """Fine, unless one was named."""
    settings, _ = tree
    assert handlers.load(handler_file.find(settings())).defined == {}
    with pytest.raises(ContractError, match=r"mine\.py"):
        handler_file.find(settings(SAGEMAKER_PROGRAM="mine.py"))


def test_folder_is_importable(tree):
    """Modules beside the file are found."""
    settings, write = tree
    write("model/code", "answer = 42", "beside_it.py")
    write("model/code", "import beside_it\ndef model_fn(d): return beside_it.answer")
    loaded = handlers.load(handler_file.find(settings()))
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
    ],
)
def test_context_by_signature(tree, signature, takes):
    """One argument more is the context, if it is required or says so."""
    settings, write = tree
    write("model/code", f"def predict_fn({signature}): pass")
    handler = handlers.load(handler_file.find(settings())).get("predict_fn")
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
        handlers.load(handler_file.find(settings()))


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
    loaded = pipeline.Pipeline(chosen, handlers.load(handler_file.find(chosen)), 0)
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
    loaded = pipeline.Pipeline(chosen, handlers.load(handler_file.find(chosen)), 0)
    loaded.load()
    reply = answer_of(loaded, content_type, b"\x89P")
    assert (reply.meta["content_type"], reply.body.data) == ("image/x-own", b"m\x89P")


def answer_of(loaded, content_type, body):
    meta = {"request_id": "r", "content_type": content_type, "accept": "*/*", "deadline": 0}
    ((reply,),) = loaded.answer([Frame(Kind.REQUEST, 1, meta, Body(body))])
    return reply
