"""When something breaks under an endpoint, it ends with its reason, and those who wait return."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from pathlib import Path

import pytest
from tests.unit.region.services.sagemaker.endpoints.conftest import Room, archive
from tests.unit.region.services.sagemaker.endpoints.pretenders import BOUND, Pretender

from sagemaker_byoc.contract.errors import MachineError
from sagemaker_byoc.region.core import records
from sagemaker_byoc.region.services.logs.log_store import LogStore
from sagemaker_byoc.region.services.sagemaker.endpoints import instance

GONE = MachineError("`docker x` failed: the engine is gone", hint="Start it")


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def gone(*_, **__):
    raise GONE


def fill(file):
    """Write until the disk takes no byte more."""
    with contextlib.suppress(OSError), open(file, "wb", buffering=0) as rest:
        while rest.write(bytes(1 << 16)):
            pass


async def served(room):
    await room.model()
    await room.config()
    assert (await room.endpoint())["EndpointStatus"] == "InService"


def test_records_that_cannot_be_written_count_and_are_written_later(room, monkeypatch):
    """Created, then a disk that is full: update, failed update and deletion end all the same."""
    write = records.write_atomically

    async def scene(room):
        await served(room)
        await room.model("bad", MODE="exits")
        await room.config("bad", room.variant(model="bad"))
        file = room.state / "sagemaker/endpoints/one.json"
        before = file.read_bytes()
        monkeypatch.setattr(records, "write_atomically", full)
        await room.call("UpdateEndpoint", EndpointName="one", EndpointConfigName="bad")
        found = await room.settled()
        assert found["EndpointStatus"] == "InService"
        assert "exit code 1" in found["FailureReason"]
        assert file.read_bytes() == before
        monkeypatch.setattr(records, "write_atomically", write)
        room.service.endpoints.catalog.records.flush()
        assert b"exit code 1" in file.read_bytes()
        monkeypatch.setattr(records, "write_atomically", full)
        await room.delete()
        assert not file.exists()

    room(scene)


def test_an_endpoint_that_cannot_be_written_was_not_created(room, monkeypatch):
    """Neither are its tags, and its name is free."""

    async def scene(room):
        await room.model()
        await room.config()
        with monkeypatch.context() as patch:
            patch.setattr(records, "write_atomically", full)
            with pytest.raises(OSError, match="No space"):
                await room.endpoint(Tags=[{"Key": "a", "Value": "b"}])
        catalog = room.service.endpoints.catalog
        assert catalog.tags.get(catalog.arn("one")) == {}
        assert (await room.endpoint())["EndpointStatus"] == "InService"

    room(scene)


def test_a_deletion_that_fails_says_so_and_can_be_repeated(room, monkeypatch):
    """A record that stays on the disk would bring the endpoint back at the next start."""

    async def scene(room):
        await served(room)
        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", full)
            await room.call("DeleteEndpoint", EndpointName="one")
            found = await room.settled()
        assert found["EndpointStatus"] == "Failed"
        assert found["FailureReason"].startswith("InternalServerError: [Errno 28] No space left")
        assert not room.engine.running
        await room.delete()

    room(scene)


def test_a_log_that_cannot_be_written_ends_no_endpoint(room, monkeypatch):
    """Its container goes on, and what was lost is counted."""
    stream = LogStore.open

    async def scene(room):
        monkeypatch.setattr(LogStore, "open", full)
        await served(room)
        (container,) = room.engine.started
        assert (await room.invoke(b"x")).status == 200
        monkeypatch.setattr(LogStore, "open", stream)
        container._lines.put("told")
        async with asyncio.timeout(BOUND):
            while not any("told" in lines for lines in room.log().values()):
                await asyncio.sleep(0.01)
        (lines,) = room.log().values()
        assert lines == ["byoc: 1 lines before this one could not be written", "told"]

    room(scene)


def test_a_log_that_is_lost_ends_no_endpoint(room, monkeypatch):
    """The stream says why nothing follows."""
    monkeypatch.setattr(Pretender, "lines", gone)

    async def scene(room):
        await served(room)
        assert (await room.invoke(b"x")).status == 200
        (lines,) = room.log().values()
        assert lines == [f"byoc: the log was lost: {GONE}"]

    room(scene)


def test_the_cause_is_told_though_the_log_cannot_be_written(room, monkeypatch):
    """The reason is the engine's, not the disk's; the port is free again."""

    async def scene(room):
        await room.model()
        await room.config()
        monkeypatch.setattr(LogStore, "open", full)
        monkeypatch.setattr(room.engine, "start", gone)
        found = await room.endpoint()
        assert found["EndpointStatus"] == "Failed"
        assert "the engine is gone" in found["FailureReason"]
        assert not room.service._context.ports._taken
        await room.delete()

    room(scene)


def test_no_room_for_the_folders_of_a_container(room, monkeypatch):
    """Failed in the disk's words."""

    async def scene(room):
        await room.model()
        await room.config()
        with monkeypatch.context() as patch:
            patch.setattr(room.engine, "start", full)
            found = await room.endpoint()
        assert found["EndpointStatus"] == "Failed"
        reason = "InternalServerError: [Errno 28] No space left on device"
        assert found["FailureReason"] == reason
        await room.delete()

    room(scene)


def test_an_engine_that_is_gone_does_not_keep_an_endpoint(room, monkeypatch, caplog):
    """Deleted, and the region's log says what could not be stopped."""

    async def scene(room):
        await served(room)
        monkeypatch.setattr(Pretender, "stop", gone)
        await room.delete()
        assert "can't be stopped: `docker x` failed" in caplog.text

    room(scene)


def test_a_stop_that_fails_is_logged(room, monkeypatch, caplog):
    """And its port and its folder are free again."""
    close = Pretender.close

    def broken(self):
        close(self)
        gone()

    async def scene(room):
        await served(room)
        monkeypatch.setattr(Pretender, "close", broken)
        await room.delete()
        assert "a stop of AllTraffic/" in caplog.text
        assert not room.service._context.ports._taken
        assert not [*room.service._context.work.glob("*/*")]

    room(scene)


def test_the_watch_outlives_an_engine_that_cannot_tell(room, monkeypatch):
    """The container is replaced when it answers no longer, though its state is unknown."""
    monkeypatch.setattr(instance, "_ILL_SECONDS", 0.0)
    monkeypatch.setattr(instance, "_LOOK_AGAIN", 0.01)
    monkeypatch.setattr(instance, "PING_EVERY", 0.01)

    async def scene(room):
        await served(room)
        (first,) = room.engine.started
        first.exit_code = gone
        first.ill = True
        async with asyncio.timeout(BOUND):
            while len(room.engine.started) < 2:
                await asyncio.sleep(0.01)
            fleet = room.service.endpoints.find("one").fleet
            while not fleet.variants["AllTraffic"].healthy:
                await asyncio.sleep(0.01)
        assert (await room.invoke(b"x")).status == 200

    room(scene)


def test_an_engine_that_is_gone_when_the_region_starts(tmp_path, monkeypatch):
    """The endpoints of the former run are Failed with its words, and can be deleted."""

    async def main():
        async with Room(tmp_path) as room:
            await served(room)
        room = Room(tmp_path)
        monkeypatch.setattr(room.engine, "sweep", gone)
        (tmp_path / "work/endpoints").mkdir(parents=True, exist_ok=True)
        async with room:
            found = await room.settled()
            assert found["EndpointStatus"] == "Failed"
            assert "the engine is gone" in found["FailureReason"]
            await room.delete()

    asyncio.run(main())


@pytest.mark.parametrize("whole", [False, True])
def test_model_data_that_went_after_create_model(room, whole):
    """The object, or its bucket; Failed in SageMaker's words, and can be deleted."""

    async def scene(room):
        room.store.create_bucket("models")
        room.store.put_bytes("models", "m.tar.gz", archive(weights=b"1"))
        container = {"Image": "serve:1", "ModelDataUrl": "s3://models/m.tar.gz"}
        await room.call("CreateModel", ModelName="model", PrimaryContainer=container)
        await room.config()
        room.store.delete("models", "m.tar.gz")
        if whole:
            room.store.delete_bucket("models")
        found = await room.endpoint()
        assert found["EndpointStatus"] == "Failed"
        assert found["FailureReason"].startswith("Failed to download model data for container")
        assert "s3://models/m.tar.gz" in found["FailureReason"]
        await room.delete()

    room(scene)


@pytest.mark.slow
def test_a_full_disk_fails_the_endpoint_and_leaves_room(small_disk):
    """60 MB of model on 40 MB, then a disk without a free byte: each transition ends."""

    async def main():
        async with asyncio.timeout(3 * BOUND), Room(small_disk / "state") as room:
            room.store.create_bucket("models")
            room.store.put_bytes("models", "m.tar.gz", archive(weights=bytes(60_000_000)))
            await served(room)
            container = {"Image": "serve:1", "ModelDataUrl": "s3://models/m.tar.gz"}
            await room.call("CreateModel", ModelName="large", PrimaryContainer=container)
            await room.config("large", room.variant(model="large"))
            found = await room.endpoint("two", "large")
            assert found["EndpointStatus"] == "Failed"
            assert "No space left on device" in found["FailureReason"]
            assert b"Failed" in (room.state / "sagemaker/endpoints/two.json").read_bytes()
            fill(small_disk / "rest")
            await room.call("UpdateEndpoint", EndpointName="one", EndpointConfigName="large")
            found = await room.settled()
            assert found["EndpointStatus"] == "InService"
            assert "No space left on device" in found["FailureReason"]
            assert (await room.invoke(b"x")).status == 200
            await room.delete()
            await room.delete("two")

    asyncio.run(main())
