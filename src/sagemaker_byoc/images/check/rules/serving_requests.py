"""Rules about how an endpoint's container answers requests of many kinds."""

from __future__ import annotations

import json
from collections.abc import Iterator

from sagemaker_byoc.contract import http
from sagemaker_byoc.images.check.findings import Found, Rule, Severity
from sagemaker_byoc.images.check.trials.serving import LARGE, LARGEST, ServingTrial
from sagemaker_byoc.images.check.trials.traffic import Reply

_ROUTE = "POST /invocations"
_STRATEGIES = frozenset({"MULTI_RECORD", "SINGLE_RECORD", "MultiRecord", "SingleRecord"})
_NUMBERS = ("MaxConcurrentTransforms", "MaxPayloadInMB")


def _said(reply: Reply) -> str:
    return str(reply.status) if reply.status else reply.error


def _differs(trial: ServingTrial, name: str) -> Reply | None:
    """Return the reply to a probe that got less far than the plain request did."""
    plain, other = trial.replies.get("plain"), trial.replies.get(name)
    if plain is None or other is None or not plain.status or other.status == plain.status:
        return None
    return other if plain.works or other.status in {0, 400, 411, 415, 501} else None


def route(trial: ServingTrial) -> Iterator[Found]:
    plain = trial.replies.get("plain")
    died = trial.died is not None and plain is not None and not plain.status
    if plain is not None and plain.status in {0, 404, 405} and not died:
        yield Found(f"POST answers {_said(plain)}", _ROUTE)


def payload(trial: ServingTrial) -> Iterator[Found]:
    plain = trial.replies.get("plain")
    if not trial.with_payload or plain is None or plain.status in {0, 404, 405}:
        return
    if not plain.works:
        said = plain.body[:200].decode(errors="replace").strip()
        yield Found(f"{plain.status}: {said}", _ROUTE)


def charset(trial: ServingTrial) -> Iterator[Found]:
    other = _differs(trial, "charset")
    if other is not None:
        plain = trial.replies["plain"].status
        yield Found(f"{plain} without a charset, {_said(other)} with one", _ROUTE)


def refuses_large(trial: ServingTrial) -> Iterator[Found]:
    reply = trial.replies.get("large")
    if reply is not None and (reply.status == 413 or not reply.status):
        yield Found(f"a body of {LARGE / 1e6:.0f} MB: {_said(reply)}", _ROUTE)


def refuses_largest(trial: ServingTrial) -> Iterator[Found]:
    reply, smaller = trial.replies.get("largest"), trial.replies.get("large")
    if reply is None or smaller is None or smaller.status in {0, 413}:
        return
    if reply.status == 413 or not reply.status:
        yield Found(f"a body of {LARGEST >> 20} MiB: {_said(reply)}", _ROUTE)


def too_large(trial: ServingTrial) -> Iterator[Found]:
    reply = trial.replies.get("too large")
    if reply is not None and not reply.status and reply.error:
        yield Found(f"a body of 200 MiB: {reply.error}, and no 413 to be read", _ROUTE)


def unknown_type(trial: ServingTrial) -> Iterator[Found]:
    reply = trial.replies.get("unknown")
    if reply is not None and (reply.status >= 500 or not reply.status):
        yield Found(f"application/x-byoc-unknown: {_said(reply)}, not 415", _ROUTE)


def chunked(trial: ServingTrial) -> Iterator[Found]:
    other = _differs(trial, "chunked")
    if other is not None:
        plain = trial.replies["plain"].status
        yield Found(f"{plain} with a Content-Length, {_said(other)} without", _ROUTE)


def content_type(trial: ServingTrial) -> Iterator[Found]:
    plain = trial.replies.get("plain")
    if plain is not None and plain.works and plain.body and "content-type" not in plain.headers:
        yield Found("the reply has no Content-Type", _ROUTE)


def parameters(trial: ServingTrial) -> Iterator[Found]:
    reply = trial.replies.get("parameters")
    if reply is None or reply.status != 200:
        return  # the route may be absent
    where = "GET /execution-parameters"
    try:
        found = json.loads(reply.body)
        assert isinstance(found, dict)
    except (ValueError, AssertionError):
        yield Found("the reply is not a JSON object", where)
        return
    for name in _NUMBERS:
        if name in found and (not isinstance(found[name], int) or isinstance(found[name], bool)):
            yield Found(f"{name} is {found[name]!r}, not a whole number", where)
            return
    strategy = found.get("BatchStrategy", "MULTI_RECORD")
    if strategy not in _STRATEGIES:
        yield Found(f"BatchStrategy is {strategy!r}", where)
    limit = http.TRANSFORM_PRODUCT.value
    product = found.get(_NUMBERS[0], 1) * found.get(_NUMBERS[1], 1)
    if product > limit:
        yield Found(f"{' x '.join(_NUMBERS)} is {product}, over {limit}", where)


RULES: tuple[Rule[ServingTrial], ...] = (
    Rule(
        "SRV007",
        Severity.ERROR,
        "A charset makes the media type unknown",
        "In a pipeline and from many clients the type comes as `text/csv; charset=utf-8`.",
        'Compare what stands before the ";": content_type.partition(";")[0].strip()',
        charset,
    ),
    Rule(
        "SRV008",
        Severity.ERROR,
        "A body of 6 MB is refused",
        "Real-time endpoints pass on bodies of 25 MB, batch transform of 100 MB; the caller gets "
        "ModelError 424.",
        "Raise the limit: client_max_body_size 100m in nginx, MAX_CONTENT_LENGTH in Flask",
        refuses_large,
    ),
    Rule(
        "SRV009",
        Severity.WARNING,
        "A body of 24 MiB is refused",
        "Real-time endpoints pass on bodies of up to 25 MB.",
        "Raise the server's limit to 25 MB, or document yours to your callers",
        refuses_largest,
    ),
    Rule(
        "SRV010",
        Severity.WARNING,
        "A body that is too large cuts the connection",
        "The caller sees an error of the network and tries again; 413 would say what is wrong.",
        "Answer 413 and read on, or close after a pause",
        too_large,
    ),
    Rule(
        "SRV011",
        Severity.WARNING,
        "An unknown media type is an error of the server",
        "5xx counts as a failing model, is tried again, and raises alarms; 415 names the cause.",
        "Answer 415 to a Content-Type that you don't know",
        unknown_type,
    ),
    Rule(
        "SRV012",
        Severity.WARNING,
        "A chunked body is not understood",
        "Batch transform with MaxPayloadInMB=0 sends bodies of no stated length.",
        "Read the body to its end without Content-Length; set wsgi.input_terminated's server",
        chunked,
    ),
    Rule(
        "SRV013",
        Severity.WARNING,
        "Replies carry no Content-Type",
        "Data capture keeps such replies as base64; the next container of a pipeline gets no type.",
        "Set Content-Type on every reply",
        content_type,
    ),
    Rule(
        "SRV014",
        Severity.ERROR,
        "/execution-parameters makes no sense",
        "Batch transform takes its defaults from there, and fails on text where a number belongs.",
        '{"MaxConcurrentTransforms": 4, "BatchStrategy": "MULTI_RECORD", "MaxPayloadInMB": 6}',
        parameters,
    ),
    Rule(
        "SRV020",
        Severity.ERROR,
        "There is no POST /invocations",
        "Every call of the endpoint goes there.",
        "Route POST /invocations to the model",
        route,
    ),
    Rule(
        "SRV021",
        Severity.ERROR,
        "The given payload is refused",
        "The caller gets ModelError 424 with this status inside.",
        "Check --payload and --content-type against what the model takes",
        payload,
    ),
)
