"""What handlers return, raise and do, against a running server: every answer is judged.

scripts/fuzz runs `main`; tests use `Odd`, `ask` and `judge`.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import struct
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))  # as pytest does

from tests.unit.serving.harness import JSON, ONE_WORKER, Reply, Server, wait_until
from tests.unit.serving.http.websocket import CLOSE, Client, RefusedError
from tests.zoo.models.odd.oddities import ACTS, RAISES, VALUES

LOST = frozenset({"close_descriptors", "close_everything"})
"""What a handler closes ends its worker, and its own request with it."""
PAUSE = 61
"""Seconds between two ends of a worker: five in a minute end the server."""
LATE = frozenset({"late_signal", "interrupt", "trace"})
"""What may fail the next request, as it may its own: it comes when it likes."""
LONGEST = 8000
"""Bytes of an error document: 1,000 characters that JSON escapes, and their frame."""
KINDS = ("stages", "transform", "batch", "default", "async")
ROUTE = frozenset({"app", "status", "pairs", "body", "messages"})
"""Places inside of the application."""
ACCEPTS = (JSON, "text/csv", "application/jsonlines", "application/x-npy", "text/event-stream")
SESSION = "X-Amzn-SageMaker-Session-Id"


class Odd(Server):
    """The zoo's `odd` model."""

    def __init__(self, root, kind="stages", **environ):
        settings = {
            "ODD": kind,
            **ONE_WORKER,
            "SAGEMAKER_ENABLE_STATEFUL_SESSIONS": "true",
            "SAGEMAKER_MODEL_SERVER_TIMEOUT": "30",
            "BYOC_CAPTURE": str(root / "capture"),
            "BYOC_CAPTURE_PERCENT": "100",
            **environ,
        }
        super().__init__(root, "odd", **settings)
        self.kind = kind

    def ask(self, place, spec, **headers):
        """The answer of the place; `place` may be a whole document."""
        document = place if isinstance(place, dict) else {place: spec}
        if isinstance(place, dict):
            return self.invoke(json.dumps(document), **headers)
        if place == "chat":
            return self._chat(document, **headers)
        if place == "talk":
            return self._talk(document)
        if place == "adapter":
            return self._adapt(document)
        if place in ROUTE:
            return self.request("POST", "/own/route", json.dumps(document))
        return self.invoke(json.dumps(document), **headers)

    def worker(self):
        """The pid that answers."""
        reply = self.invoke(b'{"pid": 1}')
        assert reply.status == 200, (reply.status, reply.text)
        return reply.text.strip("[]")

    def _chat(self, document, *, stream=False):
        message = {"role": "user", "content": json.dumps(document)}
        body = json.dumps({"messages": [message], "stream": stream})
        return self.request("POST", "/v1/chat/completions", body)

    def _talk(self, document):
        """The close code, in the place of a status; the items, in the place of a body."""
        reply = Reply(0, {}, b"")
        with Client(self.port, timeout=30) as client:
            client.say(json.dumps(document))
            while True:
                opcode, data = client.receive()
                if opcode == CLOSE:
                    reply.status = struct.unpack("!H", data[:2])[0]
                    data[2:].decode()
                    return reply
                reply.body += data

    def _adapt(self, document):
        folder = self.root / "adapters" / os.urandom(4).hex()
        folder.mkdir(parents=True)
        (folder / "spec").write_text(json.dumps(document["adapter"] and document))
        reply = self.request(
            "POST", "/adapters", json.dumps({"name": folder.name, "src": str(folder)})
        )
        if reply.status == 200:
            self.request("DELETE", f"/adapters/{folder.name}")
        return reply


def names_in(spec):
    """Every word of a spec that the grammar gives a meaning."""
    if isinstance(spec, list):
        return {name for entry in spec for name in names_in(entry)}
    if not isinstance(spec, dict):
        return set()
    own = {value for key, value in spec.items() if key in {"raise", "do", "value"}}
    return own | {name for value in spec.values() for name in names_in(value)}


def must_fail(spec):
    """Whether it raises before there is a value."""
    if "raise" in spec:
        return True
    if "do" in spec:
        return must_fail(spec.get("then", {}))
    inner = spec.get("list") or spec.get("tuple") or list(spec.get("dict", {}).values())
    return any(must_fail(entry) for entry in inner or [])


def plain(spec):
    """The JSON that it is, as a one-element list; empty if it is none."""
    if set(spec) == {"plain"}:
        return [spec["plain"]]
    if set(spec) == {"list"}:
        found = [plain(entry) for entry in spec["list"]]
        return [[entry for (entry,) in found]] if all(found) else []
    if set(spec) == {"dict"}:
        found = {key: plain(entry) for key, entry in spec["dict"].items()}
        return [{key: entry for key, (entry,) in found.items()}] if all(found.values()) else []
    return []


def judge(reply, *, fails=False, expected=(), lost=False, is_json=False):
    """What is wrong with the answer; empty if nothing is. With `is_json` no text is passed on."""
    if reply.status >= 400:
        return _judge_error(reply, lost=lost)
    if reply.status != 200:
        return f"status {reply.status}"
    if fails:
        return f"200 for a handler that raised: {reply.body[:200]!r}"
    if expected and reply.body != expected[0]:
        return f"{reply.body[:200]!r} where {expected[0]!r} was returned"
    return _judge_json(reply) if is_json and reply.body else ""


def _judge_json(reply):
    if reply.headers.get("Content-Type") != JSON:
        return ""
    try:
        json.loads(reply.body)
    except (ValueError, RecursionError) as error:
        return f"not JSON ({error}): {reply.body[:200]!r}"
    return ""


def _judge_error(reply, *, lost):
    try:
        error = json.loads(reply.body.decode())["error"]
        code, message, _ = error["code"], error["message"], error["request_id"]
    except (ValueError, LookupError, TypeError) as problem:
        return f"{reply.status} that is not an error document ({problem!r}): {reply.body[:200]!r}"
    if len(reply.body) > LONGEST or len(message) > 1000:
        return f"an error document of {len(reply.body)} bytes"
    if code == "ModelWorkerDied" and not lost:
        return "the worker died"
    return ""


# ── the fuzzer ──


class Maker:
    """Random documents."""

    def __init__(self, chance):
        self._chance = chance
        self.may_end = True
        """Whether a document may end its worker."""

    def spec(self, depth=0):
        kinds = ["raise", "value", "value", "plain", "do"]
        if depth < 3:
            kinds += ["list", "tuple", "dict", "items"]
        kind = self._chance.choice(kinds)
        return getattr(self, f"_{kind}")(depth)

    def _raise(self, _):
        return {"raise": self._chance.choice(list(RAISES))}

    def _value(self, _):
        return {"value": self._chance.choice(list(VALUES))}

    def _plain(self, _):
        plains = [0, -1.5, True, None, "text", "\u2028é", "", [1, [2]], {"k": "v"}, [], {}]
        return {"plain": self._chance.choice(plains)}

    def _do(self, depth):
        acts = [name for name in ACTS if self.may_end or name not in LOST]
        return {"do": self._chance.choice(acts), "then": self.spec(depth + 1)}

    def _messages(self):
        """What an ASGI application sends: in order, or not."""
        start, body = "http.response.start", "http.response.body"
        known = [{"type": start, "status": 200}, {"type": body, "body": ""}]
        more = [
            *({"type": start, "status": status} for status in (200, 204, 99, "x", None)),
            {"type": start},
            {"type": start, "status": 200, "headers": [["a", "b"]]},
            *({"type": body, "body": entry} for entry in (5, [1], None)),
            {"type": body, "more_body": True},
            *({"type": body}, {"type": "http.odd"}, {"type": None}, {}, None, 5),
        ]
        found = known if self._chance.random() < 0.3 else []
        chosen = [self._chance.choice(more) for _ in range(self._chance.randrange(4))]
        parts = [{"plain": entry} for entry in [*found[:1], *chosen, *found[1:]]]
        return {"list": [*parts, *([self.spec(2)] if self._chance.random() < 0.3 else [])]}

    def _list(self, depth):
        return {"list": [self.spec(depth + 1) for _ in range(self._chance.randrange(4))]}

    def _tuple(self, depth):
        return {"tuple": self._list(depth)["list"]}

    def _dict(self, depth):
        keys = self._chance.sample(["a", "b", "", "é", "c" * 300], self._chance.randrange(4))
        return {"dict": {key: self.spec(depth + 1) for key in keys}}

    def _items(self, depth):
        close = {"close": self.spec(depth + 1)} if self._chance.random() < 0.3 else {}
        return {"items": self._list(depth)["list"], **close}

    def document(self, kind):
        """A place and its document; oddities of the context in one of four."""
        own = {
            "stages": ["talk", "input", "output", "output"],
            "batch": ["talk", "input"],
            "async": ["results", "messages", "messages"],
        }.get(kind, ["talk"])
        places = ["predict", "predict", "chat", "adapter", "app", "status", "pairs", "body", *own]
        place = self._chance.choice(places)
        document = {place: self._messages() if place == "messages" else self.spec()}
        if place in {"predict", "output"} and self._chance.random() < 0.25:
            extra = self._chance.choice(["context", "headers", "session", "redact"])
            names = {
                "context": ["session", "deadline", "headers", "request_id", "reply_headers"],
                "headers": ["X-Own", "Content-Length", "a b", "X-\udc80"],
            }.get(extra)
            spec = self.spec()
            document[extra] = {self._chance.choice(names): spec} if names else spec
        return place, document


def one(server, place, document, chance):
    """Ask; what is wrong, empty if nothing is."""
    try:
        reply, is_default = asked(server, place, document, chance)
    except http.client.IncompleteRead as cut:  # which only a stream may be
        return "" if '"items"' in json.dumps(document) else f"a cut answer: {cut!r}"
    except (OSError, http.client.HTTPException, RefusedError) as error:
        return f"no answer: {error!r}"
    spec = document[place]
    lost = bool(names_in(document) & LOST)
    if place == "talk":
        return "" if reply.status in {1000, 1011} else f"a conversation ended with {reply.status}"
    if place in ROUTE:
        is_ours = reply.status >= 500 or reply.status == 200
        return judge(reply, fails=must_fail(spec), lost=lost) if is_ours else ""
    expected = [written(value, server.kind) for value in plain(spec) if is_default]
    is_json = place == "predict" and server.kind in {"default", "batch"}
    return judge(reply, fails=must_fail(spec), expected=expected, lost=lost, is_json=is_json)


def asked(server, place, document, chance):
    """The answer, and whether nothing but the value decides on it."""
    if place == "chat":
        return server.ask(place, document[place], stream=chance.random() < 0.5), False
    if place not in {"predict", "output", "input", "results"}:
        return server.ask(place, document[place]), False
    headers = {"Accept": chance.choice(ACCEPTS)} if chance.random() < 0.3 else {}
    if "session" in document or chance.random() < 0.1:
        headers[SESSION] = "NEW_SESSION"
    is_default = place in {"predict", "output"} and not headers and len(document) == 1
    return server.ask(document, None, **headers), is_default


def written(value, kind):
    """Text is the body where a handler writes that; all else is JSON."""
    if isinstance(value, str) and kind in {"stages", "transform", "async"}:
        return value.encode()
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def fuzz(kind, seconds, seed, findings, reports):
    """One server of this kind until the time is over."""
    chance = random.Random(seed)
    maker = Maker(chance)
    until = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as folder, Odd(Path(folder), kind) as server:
        server.wait_ready()
        worker = server.worker()
        count, ended = 0, -PAUSE
        while time.monotonic() < until:
            maker.may_end = time.monotonic() - ended >= PAUSE
            place, document = maker.document(kind)
            may_end = bool(names_in(document) & LOST)
            problem = one(server, place, document, chance)
            count += 1
            found = worker
            try:
                found = server.worker()
            except (AssertionError, OSError) as error:
                if not names_in(document) & (LOST | LATE):
                    problem = problem or f"the next request failed: {error!r}"
                with contextlib.suppress(AssertionError, OSError):
                    wait_until(lambda: server.ping().status == 200)
                    found = server.worker()
            if found != worker and may_end:
                worker, ended = found, time.monotonic()
            if found != worker:
                problem = f"{problem}; another process answers".removeprefix("; ")
                worker = found
            if problem:
                findings.append(problem)
                print(f"{kind}: {problem}\n  {json.dumps(document)}", flush=True)
                name = f"answer-{kind}-{len(findings)}"
                text = f"{problem}\n{json.dumps(document)}\n{server.log[-20_000:]}"
                (reports / name).write_text(text)
            if server.process.poll() is not None:
                findings.append("the server ended")
                break
        print(f"{kind}: {count} requests, seed {seed}", flush=True)


def main():
    """The exit code: 1 if there is a finding, each with the end of its server's log in FOLDER."""
    seconds, folder, *more = sys.argv[1:]
    seed = more[0] if more else str(int(time.time()))
    reports = Path(folder)
    reports.mkdir(parents=True, exist_ok=True)
    findings = []
    threads = [
        threading.Thread(
            target=fuzz, args=[kind, float(seconds), f"{seed}-{kind}", findings, reports]
        )
        for kind in KINDS
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(f"{len(findings)} findings, seed {seed}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
