"""Errors of user code that name the reply's status."""

from __future__ import annotations

import urllib.error
from types import SimpleNamespace

import flask
import pytest

from sagemaker_byoc.serving import error_replies


class NamedError(Exception):
    def __init__(self, **attributes):
        self.__dict__.update(attributes)
        super().__init__("text of the error")


class UnsupportedFormatError(Exception):
    pass


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (NamedError(status_code=400, message="toolkit"), (400, "BadRequest", "toolkit")),
        (NamedError(status_code=403, detail="fastapi"), (403, "Forbidden", "fastapi")),
        (NamedError(status_code=409, detail={"a": 1}), (409, "Conflict", '{"a": 1}')),
        (NamedError(code=405, description="flask"), (405, "MethodNotAllowed", "flask")),
        (NamedError(error_code=503), (503, "ServiceUnavailable", "text of the error")),
        (NamedError(status_code=499, message="odd"), (499, "ModelError", "odd")),
        (UnsupportedFormatError("text/x"), (415, error_replies.FORMAT_ERROR, "text/x")),
        (NamedError(status_code=200), None),
        (NamedError(status_code=True), None),
        (NamedError(code="400"), None),
        (NamedError(code=SimpleNamespace()), None),
        (SystemExit(404), None),
        (urllib.error.HTTPError("u", 404, "upstream", {}, None), None),
        (ValueError("plain"), None),
    ],
)
def test_told(error, told):
    """What the caller gets; None leaves it to be a failure of the model."""
    assert error_replies.named_by(error) == told


def test_flask_abort():
    with pytest.raises(Exception, match="no such row") as caught:
        flask.abort(404, "no such row")
    assert error_replies.named_by(caught.value) == (404, "NotFound", "no such row")
