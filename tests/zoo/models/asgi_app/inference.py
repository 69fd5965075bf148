"""ASGI without a framework: a lifespan that loads the model, a streamed reply, an error."""

import asyncio
import json

LOADED = {}


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        assert (await receive())["type"] == "lifespan.startup"
        await asyncio.sleep(0)
        LOADED["factor"] = 3
        await send({"type": "lifespan.startup.complete"})
        await receive()
    body = (await receive())["body"]
    path, query = scope["path"], scope["query_string"]
    if path == "/ping":
        await answer(send, 200, b"")
    elif path != "/invocations":
        await answer(send, 404, b"no such route")
    elif query == b"stream":
        await send({"type": "http.response.start", "status": 206, "headers": []})
        for number in range(3):
            await asyncio.sleep(0)
            piece = f"{number}\n".encode()
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    elif query == b"fail":
        raise RuntimeError("broken")
    elif query == b"exit":
        raise SystemExit(3)
    else:
        result = [LOADED["factor"] * value for value in json.loads(body)]
        await answer(send, 200, json.dumps(result).encode())


async def answer(send, status, body):
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
