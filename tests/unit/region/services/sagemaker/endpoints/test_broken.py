"""When something breaks under an endpoint, it ends with its reason, and those who wait return."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from pathlib import Path

import pytest
from tests.unit.region.services.sagemaker.endpoints.conftest import HostingRegion, archive
from tests.unit.region.services.sagemaker.endpoints.fake_engine import BOUND, FakeContainer

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


async def served(region):
    await region.model()
    await region.config()
    assert (await region.endpoint())["EndpointStatus"] == "InService"


def test_records_that_cannot_be_written_count_and_are_written_later(play, monkeypatch):
    """Created, then a disk that is full: update, failed update and deletion end all the same."""
    write = records.write_atomically

    async def scene(region):
        await served(region)
        await region.model("bad", MODE="exits")
        await region.config("bad", region.variant(model="bad"))
        file = region.state / "sagemaker/endpoints/one.json"
        before = file.read_bytes()
        monkeypatch.setattr(records, "write_atomically", full)
        await region.call("UpdateEndpoint", EndpointName="one", EndpointConfigName="bad")
        found = await region.settled()
        assert found["EndpointStatus"] == "InService"
        assert "exit code 1" in found["FailureReason"]
        assert file.read_bytes() == before
        monkeypatch.setattr(records, "write_atomically", write)
        region.endpoints.resources.records.flush()
        assert b"exit code 1" in file.read_bytes()
        monkeypatch.setattr(records, "write_atomically", full)
        await region.delete()
        assert not file.exists()

    play(scene)


def test_an_endpoint_that_cannot_be_written_was_not_created(play, monkeypatch):
    """Neither are its tags, and its name is free."""

    async def scene(region):
        await region.model()
        await region.config()
        with monkeypatch.context() as patch:
            patch.setattr(records, "write_atomically", full)
            with pytest.raises(OSError, match="No space"):
                await region.endpoint(Tags=[{"Key": "a", "Value": "b"}])
        catalog = region.endpoints.resources
        assert catalog.tags.get(catalog.arn("one")) == {}
        assert (await region.endpoint())["EndpointStatus"] == "InService"

    play(scene)


def test_a_deletion_that_fails_says_so_and_can_be_repeated(play, monkeypatch):
    """A record that stays on the disk would bring the endpoint back at the next start."""

    async def scene(region):
        await served(region)
        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", full)
            await region.call("DeleteEndpoint", EndpointName="one")
            found = await region.settled()
        assert found["EndpointStatus"] == "Failed"
        assert found["FailureReason"].startswith("InternalServerError: [Errno 28] No space left")
        assert not region.engine.running
        await region.delete()

    play(scene)


def test_a_log_that_cannot_be_written_ends_no_endpoint(play, monkeypatch):
    """Its container goes on, and what was lost is counted."""
    stream = LogStore.open

    async def scene(region):
        monkeypatch.setattr(LogStore, "open", full)
        await served(region)
        (container,) = region.engine.started
        assert (await region.invoke(b"x")).status == 200
        monkeypatch.setattr(LogStore, "open", stream)
        container._lines.put("told")
        async with asyncio.timeout(BOUND):
            while not any("told" in lines for lines in region.log().values()):
                await asyncio.sleep(0.01)
        (lines,) = region.log().values()
        assert lines == ["byoc: 1 lines before this one could not be written", "told"]

    play(scene)


def test_a_log_that_is_lost_ends_no_endpoint(play, monkeypatch):
    """The stream says why nothing follows."""
    monkeypatch.setattr(FakeContainer, "lines", gone)

    async def scene(region):
        await served(region)
        assert (await region.invoke(b"x")).status == 200
        (lines,) = region.log().values()
        assert lines == [f"byoc: the log was lost: {GONE}"]

    play(scene)


def test_the_cause_is_told_though_the_log_cannot_be_written(play, monkeypatch):
    """The reason is the engine's, not the disk's; the port is free again."""

    async def scene(region):
        await region.model()
        await region.config()
        monkeypatch.setattr(LogStore, "open", full)
        monkeypatch.setattr(region.engine, "start", gone)
        found = await region.endpoint()
        assert found["EndpointStatus"] == "Failed"
        assert "the engine is gone" in found["FailureReason"]
        assert not region.context.ports._taken
        await region.delete()

    play(scene)


def test_no_room_for_the_folders_of_a_container(play, monkeypatch):
    """Failed in the disk's words."""

    async def scene(region):
        await region.model()
        await region.config()
        with monkeypatch.context() as patch:
            patch.setattr(region.engine, "start", full)
            found = await region.endpoint()
        assert found["EndpointStatus"] == "Failed"
        reason = "InternalServerError: [Errno 28] No space left on device"
        assert found["FailureReason"] == reason
        await region.delete()

    play(scene)


def test_an_engine_that_is_gone_does_not_keep_an_endpoint(play, monkeypatch, caplog):
    """Deleted, and the region's log says what could not be stopped."""

    async def scene(region):
        await served(region)
        monkeypatch.setattr(FakeContainer, "stop", gone)
        await region.delete()
        assert "can't be stopped: `docker x` failed" in caplog.text

    play(scene)


def test_a_stop_that_fails_is_logged(play, monkeypatch, caplog):
    """And its port and its folder are free again."""
    close = FakeContainer.close

    def broken(self):
        close(self)
        gone()

    async def scene(region):
        await served(region)
        monkeypatch.setattr(FakeContainer, "close", broken)
        await region.delete()
        assert "a stop of AllTraffic/" in caplog.text
        assert not region.context.ports._taken
        assert not [*region.context.work("endpoints").glob("*/*")]

    play(scene)


def test_the_watch_outlives_an_engine_that_cannot_tell(play, monkeypatch):
    """The container is replaced when it answers no longer, though its state is unknown."""
    monkeypatch.setattr(instance, "ILL_SECONDS", 0.0)
    monkeypatch.setattr(instance, "_LOOK_AGAIN", 0.01)
    monkeypatch.setattr(instance, "PING_EVERY", 0.01)

    async def scene(region):
        await served(region)
        (first,) = region.engine.started
        first.exit_code = gone
        first.ill = True
        async with asyncio.timeout(BOUND):
            while len(region.engine.started) < 2:
                await asyncio.sleep(0.01)
            fleet = region.endpoints.find("one").fleet
            while not fleet.variants["AllTraffic"].healthy:
                await asyncio.sleep(0.01)
        assert (await region.invoke(b"x")).status == 200

    play(scene)


def test_an_engine_that_is_gone_when_the_region_starts(tmp_path, monkeypatch):
    """The endpoints of the former run are Failed with its words, and can be deleted."""

    async def main():
        async with HostingRegion(tmp_path) as region:
            await served(region)
        region = HostingRegion(tmp_path)
        monkeypatch.setattr(region.engine, "sweep", gone)
        (tmp_path / "work/endpoints").mkdir(parents=True, exist_ok=True)
        async with region:
            found = await region.settled()
            assert found["EndpointStatus"] == "Failed"
            assert "the engine is gone" in found["FailureReason"]
            await region.delete()

    asyncio.run(main())


@pytest.mark.parametrize("whole", [False, True])
def test_model_data_that_went_after_create_model(play, whole):
    """The object, or its bucket; Failed in SageMaker's words, and can be deleted."""

    async def scene(region):
        region.store.create_bucket("models")
        region.store.put_bytes("models", "m.tar.gz", archive(weights=b"1"))
        container = {"Image": "serve:1", "ModelDataUrl": "s3://models/m.tar.gz"}
        await region.call("CreateModel", ModelName="model", PrimaryContainer=container)
        await region.config()
        region.store.delete("models", "m.tar.gz")
        if whole:
            region.store.delete_bucket("models")
        found = await region.endpoint()
        assert found["EndpointStatus"] == "Failed"
        assert found["FailureReason"].startswith("Failed to download model data for container")
        assert "s3://models/m.tar.gz" in found["FailureReason"]
        await region.delete()

    play(scene)


@pytest.mark.slow
def test_a_full_disk_fails_the_endpoint_and_leaves_room(small_disk):
    """60 MB of model on 40 MB, then a disk without a free byte: each transition ends."""

    async def main():
        async with asyncio.timeout(3 * BOUND), HostingRegion(small_disk / "state") as region:
            region.store.create_bucket("models")
            region.store.put_bytes("models", "m.tar.gz", archive(weights=bytes(60_000_000)))
            await served(region)
            container = {"Image": "serve:1", "ModelDataUrl": "s3://models/m.tar.gz"}
            await region.call("CreateModel", ModelName="large", PrimaryContainer=container)
            await region.config("large", region.variant(model="large"))
            found = await region.endpoint("two", "large")
            assert found["EndpointStatus"] == "Failed"
            assert "No space left on device" in found["FailureReason"]
            assert b"Failed" in (region.state / "sagemaker/endpoints/two.json").read_bytes()
            fill(small_disk / "rest")
            await region.call("UpdateEndpoint", EndpointName="one", EndpointConfigName="large")
            found = await region.settled()
            assert found["EndpointStatus"] == "InService"
            assert "No space left on device" in found["FailureReason"]
            assert (await region.invoke(b"x")).status == 200
            await region.delete()
            await region.delete("two")

    asyncio.run(main())
