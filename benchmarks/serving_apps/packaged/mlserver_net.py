# ruff: noqa: ANN201
"""The models in MLServer: mlserver_net.py PORT.

`parallel_workers` is 0: its pool pickles a handler's arguments, and a Request can't be pickled.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

import workload
from fastapi import Request, Response
from mlserver import MLModel
from mlserver.handlers import custom_handler


class Net(MLModel):
    async def load(self):
        self.net = workload.model()
        return True

    @custom_handler(rest_path="/ping", rest_method="GET")
    async def ping(self) -> Response:
        return Response(status_code=200)

    @custom_handler(rest_path="/invocations")
    async def invocations(self, request: Request) -> Response:
        data = await request.body()
        answer = workload.answer(self.net, data, request.headers["content-type"])
        return Response(answer, media_type="application/json")


def main():
    port = int(sys.argv[1])
    folder = Path(tempfile.mkdtemp())
    settings = {"debug": False, "host": "127.0.0.1", "http_port": port, "parallel_workers": 0}
    settings |= {"grpc_port": port + 1000, "metrics_port": port + 2000, "metrics_endpoint": None}
    (folder / "settings.json").write_text(json.dumps(settings))
    model = {"name": "net", "implementation": "mlserver_net.Net"}
    (folder / "model-settings.json").write_text(json.dumps(model))
    mlserver = str(Path(sys.executable).with_name("mlserver"))
    os.execv(mlserver, [mlserver, "start", str(folder)])


if __name__ == "__main__":
    main()
