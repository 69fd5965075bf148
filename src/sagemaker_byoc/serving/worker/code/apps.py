"""The user's applications and response objects of web frameworks: how they are called and read.

A response object of Flask or Starlette is an application that always answers the same, so both are
called in the same way.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import queue
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from sagemaker_byoc.contract import http
from sagemaker_byoc.serving import log, wsgi
from sagemaker_byoc.serving.worker.code import coroutines, guard
from sagemaker_byoc.serving.worker.jobs import exact_bytes
from sagemaker_byoc.serving.wsgi import Reply, Request

NAMES = ("app", "application")
"""Names of the application in the user's file; the second is WSGI's own word."""
FACTORIES = ("create_app", "make_app")
"""Functions that make the application, by the names that `flask run` looks for."""
FRAMEWORKS = frozenset(
    {
        *(("flask", "Flask"), ("quart", "Quart"), ("starlette", "Starlette")),
        *(("bottle", "Bottle"), ("falcon", "App"), ("litestar", "Litestar")),
    }
)
"""Packages and classes of applications that are served under any name."""
SHADOWED = (http.PING.value, http.METRICS.value)
"""Routes that the server answers even if the application has them."""
STARTUP_TIME = 480.0
"""Seconds that the platform gives a container until its first successful ping."""
PING_PAUSE = 0.25
NO_ROUTE = (404, 405)
"""Statuses of an application whose routes are unknown and that has no /ping."""
ROOM = 16
"""Messages of an ASGI application that may wait to be sent."""


class AppError(Exception):
    """The application cannot be served; the message says why."""


@dataclass(slots=True)
class App:
    """An application and how it is called. `model` is passed to it with each request."""

    application: Any
    is_async: bool
    state: dict[str, Any] = field(default_factory=dict)
    """State that an ASGI application's lifespan has left for its requests."""
    _lifespan: Any = None

    def serves(self, method: str, path: str) -> bool | None:
        """Return whether the application has that exact route; None if unknown, as for a
        catch-all."""
        rules = getattr(self.application, "url_map", None)
        if rules is not None:
            return _flask_serves(rules, method, path)
        routes = getattr(self.application, "routes", None)
        if not isinstance(routes, list) or not all(hasattr(route, "matches") for route in routes):
            return None
        return _starlette_serves(routes, method, path)

    def begin(self, request: Request, body: bytes, model: object) -> Reply:
        """Return its reply as soon as it begins; raise what the application raises before that."""
        if self.is_async:
            scope = {**_scope_of(request), "state": dict(self.state), "byoc.model": model}
            return _Exchange(self.application, scope, body).reply()
        environ = wsgi.environ_of(request, body)
        environ["byoc.model"] = model
        return wsgi.begin(self.application, environ)

    def start(self) -> None:
        """Run the startup of an ASGI application; the others have none."""
        if self.is_async:
            self._lifespan = _Lifespan(self.application, self.state)
            coroutines.run(self._lifespan.start())

    def wait_for_ping(self) -> None:
        """Request its own /ping, which may load the model, until it answers 200."""
        if self.serves("GET", http.PING.value) is False:
            return
        until, said = time.monotonic() + STARTUP_TIME, (0, "")
        good = {200} if self.serves("GET", http.PING.value) else {200, *NO_ROUTE}
        while (found := self._ping())[0] not in good:
            status, failure = found
            told = status, "" if failure is None else failure.place
            if told != said:
                said = told
                if failure is not None:
                    log.say(failure.explained)
                log.say(f"app: its /ping answers {status}; it is asked again until it answers 200")
            if time.monotonic() > until:
                raise AppError(f"its /ping answers {status} after {STARTUP_TIME:g} s")
            time.sleep(PING_PAUSE)

    def _ping(self) -> tuple[int, guard.Failure | None]:
        statuses = [500]

        def ask() -> None:
            reply = self.begin(plain_request("GET", http.PING.value), b"", None)
            for _ in reply.pieces:
                pass  # what is left of it
            statuses.append(reply.status)

        failure = guard.attempt(ask)
        return statuses[-1], failure


def plain_request(method: str, path: str, content_type: str = "") -> Request:
    """Return a request for an answer that does not depend on HTTP."""
    headers = [("content-type", content_type)] if content_type else []
    return Request(
        method=method,
        path=path,
        query_string="",
        scheme="http",
        http_version="1.1",
        server=("127.0.0.1", http.PORT.value),
        headers=headers,
    )


# ── which objects are applications ──


def find(module: ModuleType, *, may_make: bool = False) -> App | None:
    """Return the module's application: Flask's (or a Blueprint), FastAPI's, Starlette's, any of
    WSGI or ASGI.

    `may_make`: the file has nothing else to serve. Without an application of the usual name, use
    the only one of a known framework, or call the function that makes it if it needs no argument.
    """
    named = [getattr(module, name, None) for name in NAMES]
    app = next((each for each in named if not isinstance(each, ModuleType | None)), None)
    if app is None and may_make:
        app = _only(module)
    if app is None and may_make:
        app = _made(module)
    if app is None:
        return None
    app = _mounted(app, module)
    problem = _problem(app)
    if problem and may_make:
        raise AppError(problem)
    if problem:
        log.say(f"handlers: app is ignored: {problem}")
        return None
    return App(app, is_async=_is_async(app))


def _only(module: ModuleType) -> Any:
    """Return the application with any name, if the file has only one."""
    found = {id(value): value for value in vars(module).values() if _is_framework(value)}
    return next(iter(found.values())) if len(found) == 1 else None


def _is_framework(value: object) -> bool:
    kinds = {(kind.__module__.partition(".")[0], kind.__name__) for kind in type(value).__mro__}
    return not kinds.isdisjoint(FRAMEWORKS)


def _mounted(app: Any, module: ModuleType) -> Any:
    """Return an application that has the routes of a Blueprint or an APIRouter."""
    flask, fastapi = sys.modules.get("flask"), sys.modules.get("fastapi")
    if flask is not None and isinstance(app, flask.Blueprint):
        whole = flask.Flask(module.__name__)
        whole.register_blueprint(app)
        return whole
    if fastapi is not None and isinstance(app, fastapi.APIRouter):
        whole = fastapi.FastAPI()
        whole.include_router(app)
        return whole
    return app


def _problem(app: Any) -> str:
    """Return why the application cannot be served, or an empty string."""
    package, name = type(app).__module__.partition(".")[0], type(app).__name__
    kind = name if package == "builtins" else f"{package}'s {name}"
    if not callable(app):
        return f"it is {kind}: give a WSGI or ASGI application"
    if _is_async(app):
        return ""
    try:
        inspect.signature(app, follow_wrapped=False).bind(None, None)
    except ValueError:
        return ""  # something built in, which has no signature
    except TypeError as error:
        return f"it is {kind}, neither WSGI nor ASGI: called with two arguments, {error}"
    return ""


def _made(module: ModuleType) -> Any:
    for name in FACTORIES:
        factory = getattr(module, name, None)
        if inspect.isroutine(factory):
            try:
                inspect.signature(factory).bind()
            except TypeError:
                continue  # it needs arguments
            return factory()
    return None


def _is_async(app: Any) -> bool:
    """Return whether the application is ASGI: its call is a coroutine function or, in ASGI's first
    version, takes the scope alone."""
    if inspect.isclass(app):
        return False
    called = app if inspect.isroutine(app) else type(app).__call__
    if inspect.iscoroutinefunction(inspect.unwrap(called)):
        return True
    try:
        names = list(inspect.signature(app).parameters)
    except (TypeError, ValueError):
        return False
    return names[:3] == ["scope", "receive", "send"]


def response_of(value: object) -> App | None:
    """Return a response object as an application; None for any other value."""
    for module, is_async in (("werkzeug.wrappers", False), ("starlette.responses", True)):
        found = getattr(sys.modules.get(module), "Response", None)
        if found is not None and guard.isinstance_of(value, found):
            return App(value, is_async=is_async)
    return None


def _flask_serves(rules: Any, method: str, path: str) -> bool | None:
    from werkzeug.exceptions import HTTPException  # noqa: PLC0415 - the user's file imported it
    from werkzeug.routing import RequestRedirect  # noqa: PLC0415

    try:
        rule, _ = rules.bind("localhost").match(path, method=method, return_rule=True)
    except RequestRedirect:
        return True
    except HTTPException:
        return False
    return None if rule.arguments - set(rule.defaults or ()) else True


def _starlette_serves(routes: list[Any], method: str, path: str) -> bool | None:
    scope = {"type": "http", "method": method, "path": path, "root_path": "", "headers": []}
    for route in routes:
        match, child = route.matches(dict(scope))
        if match.name == "FULL":
            is_sure = not child.get("path_params") and not hasattr(route, "routes")
            return True if is_sure else None
    return False


# ── ASGI ──


def _scope_of(request: Request) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": request.http_version,
        "method": request.method,
        "scheme": request.scheme,
        "path": request.path,
        "raw_path": request.path.encode(),
        "query_string": request.query_string.encode("latin-1"),
        "root_path": "",
        "headers": [(k.encode("latin-1"), v.encode("latin-1")) for k, v in request.headers],
        "server": request.server,
        "client": None,
        "extensions": {},
    }


class _Exchange:
    """One request. The application runs on the loop's thread; another thread reads its messages."""

    def __init__(self, app: Any, scope: dict[str, Any], body: bytes) -> None:
        self._app = app
        self._scope = scope
        self._body: bytes | None = body
        self._messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._room = asyncio.Semaphore(ROOM)
        self._over = asyncio.Event()
        self._is_answered = False

    def reply(self) -> Reply:
        guard.check()  # a copy of the process has no loop that runs
        self._task = asyncio.run_coroutine_threadsafe(self._run(), coroutines.loop())
        pieces = self._pieces()
        next(pieces)  # so that `close` ends the application
        with contextlib.ExitStack() as failed:
            failed.callback(pieces.close)
            start = self._next("http.response.start")
            status, headers = int(start["status"]), list(start.get("headers", ()))
            headers = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in headers]
            is_whole = "content-length" in {name.lower() for name, _ in headers}
            failed.pop_all()
        return Reply(status, headers, pieces, is_whole)

    def _pieces(self) -> Generator[bytes]:
        """Yield nothing at first, then the body."""
        more = True
        try:
            yield b""
            while more:
                message = self._next("http.response.body")
                yield exact_bytes(message.get("body", b""))
                more = message.get("more_body", False)
        finally:
            coroutines.loop().call_soon_threadsafe(self._over.set)
            if not self._is_answered:
                self._task.cancel()

    def _next(self, kind: str) -> Any:
        """Return the application's next message. Raise what it raised, or an error if it sent
        something else."""
        message = self._messages.get()
        coroutines.loop().call_soon_threadsafe(self._room.release)
        if isinstance(message, BaseException):
            raise message
        if message is None:
            raise RuntimeError(f"the application ended before it sent {kind}")
        if message["type"] != kind:
            raise RuntimeError(f"the application sent {str(message['type'])[:100]}, not {kind}")
        return message

    async def _run(self) -> None:
        try:
            _, error = await guard.outcome_of(
                lambda: self._app(self._scope, self._receive, self._send)
            )
        except asyncio.CancelledError:
            self._messages.put(None)
            raise
        if error is not None and self._is_answered:
            log.say(f"raised after the answer: {guard.failure_of(error).explained}")
        self._messages.put(error)

    async def _receive(self) -> dict[str, Any]:
        body, self._body = self._body, None
        if body is not None:
            return {"type": "http.request", "body": body, "more_body": False}
        await self._over.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        if self._over.is_set():  # nobody receives it; other tasks run, even if it never ends
            await asyncio.sleep(0)
            return
        await self._room.acquire()
        is_body = message["type"] == "http.response.body"
        self._is_answered |= is_body and not message.get("more_body", False)
        self._messages.put(message)


class _Lifespan:
    """Startup of an ASGI application; its shutdown is the end of the process."""

    def __init__(self, app: Any, state: dict[str, Any]) -> None:
        self._app = app
        self._scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": state}
        self._is_asked = False

    async def start(self) -> None:
        self._outcome: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._run())
        # It waits until the process ends, which is not worth asyncio's warning.
        self._task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001
        problem = await self._outcome
        if problem is not None:
            raise AppError(f"its startup failed: {problem}")

    async def _run(self) -> None:
        _, error = await guard.outcome_of(lambda: self._app(self._scope, self._receive, self._send))
        if error is not None and self._is_asked and not self._outcome.done():
            log.say(guard.failure_of(error).explained)  # as specified: it has no lifespan
        if not self._outcome.done():
            self._outcome.set_result(None)

    async def _receive(self) -> dict[str, Any]:
        if not self._is_asked:
            self._is_asked = True
            return {"type": "lifespan.startup"}
        await asyncio.Event().wait()
        raise AssertionError

    async def _send(self, message: dict[str, Any]) -> None:
        if self._outcome.done():
            return
        if message["type"] == "lifespan.startup.complete":
            self._outcome.set_result(None)
        elif message["type"] == "lifespan.startup.failed":
            self._outcome.set_result(str(message.get("message", ""))[-1000:] or "see above")
