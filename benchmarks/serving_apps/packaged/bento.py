# ruff: noqa: ANN001, ANN201, ARG001
"""The models in BentoML: bentoml serve bento:Net. BATCH=32 for its adaptive batches, one worker.

Bodies that are not JSON come by a mounted ASGI route, since its own take JSON at the root.
"""

import os

import bentoml
import numpy as np
import workload
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

IS_BATCHED = int(os.environ.get("BATCH", "1")) > 1
IS_JSON = workload.TYPES[workload.NAME] == "application/json"
loaded = {}


async def ping(request):
    return Response(status_code=200)


async def invocations(request):
    data = await request.body()
    answer = workload.answer(loaded["net"], data, request.headers["content-type"])
    return Response(answer, media_type="application/json")


def rows_of(net, instances):
    import torch  # noqa: PLC0415

    return workload.forward(net, torch.from_numpy(np.asarray(instances, dtype=np.float32))).tolist()


routes = [Route("/ping", ping)]
if not IS_JSON:
    routes.append(Route("/invocations", invocations, methods=["POST"]))
service = bentoml.service(workers=1 if IS_BATCHED else 2, metrics={"enabled": False})
mounted = bentoml.asgi_app(Starlette(routes=routes), path="/")


class Base:
    def __init__(self) -> None:
        self.net = loaded["net"] = workload.model()


if not IS_JSON:

    class Net(Base):
        pass

elif IS_BATCHED:

    class Net(Base):
        @bentoml.api(route="/invocations", batchable=True, max_batch_size=32)
        def invocations(self, instances: list[list[float]]) -> list[list[float]]:
            return rows_of(self.net, instances)

else:

    class Net(Base):
        @bentoml.api(route="/invocations")
        async def invocations(self, instances: list[list[float]]) -> dict:
            return {"predictions": rows_of(self.net, instances)}


Net = service(mounted(Net))
