# ruff: noqa: ANN001, ANN201
"""Reads the body and drops it: gunicorn -k asgi read:app."""


async def app(scope, receive, send):
    size = 0
    more = scope["path"] != "/ping"
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body")
    out = str(size).encode()
    headers = [(b"content-length", str(len(out)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": out})
