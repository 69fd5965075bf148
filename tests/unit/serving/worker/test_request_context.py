"""What AWS's handlers ask of `context`, and say through it."""

from __future__ import annotations

import json
from http import HTTPStatus

import pytest

from sagemaker_byoc.serving.worker.request_context import Context


@pytest.fixture
def context(tmp_path):
    headers = {"x-amzn-sagemaker-inference-id": "i1", "x-amzn-sagemaker-custom-attributes": "a=1"}
    return Context(
        str(tmp_path),
        "cuda",
        2,
        request_id="r1",
        content_type="text/csv",
        accept="application/json",
        headers=headers,
        model_name="mine",
    )


def test_request(context):
    """Headers by any case, one by one and all, by both ways to them."""
    [processor] = context.request_processor
    for name in ("Content-Type", "content-type", "CONTENT-TYPE"):
        assert context.get_request_header(0, name) == "text/csv"
        assert processor.get_request_property(name) == "text/csv"
    for found in (context.get_all_request_header(0), processor.get_request_properties()):
        assert (found.get("Accept"), found["accept"]) == ("application/json", "application/json")
        assert "X-Amzn-SageMaker-Inference-Id" in found
        assert "Nothing" not in found
        assert sorted(found)[:2] == ["Accept", "Content-Type"]
    assert (context.get_request_id(0), context.request_ids) == ("r1", {0: "r1"})
    assert context.get_request_header(0, "explain") is None
    assert context.explain is False


def test_properties(context, tmp_path):
    """As both servers name them: the GPU is the only one that this worker sees."""
    found = context.system_properties
    assert (found.get("model_dir"), found["gpu_id"]) == (str(tmp_path), 0)
    assert (found["batch_size"], found["limit_max_image_pixels"]) == (1, True)
    assert context.model_name == "mine"


def test_manifest(context, tmp_path):
    """The archive's own, else the name and the model's file; a broken one is not read as one."""
    (tmp_path / "._model.pt").touch()
    (tmp_path / "model.pt").touch()
    assert context.manifest["model"] == {"modelName": "mine", "serializedFile": "model.pt"}
    place = tmp_path / "MAR-INF" / "MANIFEST.json"
    place.parent.mkdir()
    place.write_text(json.dumps({"model": {"modelName": "other"}}))
    assert context.manifest == {"model": {"modelName": "other"}}
    place.write_text("[]")
    assert context.manifest["model"]["modelName"] == "mine"


def test_reply(context):
    """Status, type and headers, read back by every way to them."""
    [processor] = context.request_processor
    context.set_response_status(HTTPStatus.CREATED, "Created", 0)
    context.set_response_content_type(0, "text/plain")
    processor.add_response_property("X-Own", "1")
    assert context.get_response_status(0)[0] == processor.get_response_status_code() == 201
    assert context.get_response_content_type(0) == "text/plain"
    assert context.get_response_headers(0)["CONTENT-TYPE"] == "text/plain"
    assert processor.get_response_header("x-own") == "1"
    processor.report_status(404, "Not Found")
    assert context.reply_status == 404
    context.set_all_response_status(200)
    assert context.reply_status == 200
    for status in (0, 100, 600):
        with pytest.raises(ValueError, match="200 to 599"):
            context.set_response_status(status)


def test_metrics(context, capfd):
    """One line each, whichever server's order of arguments."""
    metrics = context.metrics
    metrics.add_counter("Count it", 1)
    metrics.add_counter(name="A", value=2, idx=0, dimensions=[])
    metrics.add_time("T", 1.5)
    metrics.add_time("T", 2, 0, "s")
    metrics.add_size("S", 3, None, "MB")
    metrics.add_percent("P", 4, idx=0)
    metrics.add_error("E", "bad\nnews")
    metrics.add_metric("M", 5, 0, "Bytes")
    metrics.add_metric("M", 6, "Bytes", 0, metric_type="gauge")
    metrics.add_metric("M", 7, unit="Bytes")
    assert capfd.readouterr().err.splitlines() == [
        f"byoc: metric {text}, request r1"
        for text in (
            "Count it 1 Count",
            "A 2 Count",
            "T 1.5 Milliseconds",
            "T 2 Seconds",
            "S 3 Megabytes",
            "P 4 Percent",
            "E bad?news Error",
            "M 5 Bytes",
            "M 6 Bytes",
            "M 7 Bytes",
        )
    ]
