"""Rules about an endpoint's container: whether it starts, is healthy, and stops."""

from __future__ import annotations

from collections.abc import Iterator

from sagemaker_byoc.contract import http
from sagemaker_byoc.contract.variables import BIND_TO_PORT
from sagemaker_byoc.images.check.findings import Found, Rule, Severity
from sagemaker_byoc.images.check.rules import exit_reasons, serving_requests
from sagemaker_byoc.images.check.rules.exit_reasons import Cause
from sagemaker_byoc.images.check.rules.training import CANNOT_RUN, last_line, one_line
from sagemaker_byoc.images.check.trials.serving import HELD, OTHER_PORT, ServingTrial

_OLD_STARTUP = 240
_PORT = http.PORT.value
_ANYWHERE = frozenset({f"0.0.0.0:{_PORT}", f"[::]:{_PORT}"})


def starts(trial: ServingTrial) -> Iterator[Found]:
    cause = _cause(trial)
    if trial.refused:
        yield Found(one_line(trial.refused), "docker run IMAGE serve")
    elif cause is not None:
        if not cause.starts:
            what = f"exit code {trial.exit_code}: {cause.what}"
            yield Found(what, "docker run IMAGE serve", cause.fix)
    elif trial.exit_code is not None and (trial.with_model or _ends_anyway(trial)):
        what = f"it ended with exit code {trial.exit_code} before /ping was 200"
        yield Found(what + last_line(trial.log), "docker run IMAGE serve")


def _ends_anyway(trial: ServingTrial) -> bool:
    """Return whether no model would change that it ended; one that waits for none ends with 0."""
    returned = trial.exit_code == 0 and "model" not in trial.log.lower()
    return returned or trial.exit_code in CANNOT_RUN


def complete(trial: ServingTrial) -> Iterator[Found]:
    cause = _cause(trial)
    if cause is not None and cause.starts:
        how = _said(trial) if trial.exit_code is None else f"exit code {trial.exit_code}"
        yield Found(f"{how}: {cause.what}", "docker run IMAGE serve", cause.fix)


def _cause(trial: ServingTrial) -> Cause | None:
    """Return why a server is not healthy, if it would not be with any model."""
    if trial.refused or trial.healthy_after is not None:
        return None
    return exit_reasons.of(trial.log, trial.exit_code)


def healthy(trial: ServingTrial) -> Iterator[Found]:
    waits = trial.healthy_after is None and not _ended(trial)
    if (trial.with_model or _is_no_route(trial)) and waits and _cause(trial) is None:
        yield Found(_said(trial) + last_line(trial.log), "GET /ping")


def _is_no_route(trial: ServingTrial) -> bool:
    """Tell whether /ping has an answer that no model would change."""
    return 200 < trial.last_ping < 400 or trial.last_ping in {401, 403, 404, 405}


def without_model(trial: ServingTrial) -> Iterator[Found]:
    if trial.with_model or _is_no_route(trial) or trial.healthy_after is not None or trial.refused:
        return
    if _cause(trial) is not None:
        return
    if trial.exit_code is None:
        yield Found(_said(trial) + last_line(trial.log), "GET /ping")
    elif not _ends_anyway(trial):
        yield Found(f"it ended with exit code {trial.exit_code}{last_line(trial.log)}", "serve")


def _ended(trial: ServingTrial) -> bool:
    return bool(trial.refused) or trial.exit_code is not None


def _said(trial: ServingTrial) -> str:
    return f"/ping answers {trial.last_ping}" if trial.last_ping else "/ping has no answer"


def place(trial: ServingTrial) -> Iterator[Found]:
    if trial.healthy_after is None and trial.listens and not _ANYWHERE & set(trial.listens):
        yield Found(f"it listens on {', '.join(trial.listens)}", "listening sockets")


def start_time(trial: ServingTrial) -> Iterator[Found]:
    seconds = trial.healthy_after
    if seconds is not None and seconds > _OLD_STARTUP:
        yield Found(f"healthy after {seconds:.0f} s", "GET /ping")


def ping_is_true(trial: ServingTrial) -> Iterator[Found]:
    if trial.ruined is not None:
        health, invocation = trial.ruined
        if health.works and invocation.status >= 500:
            what = f"damaged model files: /ping 200, /invocations {invocation.status}"
            yield Found(what, "GET /ping")


def ping_is_quick(trial: ServingTrial) -> Iterator[Found]:
    limit = http.PING_TIMEOUT.value
    held = trial.held_ping
    if held is not None and (not held.works or held.seconds > limit):
        said = f"{held.status}" if held.status else held.error
        what = f"with {HELD} requests in hand: {said} after {held.seconds:.1f} s"
        yield Found(what, "GET /ping")
    elif trial.load is not None and (trial.load.failed_pings or trial.load.worst_ping > limit):
        what = f"{trial.load.failed_pings} failed, the slowest took {trial.load.worst_ping:.1f} s"
        yield Found(f"under load: {what}", "GET /ping")


def survives(trial: ServingTrial) -> Iterator[Found]:
    if trial.died is not None:
        cause = exit_reasons.of(trial.log, trial.died)
        why = f": {cause.what}" if cause is not None else last_line(trial.log)
        what = f"it ended with exit code {trial.died} while requests were made{why}"
        yield Found(what, "POST /invocations", cause.fix if cause is not None else "")


def stops(trial: ServingTrial) -> Iterator[Found]:
    stop = trial.stop
    if stop is not None and not stop.is_heeded:
        still = f"it still ran {stop.seconds:.0f} s after SIGTERM"
        none = "process 1 has no handler for SIGTERM"
        yield Found(still if stop.exit_code is None else none, "docker stop")


def drains(trial: ServingTrial) -> Iterator[Found]:
    stop = trial.stop
    if stop is not None and stop.is_heeded and stop.lost:
        yield Found(f"{stop.lost} request(s) under way got no reply", "docker stop")


def stop_code(trial: ServingTrial) -> Iterator[Found]:
    stop = trial.stop
    if stop is not None and stop.is_heeded and stop.exit_code not in {0, 143}:
        yield Found(f"exit code {stop.exit_code} after SIGTERM", "docker stop")


def port_label(trial: ServingTrial) -> Iterator[Found]:
    if trial.other_port is False:
        yield Found(f"{BIND_TO_PORT}={OTHER_PORT}: no /ping there", "label")


def models_label(trial: ServingTrial) -> Iterator[Found]:
    if trial.models is not None and not trial.models.works:
        said = trial.models.status or trial.models.error
        yield Found(f"GET /models answers {said}", "label")


RULES: tuple[Rule[ServingTrial], ...] = (
    Rule(
        "SRV001",
        Severity.ERROR,
        "The container can't be started for serving",
        "SageMaker runs IMAGE serve; the endpoint stays in Creating and then fails.",
        'Write ENTRYPOINT ["program"], or install an executable `serve` on PATH',
        starts,
    ),
    Rule(
        "SRV002",
        Severity.ERROR,
        "/ping is never 200",
        "An instance that is not healthy in time is replaced, again and again; then the endpoint "
        "fails without a word of the cause.",
        "Answer GET /ping on port 8080 with 200 once the model is loaded",
        healthy,
    ),
    Rule(
        "SRV003",
        Severity.ERROR,
        "The server listens elsewhere",
        "SageMaker calls port 8080 of the container from outside: not 127.0.0.1, no other port.",
        "Listen on 0.0.0.0:8080: uvicorn --host 0.0.0.0 --port 8080, gunicorn --bind 0.0.0.0:8080",
        place,
    ),
    Rule(
        "SRV004",
        Severity.WARNING,
        "The start takes long",
        "4 minutes was the limit for long and is 8 minutes now; serverless endpoints have 3.",
        "Set ContainerStartupHealthCheckTimeoutInSeconds in the production variant, or load less",
        start_time,
    ),
    Rule(
        "SRV005",
        Severity.ERROR,
        "/ping is 200 while the model can't answer",
        "SageMaker continues to send requests to an instance that fails every one of them.",
        "Load the model before the first 200, and answer 503 when that fails",
        ping_is_true,
    ),
    Rule(
        "SRV006",
        Severity.WARNING,
        "/ping waits behind invocations",
        "An instance whose /ping often takes over 2 s is replaced in the middle of its work.",
        "Answer /ping on a thread or process that no request can hold; gthread or ASGI workers do",
        ping_is_quick,
    ),
    *serving_requests.RULES,
    Rule(
        "SRV022",
        Severity.WARNING,
        "Without a model the endpoint is not healthy",
        "An image that holds no model of its own can't be tried without one.",
        "byoc check IMAGE --serve --model DIR|model.tar.gz --payload FILE --content-type TYPE",
        without_model,
    ),
    Rule(
        "SRV023",
        Severity.ERROR,
        "The image lacks what the server needs",
        "It would fail with any model: a module, a library, a file or a right is missing.",
        "Install it in the image",
        complete,
    ),
    Rule(
        "SRV024",
        Severity.ERROR,
        "Requests end the server",
        "With it ends every other request, and the instance is replaced.",
        "Answer what can't be served with a 4xx or 5xx status",
        survives,
    ),
    Rule(
        "SRV015",
        Severity.ERROR,
        "SIGTERM does not end the server",
        "Scaling in and updates send SIGTERM, and SIGKILL 30 s later, in the middle of requests.",
        "Exec the server as process 1 (exec form, `exec` in scripts) and handle SIGTERM",
        stops,
    ),
    Rule(
        "SRV016",
        Severity.ERROR,
        "SIGTERM loses requests under way",
        "With every scale-in and update some callers get an error.",
        "Stop accepting, finish what is under way within 30 s, then exit",
        drains,
    ),
    Rule(
        "SRV017",
        Severity.WARNING,
        "SIGTERM ends in an error",
        "Logs and alarms take each scale-in for a crash.",
        "Exit with 0 after a SIGTERM",
        stop_code,
    ),
    Rule(
        "SRV018",
        Severity.ERROR,
        "The label offers accept-bind-to-port, and the server does not keep it",
        "In an inference pipeline each container has a port of its own; this one is never healthy.",
        "Listen on $SAGEMAKER_BIND_TO_PORT where it is set, or remove the label",
        port_label,
    ),
    Rule(
        "SRV019",
        Severity.ERROR,
        "The label offers multi-models, and the server does not keep it",
        "A multi-model endpoint calls /models to load, list and unload models.",
        "Implement the routes of /models, or remove the label",
        models_label,
    ),
)
