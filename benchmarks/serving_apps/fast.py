# ruff: noqa: ANN201
"""The model inline in FastAPI: uvicorn fast:app."""

import workload
from fastapi import FastAPI, Request, Response

app = FastAPI()
NET = workload.model()


@app.get("/ping")
async def ping():
    return Response(status_code=200)


@app.post("/invocations")
async def invocations(request: Request):
    out = workload.answer(NET, await request.body(), request.headers["content-type"])
    return Response(out, media_type="application/json")
