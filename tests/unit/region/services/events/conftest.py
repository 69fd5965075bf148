"""EventBridge without a wire: operations checked by AWS's model, and a target that remembers."""

from __future__ import annotations

import asyncio
import json
import queue
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sagemaker_byoc.region.core.account import Account
from sagemaker_byoc.region.core.event_bus import EventBus
from sagemaker_byoc.region.services.events.events import Events
from sagemaker_byoc.region.services.logs.log_store import LogStore
from sagemaker_byoc.region.wire import models

SECONDS = 20
PIPELINE = "arn:aws:sagemaker:us-east-1:000000000000:pipeline/p"


class Memory:
    """A kind of target that remembers what it gets."""

    members = frozenset({"SageMakerPipelineParameters"})

    def __init__(self) -> None:
        self.got: queue.Queue[tuple[str, str, Any]] = queue.Queue()

    def check(self, target):
        pass

    def send(self, target, rule, text):
        self.got.put((rule["Name"], target["Id"], json.loads(text)))

    def spacing(self, target):
        return 0.0

    def next(self):
        return self.got.get(timeout=SECONDS)


class Bridge:
    """The service on a state folder; `again` is the next life of its region."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.memory = Memory()
        self.again()

    def again(self) -> None:
        account = Account()
        self.bus = EventBus(self.state, account)
        self.logs = LogStore(self.state / "logs")
        self.service = Events(
            self.state,
            account,
            bus=self.bus,
            logs=self.logs,
            kinds={"sagemaker:pipeline/": self.memory},
        )
        self.operations = self.service.operations()

    def call(self, operation: str, **asked: Any) -> dict[str, Any]:
        called = models.Service("events", self.operations).call(operation, lambda _: asked)
        model, answer = asyncio.run(called)
        if model.output_shape is not None:
            # An empty list of targets is answered as such, though the model has no such list.
            shown = {name: value for name, value in answer.items() if value not in (None, [])}
            models.check("events", model.output_shape, shown)
        return answer

    def rule(self, name: str = "r", *targets: dict[str, Any], **members: Any) -> None:
        pattern = {"EventPattern": '{"source": [{"prefix": ""}]}'.replace('""', '"a"')}
        self.call("PutRule", Name=name, **(members or pattern))
        if targets:
            bus = {name: members[name] for name in ("EventBusName",) if name in members}
            self.call("PutTargets", Rule=name, Targets=[*targets], **bus)

    def run(self, work: Callable[[], Any]) -> Any:
        """Call `work` in a thread while events are delivered, and deliver what is left."""

        async def live() -> Any:
            self.service.start()
            try:
                return await asyncio.to_thread(work)
            finally:
                await self.service.close()
                await asyncio.to_thread(self.service.finish)

        return asyncio.run(live())


@pytest.fixture
def bridge(tmp_path: Path) -> Bridge:
    return Bridge(tmp_path)
