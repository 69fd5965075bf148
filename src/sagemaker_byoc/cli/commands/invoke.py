"""`byoc invoke`: send one request to an endpoint of the region, or to a served model."""

from __future__ import annotations

import argparse
import codecs
import http.client
import re
import sys
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from sagemaker_byoc.cli import content_type, target
from sagemaker_byoc.cli.terminal import arguments as types
from sagemaker_byoc.cli.terminal import console
from sagemaker_byoc.contract import http as hosting
from sagemaker_byoc.contract.errors import ByocError, MachineError, RequestError, TimeLimitError
from sagemaker_byoc.contract.facts import Fact

HELP = "Send one request to an endpoint of the region, or to a model that `byoc serve` serves."
_CHUNK = 65_536
_MOST_ERROR = 8_192
_MEMBERS: Mapping[str, tuple[Fact[str] | None, str]] = {
    "ContentType": (None, "content type of the body (default: guessed)"),
    "Accept": (None, "content type of the answer (default: the model's choice)"),
    "CustomAttributes": (hosting.CUSTOM_ATTRIBUTES, "attributes that the model reads"),
    "InferenceId": (hosting.INFERENCE_ID, "id under which data capture records the request"),
    "SessionId": (hosting.SESSION_ID, f"a session's id, or {hosting.NEW_SESSION.value}"),
    "TargetModel": (hosting.TARGET_MODEL, "which model of an image that serves several"),
    "TargetVariant": (hosting.TARGET_VARIANT, "which variant of the endpoint (default: by weight)"),
    "TargetContainerHostname": (hosting.TARGET_CONTAINER, "which container of a model of several"),
}
"""Members of InvokeEndpoint: their header if its name differs, and their help."""
_SERVED = "; ask a model that `byoc serve` serves by its URL"
_NOT_STREAMED = "TargetModel"
"""The member that InvokeEndpointWithResponseStream does not have."""


class ModelError(ByocError):
    """The model answered with an error of its own."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "target",
        metavar="ENDPOINT|URL",
        help="an endpoint's name, or the URL that `byoc serve` printed",
    )
    parser.add_argument(
        "files",
        nargs="*",
        default=[],
        metavar="FILE",
        help="send one request per file; - is stdin (default: stdin)",
    )
    parser.add_argument("--data", metavar="TEXT", help="send this text as the body")
    for member, (_, text) in _MEMBERS.items():
        parser.add_argument(_flag(member), dest=member, metavar="TEXT", help=text)
    parser.add_argument(
        "--stream", action="store_true", help="invoke with a response stream, as the SDKs do"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the answer to this file")
    parser.add_argument(
        "--timeout",
        type=types.seconds(hosting.STREAM_TIMEOUT.value),
        default=hosting.INVOCATION_TIMEOUT.value,
        metavar="SECONDS",
        help="give up after this long without a byte of the answer (default: %(default)s)",
    )
    target.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    if re.fullmatch(r"[\w.-]+:\d+(/.*)?", arguments.target):  # no endpoint's name has a colon
        arguments.target = f"http://{arguments.target}"
    files: list[str | None] = [*arguments.files] or [None]
    if len(files) > 1 and arguments.output is not None:
        raise RequestError(
            f"--output takes one answer, and there are {len(files)} files",
            hint="Send them one by one, or redirect stdout",
        )
    for file in files:
        try:
            _send(arguments, file, ends_line=len(files) > 1)
        except ByocError as error:
            if len(files) > 1:
                error.what = f"{file}: {error.what}"
            raise
    return 0


def _send(arguments: argparse.Namespace, file: str | None, *, ends_line: bool) -> None:
    """Send one request; `ends_line` adds a line end to an answer of text that has none."""
    is_url = "://" in arguments.target
    body = _read_body(arguments, file, hosting.PAYLOAD if is_url else hosting.API_PAYLOAD)
    members = {name: getattr(arguments, name) for name in _MEMBERS if getattr(arguments, name)}
    members.setdefault("ContentType", content_type.guess(file or "", body))
    answer = (_ask_url if is_url else _ask_endpoint)(arguments, members, body)
    kind, last = str(next(answer)), b"\n"
    with _sink(arguments.output, kind) as write:
        for chunk in answer:
            write(chunk)
            last = chunk[-1:] or last
        if ends_line and last != b"\n" and content_type.is_text(kind):
            write(b"\n")


def _flag(member: str) -> str:
    return "--" + "".join(f"-{c.lower()}" if c.isupper() else c for c in member).lstrip("-")


# ── the body ──


def _read_body(arguments: argparse.Namespace, name: str | None, limit: Fact[int]) -> bytes:
    """Read the body. Raise RequestError or OSError."""
    if arguments.data is not None and name is not None:
        raise RequestError("FILE and --data are both a body", hint="Give only one of the two")
    if arguments.data is not None:
        body = arguments.data.encode("utf-8", "surrogateescape")
    elif name in {None, "-"}:
        if name is None and sys.stdin.isatty():
            raise RequestError(
                "there is no body", hint="Name a FILE, give --data TEXT, or pipe it into stdin"
            )
        body = sys.stdin.buffer.read(limit.value + 1)
    else:
        with open(str(name), "rb") as file:
            body = file.read(limit.value + 1)
    if len(body) > limit.value:
        raise RequestError(
            f"the body has more than {limit.value:,} bytes, which SageMaker refuses",
            hint="Send fewer rows at a time, or have the model read them from S3",
        )
    return bytes(body)


# ── an endpoint of the region ──

Answer = Iterator[Any]
"""The content type, then the body as bytes in the pieces that arrive."""


def _ask_endpoint(arguments: argparse.Namespace, members: Mapping[str, str], body: bytes) -> Answer:
    region, name = target.find(arguments, _SERVED), arguments.target
    region.status()
    # An invocation is not repeated: the model may have seen it.
    client = region.client(
        "sagemaker-runtime",
        read_timeout=arguments.timeout,
        retries={"total_max_attempts": 1},
    )
    asked = {"EndpointName": name, "Body": body, **members}
    with _explained(name):
        if not arguments.stream:
            answer = client.invoke_endpoint(**asked)
            _tell(answer)
            yield answer.get("ContentType", content_type.OCTETS)
            yield from answer["Body"].iter_chunks(_CHUNK)
            return
        if _NOT_STREAMED in asked:
            raise RequestError(
                f"a stream has no {_NOT_STREAMED}",
                hint=f"Leave out --stream or {_flag(_NOT_STREAMED)}",
            )
        answer = client.invoke_endpoint_with_response_stream(**asked)
        _tell(answer)
        yield answer.get("ContentType", content_type.OCTETS)
        for event in answer["Body"]:
            if "PayloadPart" in event:
                yield event["PayloadPart"].get("Bytes", b"")


def _tell(answer: Mapping[str, Any]) -> None:
    for name in ("NewSessionId", "ClosedSessionId", "CustomAttributes"):
        if answer.get(name):
            console.detail(f"{name}: {answer[name]}")


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn what a client of AWS raises into errors of ours."""
    with target.explained_imports():
        from botocore.exceptions import ClientError, ReadTimeoutError  # noqa: PLC0415
    try:
        with target.refusals():
            try:
                yield
            except ClientError as error:
                _raise_model_error(name, error)
                raise
    except MachineError as error:
        if isinstance(error.__cause__, ReadTimeoutError):
            raise _late(name) from error
        raise


def _raise_model_error(name: str, error: Any) -> None:
    """Return if it is another error."""
    response = error.response
    code = response.get("Error", {}).get("Code")
    if code == "ModelStreamError":
        raise ModelError(
            f"endpoint {name}: the answer broke off: {response['Error'].get('Message')}",
            hint=f"`byoc logs {name}` shows what the model said",
        ) from error
    if code == "ModelError":
        text = response.get("OriginalMessage") or response["Error"].get("Message", "")
        status = response.get("OriginalStatusCode", 0)
        raise ModelError(
            f"endpoint {name}: the model answered {status}: {text.strip()}"
            f" (log: {response.get('LogStreamArn', 'none')})",
            hint=f"`byoc logs {name}` shows what the model said",
        ) from error


def _late(name: str) -> TimeLimitError:
    return TimeLimitError(f"{name} did not answer in time", hint="Give it more with --timeout")


# ── a URL ──


def _ask_url(arguments: argparse.Namespace, members: Mapping[str, str], body: bytes) -> Answer:
    """POST to /invocations, or to the path that the URL has."""
    url = _parsed(arguments.target)
    headers = {
        fact.value if fact is not None else _flag(member).strip("-").title(): members[member]
        for member, (fact, _) in _MEMBERS.items()
        if member in members
    }
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    connection = kind(url.hostname or "", url.port, timeout=arguments.timeout)
    try:
        connection.request("POST", _path(url), body, headers)
        response = connection.getresponse()
        if response.status >= 300:
            text = response.read(_MOST_ERROR).decode("utf-8", "replace").strip()
            raise ModelError(
                f"{arguments.target} answered {response.status}: {text or response.reason}",
                hint="Look at the log of the server, where `byoc serve` runs",
            )
        yield response.headers.get("Content-Type", content_type.OCTETS)
        while chunk := response.read1(_CHUNK):
            yield chunk
    except TimeoutError as error:
        raise _late(arguments.target) from error
    except ValueError as error:  # of http.client, for a header
        raise RequestError(
            f"the request can't be written: {error}", hint="Use Latin-1 text without line breaks"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise MachineError(
            f"no whole answer from {arguments.target}: {str(error) or type(error).__name__}",
            hint="Is it running? `byoc serve` prints its URL",
        ) from error
    finally:
        connection.close()


def _parsed(text: str) -> urllib.parse.SplitResult:
    with suppress(ValueError):
        url = urllib.parse.urlsplit(text)
        if url.scheme in {"http", "https"} and url.hostname and url.port != 0:
            return url
    raise RequestError(f"{text!r} is not an http URL", hint="Write http://HOST:PORT")


def _path(url: urllib.parse.SplitResult) -> str:
    path = hosting.INVOCATIONS.value if url.path in {"", "/"} else url.path
    return f"{path}?{url.query}" if url.query else path


# ── the answer ──


@contextmanager
def _sink(output: Path | None, kind: str) -> Iterator[Any]:
    """Yield what writes a piece of the answer: bytes as they are, or text on a terminal."""
    if output is not None:
        with open(output, "wb") as file:
            yield file.write
    elif not sys.stdout.isatty():
        yield lambda data: _write(sys.stdout.buffer, data)
    elif not content_type.is_text(kind):
        raise RequestError(
            f"the answer is {kind}, which a terminal can't show",
            hint="Write it to a file with --output FILE, or pipe it on",
        )
    else:
        text = codecs.getincrementaldecoder("utf-8")("replace")
        last = "\n"

        def show(data: bytes) -> None:
            nonlocal last
            shown = console.clean(text.decode(data))
            last = shown[-1:] or last
            sys.stdout.write(shown)
            sys.stdout.flush()

        yield show
        if last != "\n":
            sys.stdout.write("\n")


def _write(file: BinaryIO, data: bytes) -> None:
    file.write(data)
    file.flush()
