"""The table of a multi-model endpoint, with a channel that only takes notes."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest
from tests.unit.serving.front.broker.scripted import RecordingLane

from sagemaker_byoc.serving.error_replies import (
    AlreadyLoaded,
    BadInput,
    LoadFailed,
    OutOfMemory,
    UnknownModel,
)
from sagemaker_byoc.serving.front.broker.admission import Admission, Room
from sagemaker_byoc.serving.front.broker.broker import Broker
from sagemaker_byoc.serving.front.http import multi_model as module
from sagemaker_byoc.serving.front.http.multi_model import Models
from sagemaker_byoc.serving.link import LinkError
from sagemaker_byoc.serving.settings import Settings
from sagemaker_byoc.serving.supervisor import model_processes

MIB = 2**20


class Supervisor:
    """The table's end of the channel; `says` what a supervisor would."""

    def __init__(self, root, free=10**12, **settings):
        (root / "models").mkdir()
        self.root = root
        self.sent = []
        base = Settings.from_environ({"SAGEMAKER_BASE_DIR": str(root)})
        self.table = Models(dataclasses.replace(base, **settings), self, self.make, lambda: free)
        self.table._loop = asyncio.get_running_loop()
        self.says(model_processes.LISTED)

    def make(self, name):
        broker = Broker(slots=1, admission=Admission(requests=9, room=Room(100)), stuck_grace=1)
        broker.model = name
        return broker

    def send(self, what, **details):
        self.sent.append((what, details.get("name")))

    def says(self, what, **details):
        self.table._handle({"what": what, **details})

    def folder(self, name, size=0):
        path = self.root / "models" / name / "model"
        path.mkdir(parents=True)
        (path / "weights").write_bytes(bytes(size))
        return str(path)

    def worker(self, name):
        lane = RecordingLane()
        self.table.broker_of(name).join(lane)
        return lane

    async def loaded(self, name, **more):
        task = asyncio.create_task(self.table.load(name, self.folder(name, **more)))
        await self.started(name)
        broker = self.table.broker_of(name)
        broker.ready(self.worker(name))
        await task

    async def started(self, name):
        async with asyncio.timeout(5):
            while (model_processes.START, name) not in self.sent:
                await asyncio.sleep(0.001)


def scenario(function):
    """Run an async test; it gets a folder."""

    def test(tmp_path):
        asyncio.run(function(tmp_path))

    test.__doc__, test.__name__ = function.__doc__, function.__name__
    return test


@scenario
async def test_load_and_list(root):
    """Loaded is what has answered that it is ready; pages go by name."""
    supervisor = Supervisor(root)
    for name in ("b", "a", "c"):
        await supervisor.loaded(name)
    page, token = await supervisor.table.page("")
    assert ([model.name for model in page], token) == (["a", "b", "c"], None)
    assert (await supervisor.table.get("b")).url.endswith("/b/model")
    with pytest.raises(UnknownModel):
        await supervisor.table.get("d")


def test_pages(tmp_path, monkeypatch):
    """Every model is on one page, also when others leave between two pages."""
    monkeypatch.setattr(module, "PAGE", 2)

    async def run():
        supervisor = Supervisor(tmp_path)
        for name in "abcde":
            await supervisor.loaded(name)
        first, token = await supervisor.table.page("")
        supervisor.says(model_processes.ENDED, name="b", how="exited", code=0)
        second, token = await supervisor.table.page(token)
        third, end = await supervisor.table.page(token)
        names = [[model.name for model in page] for page in (first, second, third)]
        assert (names, end) == ([["a", "b"], ["c", "d"], ["e"]], None)

    asyncio.run(run())


@scenario
async def test_coalesced(root):
    """One process for two loads at once; the second learns that it was loaded."""
    supervisor = Supervisor(root)
    url = supervisor.folder("a")
    tasks = [asyncio.create_task(supervisor.table.load("a", url)) for _ in range(2)]
    await supervisor.started("a")
    supervisor.table.broker_of("a").ready(supervisor.worker("a"))
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(end) for end in ends] == [type(None), AlreadyLoaded]
    assert supervisor.sent.count((model_processes.START, "a")) == 1


@scenario
async def test_failed_load(root):
    """The reason is the worker's, the answer waits for the end of its process."""
    supervisor = Supervisor(root)
    task = asyncio.create_task(supervisor.table.load("a", supervisor.folder("a")))
    await supervisor.started("a")
    supervisor.table.broker_of("a").fail(supervisor.worker("a"), "weights of another century")
    await asyncio.sleep(0)
    assert not task.done()
    supervisor.says(model_processes.ENDED, name="a", how="exited with code 1", code=1)
    with pytest.raises(LoadFailed, match="another century"):
        await task
    with pytest.raises(UnknownModel):
        await supervisor.table.get("a")


@pytest.mark.parametrize(("code", "error"), [(-9, OutOfMemory), (1, LoadFailed), (-11, LoadFailed)])
def test_died_loading(tmp_path, code, error):
    """A kill while it loads is taken for the kernel's, for want of memory."""

    async def run():
        supervisor = Supervisor(tmp_path)
        task = asyncio.create_task(supervisor.table.load("a", supervisor.folder("a")))
        await supervisor.started("a")
        supervisor.says(model_processes.ENDED, name="a", how="ended", code=code)
        with pytest.raises(error):
            await task

    asyncio.run(run())


@scenario
async def test_no_room(root):
    """507 by the size of the files, and nothing was started."""
    free = module.WORKER_BYTES + 15 * MIB
    supervisor = Supervisor(root, free=free)
    with pytest.raises(OutOfMemory, match="MiB are free"):
        await supervisor.table.load("large", supervisor.folder("large", size=11 * MIB))
    assert supervisor.sent == []
    await supervisor.loaded("small", size=10 * MIB)


@scenario
async def test_promised(root):
    """What loads at this moment counts; what has loaded is in what the kernel says."""
    need = 100 * MIB
    supervisor = Supervisor(root, free=150 * MIB, model_memory=need)
    first = asyncio.create_task(supervisor.table.load("a", supervisor.folder("a")))
    await supervisor.started("a")
    url = supervisor.folder("b")
    with pytest.raises(OutOfMemory):
        await supervisor.table.load("b", url)
    supervisor.table.broker_of("a").ready(supervisor.worker("a"))
    await first
    second = asyncio.create_task(supervisor.table.load("b", url))
    await supervisor.started("b")
    supervisor.says(model_processes.ENDED, name="b", how="", code=1)
    with pytest.raises(LoadFailed):
        await second


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("{root}/models/../../etc", BadInput),
        ("{root}/models", BadInput),
        ("{root}/models-of-others/a", BadInput),
        ("{root}/models/out", BadInput),
        ("models/a", BadInput),
        ("/etc", BadInput),
        ("{root}/models/a\0b", BadInput),
        ("/opt/ml/models/nothing/model", UnknownModel),
        ("/opt/ml/models/../../etc", BadInput),
        ("/opt/ml/model", BadInput),
        ("{root}/models/a" + "b" * 300, BadInput),
        ("{root}/models/nothing/model", UnknownModel),
        ("{root}/models/file", UnknownModel),
        ("{root}/models/circle", BadInput),
    ],
)
def test_url(tmp_path, url, error):
    """Only a folder below the platform's; a link leads nowhere else."""

    async def run():
        supervisor = Supervisor(tmp_path)
        (tmp_path / "models" / "out").symlink_to("/usr")
        (tmp_path / "models" / "file").touch()
        (tmp_path / "models" / "circle").symlink_to("circle")
        with pytest.raises(error):
            await supervisor.table.load("a", url.replace("{root}", str(tmp_path)))
        assert supervisor.sent == []

    asyncio.run(run())


@scenario
async def test_unload(root):
    """It waits for what runs, then for the end; meanwhile the name is unknown."""
    supervisor = Supervisor(root)
    await supervisor.loaded("a")
    permit = supervisor.table.broker_of("a").admit()
    task = asyncio.create_task(supervisor.table.unload("a"))
    await asyncio.sleep(0.05)
    assert (model_processes.STOP, "a") not in supervisor.sent
    with pytest.raises(UnknownModel):
        await supervisor.table.get("a")
    permit.release()
    async with asyncio.timeout(5):
        while (model_processes.STOP, "a") not in supervisor.sent:
            await asyncio.sleep(0.001)
    assert not task.done()
    supervisor.says(model_processes.ENDED, name="a", how="exited", code=0)
    await task
    with pytest.raises(UnknownModel):
        await supervisor.table.unload("a")


@scenario
async def test_stranger(root):
    """A process that holds a model nobody asked for is refused."""
    supervisor = Supervisor(root)
    with pytest.raises(LinkError):
        supervisor.worker("x")
