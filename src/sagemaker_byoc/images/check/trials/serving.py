"""An endpoint's container under the platform's own demands, and a few that customers make."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from sagemaker_byoc.contract import gpu, http, lifecycle
from sagemaker_byoc.contract.archives import unpack
from sagemaker_byoc.contract.variables import BIND_TO_PORT, MULTI_MODEL
from sagemaker_byoc.images import scratch
from sagemaker_byoc.images.check.trials import traffic
from sagemaker_byoc.images.check.trials.container import (
    Container,
    Content,
    Deadline,
    Trials,
    container,
)
from sagemaker_byoc.images.check.trials.traffic import (
    ENOUGH,
    Reply,
    announce,
    held,
    listening,
    ping,
    send,
)

OTHER_PORT = 9123
HEALTHY = 200
"""The only status of /ping that SageMaker takes: your-algorithms-inference-algo-ping-requests."""
HELD = 16
"""Requests in hand at once: more than any sensible number of synchronous workers on two cores."""
_HELD_PINGS = 3
LARGE = 6_000_000
LARGEST = 24 * 2**20
"""Bytes, just below what a real-time endpoint passes on (contract.http.PAYLOAD)."""
_TOO_LARGE = 200 * 2**20
HELD_BOUND = _HELD_PINGS * 2 * http.PING_TIMEOUT.value + ENOUGH
_LONGEST = float(http.INVOCATION_TIMEOUT.value)
_REQUESTS = 2 * _LONGEST
"""Seconds for all probes together: as long as SageMaker waits for the first, and for the rest."""
_PROBES = 8
_SLOWER = 3.0
_SHORTEST = 5.0
_ANNOUNCED = 20.0
_LIST = 10.0
_NOTICED = 3.0
"""Seconds after the requests in which an engine notices that they have ended the server."""
_PAUSE, _LONGEST_PAUSE = 0.1, 1.0
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
    """What was seen; None or empty if a probe was not made."""

    refused: str = ""
    exit_code: int | None = None
    """How the container ended, if that was before it was healthy."""
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
    died: int | None = None
    """Exit code of a healthy server that ended while requests were made; without `stop` then."""
    stop: traffic.Stop | None = None
    ruined: tuple[Reply, Reply] | None = None
    """Replies to /ping and /invocations with every model file overwritten."""
    other_port: bool | None = None
    models: Reply | None = None


@dataclass(frozen=True, slots=True)
class _Started:
    """A container, and how its start went; `port` is None if nothing answers there."""

    server: Container
    model: Path | None
    port: int | None
    seen: ServingTrial


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the server takes best, and its replies."""

    kind: str = _GUESSES[0][0]
    payload: bytes = _GUESSES[0][1]
    replies: Mapping[str, Reply] = field(default_factory=dict)

    @property
    def has_answer(self) -> bool:
        return "plain" in self.replies and self.replies["plain"].status != 0

    @property
    def works(self) -> bool:
        return "plain" in self.replies and self.replies["plain"].works


def run(plan: ServingPlan, trials: Trials) -> ServingTrial | None:
    """Run all trials, one after the other; return None if not even the start could be judged."""
    with ExitStack() as stack:
        started = trials.tried(
            "an endpoint, until its /ping is 200", plan.seconds, lambda: _start(stack, plan)
        )
        if started is None:
            return None
        if started.port is None or started.seen.healthy_after is None:
            return started.seen
        asked, seen = _use(plan, trials, started.server, started.port, started.seen)
        started.server.remove()
        return _start_again(plan, trials, started.model, asked, seen)


def _use(
    plan: ServingPlan, trials: Trials, server: Container, port: int, seen: ServingTrial
) -> tuple[_Asked, ServingTrial]:
    """Ask, load and stop a healthy server."""
    tried = trials.tried
    asked = tried("requests of many kinds", _REQUESTS, lambda: _requests(plan, server, port))
    asked = asked or _Asked()
    headers, payload = {"Content-Type": asked.kind}, asked.payload
    seen = replace(seen, replies=asked.replies)
    noticed_by = time.monotonic() + _NOTICED
    if asked.has_answer and _ended(trials, server, asked, noticed_by) is None:
        held_ping = tried(
            f"/ping while {HELD} requests are in hand",
            HELD_BOUND,
            lambda: _held_ping(port, headers, payload),
        )
        seen = replace(seen, held_ping=held_ping)
    if asked.has_answer and _ended(trials, server, asked, noticed_by) is None:
        load = tried(
            "/ping under load", traffic.LOAD_BOUND, lambda: traffic.run(port, headers, payload)
        )
        seen = replace(seen, load=load)
    died = _ended(trials, server, asked, noticed_by)
    if died is not None:
        return asked, replace(seen, died=died, held_ping=None, load=None, log=server.log())
    if asked.replies and len(asked.replies) < _PROBES:
        trials.notes.append(
            f"requests of all kinds: of {_PROBES} there was time for {len(asked.replies)}"
        )
    stop = tried(
        "SIGTERM under load" if asked.has_answer else "SIGTERM",
        traffic.STOP_BOUND,
        lambda: traffic.stop(
            server, port, headers, payload if asked.has_answer else None, traffic.margin(seen.load)
        ),
    )
    return asked, replace(seen, stop=stop, log=server.log())


def _ended(trials: Trials, server: Container, asked: _Asked, noticed_by: float) -> int | None:
    """Return the exit code of a server that requests have ended.

    An engine takes a moment to notice, so if a request got no reply the end is waited for, but not
    beyond `noticed_by`.
    """
    if not trials.has_engine:
        return None
    is_silent = any(not reply.status for reply in asked.replies.values())
    left = noticed_by - time.monotonic()
    return trials.kept(
        "whether the server still runs",
        lambda: server.wait(left) if is_silent and left > 0 else server.exit_code(),
    )


def _start_again(
    plan: ServingPlan, trials: Trials, model: Path | None, asked: _Asked, seen: ServingTrial
) -> ServingTrial:
    """Run each with its own container, which gets a multiple of the first one's time."""
    assert seen.healthy_after is not None
    timeout = min(plan.seconds, 3 * seen.healthy_after + 10)
    if model is not None and plan.payload is not None and asked.works:
        found = trials.tried(
            "an endpoint whose model files are damaged",
            timeout + http.INVOCATION_TIMEOUT.value,
            lambda: _ruined(plan, model, timeout),
        )
        seen = replace(seen, ruined=found)
    if plan.labels.get(gpu.CAPABILITY_PORT.value) == "true":
        other = trials.tried(
            f"an endpoint on port {OTHER_PORT}, as the image's label offers",
            timeout,
            lambda: _on_other_port(plan, model, timeout),
        )
        seen = replace(seen, other_port=other)
    if plan.labels.get(gpu.CAPABILITY_MODELS.value) == "true":
        models = trials.tried(
            "an endpoint of several models, as the image's label offers",
            timeout + _LIST,
            lambda: _several_models(plan, timeout),
        )
        seen = replace(seen, models=models)
    return seen


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


def _start(stack: ExitStack, plan: ServingPlan) -> _Started:
    """Start a server; its model folder and its container last as long as the stack."""
    model = _unpacked(plan, stack.enter_context(scratch.scratch()) / "model")
    server = stack.enter_context(_server(plan, model))
    seen = ServingTrial(with_payload=plan.payload is not None, with_model=plan.model is not None)
    refused = server.start()
    if refused:
        return _Started(server, model, None, replace(seen, refused=refused))
    begun = time.monotonic()
    first = _healthy(server, http.PORT.value, plan.seconds)
    seconds = time.monotonic() - begun
    if first.status == HEALTHY:
        return _Started(
            server,
            model,
            server.port(http.PORT.value),
            replace(seen, ping=first, healthy_after=seconds),
        )
    tables = server.read_proc("net/tcp") + server.read_proc("net/tcp6")
    code = server.exit_code()
    return _Started(
        server,
        model,
        None,
        replace(
            seen,
            exit_code=code,
            last_ping=first.status,
            listens=tuple(listening(tables)),
            log=server.log(),
        ),
    )


def _healthy(server: Container, inside: int, seconds: float) -> Reply:
    """Return the first good /ping, or the last bad one; a container that has ended has no port.

    Each look costs two runs of the docker client, so that the longer it takes the fewer they are.
    """
    begun, deadline = time.monotonic(), Deadline(seconds)
    while True:
        port = server.port(inside)
        reply = Reply(0, 0.0) if port is None else ping(port, http.PING_TIMEOUT.value)
        if reply.status == HEALTHY or server.exit_code() is not None or not deadline.left:
            return reply
        pause = min(_LONGEST_PAUSE, max(_PAUSE, (time.monotonic() - begun) / 10))
        time.sleep(min(pause, deadline.left))


def _held_ping(port: int, headers: Mapping[str, str], payload: bytes) -> Reply:
    """Return the first /ping that fails or is late; the last of a few if none is.

    One alone may overtake the requests in hand on its way through the engine's proxy.
    """
    with held(port, http.INVOCATIONS.value, headers, payload, HELD):
        for _ in range(_HELD_PINGS - 1):
            reply = ping(port, 2 * http.PING_TIMEOUT.value)
            if not reply.works or reply.seconds > http.PING_TIMEOUT.value:
                return reply
        return ping(port, 2 * http.PING_TIMEOUT.value)


def _requests(plan: ServingPlan, server: Container, port: int) -> _Asked:
    """Make every probe for which there is time, until the server ends."""
    deadline = Deadline(_REQUESTS)
    kind, payload, plain = _plain(plan, port)
    replies = {"plain": plain}
    if plain.status == 0:
        return _Asked(kind, payload, replies)
    for name, probe in _probes(port, kind, payload).items():
        # A probe that is cut short would be taken for one that the server does not answer.
        if deadline.left < max(_SHORTEST, _SLOWER * plain.seconds):
            break
        reply = probe(deadline.left)
        if not reply.status and server.exit_code() is not None:
            break
        if reply.status or deadline.left:
            replies[name] = reply
    return _Asked(kind, payload, replies)


def _plain(plan: ServingPlan, port: int) -> tuple[str, bytes, Reply]:
    """Return the media type and payload that the server takes best, and the reply."""
    guesses = [(plan.content_type, plan.payload)] if plan.payload is not None else [*_GUESSES]
    plain = Reply(0, 0.0)
    kind, payload = _GUESSES[0]
    for guess, data in guesses:
        reply = _post(port, guess, data)
        if plain.status == 0 or reply.works:
            plain, kind, payload = reply, guess, data
        if reply.works or not reply.status:
            break
    return kind, payload, plain


def _probes(port: int, kind: str, payload: bytes) -> dict[str, Callable[[float], Reply]]:
    """Return probes by the names that the rules know; each gets the seconds it may take."""
    raw, path = "application/octet-stream", http.INVOCATIONS.value
    large, largest = b"0" * LARGE, b"0" * LARGEST
    headers, parameters = {"Content-Type": raw}, http.EXECUTION_PARAMETERS.value
    return {
        "charset": lambda left: _post(port, f"{kind}; charset=utf-8", payload, left),
        "unknown": lambda left: _post(port, "application/x-byoc-unknown", payload, left),
        "chunked": lambda left: _post(port, kind, payload, left, chunked=True),
        "large": lambda left: _post(port, raw, large, left),
        "largest": lambda left: _post(port, raw, largest, left),
        "too large": lambda left: announce(
            port, path, headers, _TOO_LARGE, LARGEST, min(left, _ANNOUNCED)
        ),
        "parameters": lambda left: send(port, "GET", parameters, timeout=min(left, 10.0)),
    }


def _post(
    port: int, kind: str, body: bytes | None, left: float = _LONGEST, *, chunked: bool = False
) -> Reply:
    headers = {"Content-Type": kind, http.CUSTOM_ATTRIBUTES.value: "byoc-check"}
    path, timeout = http.INVOCATIONS.value, min(left, _LONGEST)
    return send(port, "POST", path, body=body, headers=headers, chunked=chunked, timeout=timeout)


def _ruined(plan: ServingPlan, model: Path, timeout: float) -> tuple[Reply, Reply] | None:
    with scratch.scratch() as folder:
        copy = folder / "model"
        shutil.copytree(model, copy)
        for file in copy.rglob("*"):
            if file.is_file() and file.suffix not in _KEPT:
                file.write_bytes(b"damaged by byoc check")
        with _server(plan, copy) as server:
            if server.start():
                return None
            health = _healthy(server, http.PORT.value, timeout)
            port = server.port(http.PORT.value)
            if health.status != HEALTHY or port is None:
                return health, Reply(0, 0.0)
            return health, _post(port, plan.content_type, plan.payload)


def _on_other_port(plan: ServingPlan, model: Path | None, timeout: float) -> bool:
    variables = {BIND_TO_PORT: str(OTHER_PORT)}
    with _server(plan, model, OTHER_PORT, variables) as server:
        return not server.start() and _healthy(server, OTHER_PORT, timeout).status == HEALTHY


def _several_models(plan: ServingPlan, timeout: float) -> Reply:
    with _server(plan, None, environment={MULTI_MODEL: "true"}) as server:
        refused = server.start()
        if refused:
            return Reply(0, 0.0, error=refused)
        health = _healthy(server, http.PORT.value, timeout)
        port = server.port(http.PORT.value)
        return health if port is None else send(port, "GET", "/models", timeout=_LIST)
