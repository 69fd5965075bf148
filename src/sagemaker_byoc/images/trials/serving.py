"""An endpoint's container under the platform's own demands, and a few that customers make."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from sagemaker_byoc.contract import accelerators, http, lifecycle, serving
from sagemaker_byoc.contract.archives import unpack
from sagemaker_byoc.images.trials import traffic
from sagemaker_byoc.images.trials.container import Container, Content, container
from sagemaker_byoc.images.trials.http import Reply, announce, held, listening, ping, send

OTHER_PORT = 9123
HELD = 16
"""Requests in hand at once: more than any sensible number of synchronous workers on two cores."""
_HELD_PINGS = 3
LARGE = 6_000_000
LARGEST = 24 * 2**20
"""Bytes, just below what a real-time endpoint passes on (contract.http.PAYLOAD)."""
_TOO_LARGE = 200 * 2**20
_PAUSE = 0.1
_GUESSES = (("application/json", b"{}"), ("text/csv", b"0\n"))
_KEPT = frozenset({".py", ".txt", ".toml", ".cfg"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingPlan:
    """What the trial may use; `seconds` bounds the start."""

    image: str
    model: Path | None = None
    """A folder, or a model.tar.gz."""
    payload: bytes | None = None
    content_type: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 240.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingTrial:
    """What was seen; None or empty where a probe was not made."""

    refused: str = ""
    exit_code: int | None = None
    """Where the container ended before it was healthy."""
    healthy_after: float | None = None
    last_ping: int = 0
    listens: tuple[str, ...] = ()
    log: str = ""
    with_payload: bool = False
    with_model: bool = False
    ping: Reply | None = None
    replies: Mapping[str, Reply] = field(default_factory=dict)
    held_ping: Reply | None = None
    load: traffic.Load | None = None
    stop: traffic.Stop | None = None
    ruined: tuple[Reply, Reply] | None = None
    """Of /ping and /invocations with every model file overwritten."""
    other_port: bool | None = None
    models: Reply | None = None


def run(plan: ServingPlan, say: Callable[[str], None]) -> ServingTrial:
    """Raises MachineError without an engine."""
    with tempfile.TemporaryDirectory(prefix="byoc-check-") as folder:
        model = _unpacked(plan, Path(folder, "model"))
        say(f"an endpoint, which has {plan.seconds:.0f} s to become healthy")
        with _server(plan, model) as server:
            trial = _try(plan, server, say)
        if trial.healthy_after is None:
            return trial
        patience = min(plan.seconds, 3 * trial.healthy_after + 10)
        if model is not None and plan.payload is not None and trial.replies["plain"].works:
            say("an endpoint whose model files are damaged")
            trial = replace(trial, ruined=_ruined(plan, model, patience))
        if plan.labels.get(accelerators.CAPABILITY_PORT.value) == "true":
            say(f"an endpoint on port {OTHER_PORT}, as the image's label offers")
            trial = replace(trial, other_port=_on_other_port(plan, model, patience))
        if plan.labels.get(accelerators.CAPABILITY_MODELS.value) == "true":
            say("an endpoint of several models, as the image's label offers")
            trial = replace(trial, models=_several_models(plan, patience))
        return trial


def _unpacked(plan: ServingPlan, folder: Path) -> Path | None:
    if plan.model is None or plan.model.is_dir():
        return plan.model
    folder.mkdir()
    unpack(plan.model, folder)
    return folder


@contextmanager
def _server(
    plan: ServingPlan,
    model: Path | None,
    port: int = http.PORT.value,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Container]:
    options = ["--publish", f"127.0.0.1::{port}"]
    for name, value in {**plan.environment, **(environment or {})}.items():
        options += ["--env", f"{name}={value}"]
    files: dict[str, Content] = (
        {"/opt/ml/model/": b""} if model is None else {"/opt/ml/model": model}
    )
    argument = lifecycle.SERVE_ARGUMENT.value
    with container(plan.image, argument, options=options, files=files) as server:
        yield server


def _try(plan: ServingPlan, server: Container, say: Callable[[str], None]) -> ServingTrial:
    begun = time.monotonic()
    refused = server.start()
    if refused:
        return ServingTrial(refused=refused)
    port = server.port(http.PORT.value)
    first = _healthy(server, port, plan.seconds)
    seconds = time.monotonic() - begun
    if not first.works:
        tables = server.read_proc("/proc/net/tcp") + server.read_proc("/proc/net/tcp6")
        return ServingTrial(
            exit_code=server.exit_code(),
            last_ping=first.status,
            listens=tuple(listening(tables)),
            log=server.log(),
            with_model=plan.model is not None,
        )
    say(f"healthy after {seconds:.1f} s; requests of many kinds")
    kind, payload, replies = _requests(plan, port)
    headers = {"Content-Type": kind}
    say("/ping while requests are in hand, and under load")
    with held(port, http.INVOCATIONS.value, headers, payload, HELD):
        held_ping = _worst_ping(port)
    busy = traffic.run(port, headers, payload)
    say("SIGTERM under load")
    stop = traffic.stop(server, port, headers, payload)
    return ServingTrial(
        healthy_after=seconds,
        log=server.log(),
        with_payload=plan.payload is not None,
        with_model=plan.model is not None,
        ping=first,
        replies=replies,
        held_ping=held_ping,
        load=busy,
        stop=stop,
    )


def _healthy(server: Container, port: int, seconds: float) -> Reply:
    """The first good /ping, or the last bad one."""
    deadline = time.monotonic() + seconds
    while True:
        reply = ping(port, http.PING_TIMEOUT.value)
        if reply.status == 200:
            return reply
        if server.exit_code() is not None or time.monotonic() > deadline:
            return reply
        time.sleep(_PAUSE)


def _worst_ping(port: int) -> Reply:
    """The first /ping that fails or is late; the last of a few if none is.

    One alone may overtake the requests in hand on its way through the engine's proxy.
    """
    for _ in range(_HELD_PINGS - 1):
        reply = ping(port, 2 * http.PING_TIMEOUT.value)
        if not reply.works or reply.seconds > http.PING_TIMEOUT.value:
            return reply
    return ping(port, 2 * http.PING_TIMEOUT.value)


def _requests(plan: ServingPlan, port: int) -> tuple[str, bytes, dict[str, Reply]]:
    """Media type and payload that the server takes best, and the reply to every probe."""
    guesses = [(plan.content_type, plan.payload)] if plan.payload is not None else [*_GUESSES]
    plain = Reply(0, 0.0)
    kind, payload = _GUESSES[0]
    for guess, data in guesses:
        reply = _post(port, guess, data)
        if plain.status == 0 or reply.works:
            plain, kind, payload = reply, guess, data
        if reply.works:
            break
    raw = {"Content-Type": "application/octet-stream"}
    replies = {
        "plain": plain,
        "charset": _post(port, f"{kind}; charset=utf-8", payload),
        "unknown": _post(port, "application/x-byoc-unknown", payload),
        "chunked": _post(port, kind, payload, chunked=True),
        "large": _post(port, raw["Content-Type"], b"0" * LARGE),
        "largest": _post(port, raw["Content-Type"], b"0" * LARGEST),
        "too large": announce(port, http.INVOCATIONS.value, raw, _TOO_LARGE, LARGEST),
        "parameters": send(port, "GET", serving.EXECUTION_PARAMETERS.value),
    }
    return kind, payload, replies


def _post(port: int, kind: str, body: bytes | None, *, chunked: bool = False) -> Reply:
    headers = {"Content-Type": kind, http.CUSTOM_ATTRIBUTES.value: "byoc-check"}
    path, patience = http.INVOCATIONS.value, float(http.INVOCATION_TIMEOUT.value)
    return send(port, "POST", path, body=body, headers=headers, chunked=chunked, patience=patience)


def _ruined(plan: ServingPlan, model: Path, patience: float) -> tuple[Reply, Reply] | None:
    kind, payload = plan.content_type, plan.payload
    with tempfile.TemporaryDirectory(prefix="byoc-check-") as folder:
        copy = Path(folder, "model")
        shutil.copytree(model, copy)
        for file in copy.rglob("*"):
            if file.is_file() and file.suffix not in _KEPT:
                file.write_bytes(b"damaged by byoc check")
        with _server(plan, copy) as server:
            if server.start():
                return None
            port = server.port(http.PORT.value)
            health = _healthy(server, port, patience)
            if not health.works:
                return health, Reply(0, 0.0)
            return health, _post(port, kind, payload)


def _on_other_port(plan: ServingPlan, model: Path | None, patience: float) -> bool:
    variables = {serving.BIND_TO_PORT.value: str(OTHER_PORT)}
    with _server(plan, model, OTHER_PORT, variables) as server:
        return not server.start() and _healthy(server, server.port(OTHER_PORT), patience).works


def _several_models(plan: ServingPlan, patience: float) -> Reply:
    with _server(plan, None, environment={"SAGEMAKER_MULTI_MODEL": "true"}) as server:
        refused = server.start()
        if refused:
            return Reply(0, 0.0, error=refused)
        port = server.port(http.PORT.value)
        _healthy(server, port, patience)
        return send(port, "GET", "/models")
