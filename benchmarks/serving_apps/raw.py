# ruff: noqa: ANN001, ANN201
"""The model inline in an ASGI application, no framework: gunicorn -k asgi raw:app."""

import workload

NET = workload.model()
JSON = (b"content-type", b"application/json")


async def app(scope, receive, send):
    data = out = b""
    if scope["path"] != "/ping":
        more = True
        while more:
            message = await receive()
            data += message.get("body", b"")
            more = message.get("more_body")
        content_type = dict(scope["headers"])[b"content-type"].decode()
        out = workload.answer(NET, data, content_type)
    headers = [JSON, (b"content-length", str(len(out)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": out})
