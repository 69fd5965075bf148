"""Objects through a model that behaves as its requests say: order, limits, retries, failures."""

from __future__ import annotations

import asyncio
import gzip
import resource
import threading
import time
from contextlib import asynccontextmanager

import pytest
from tests.unit.region.services.sagemaker.transform_jobs.test_transform_plan import request

from sagemaker_byoc.region.containers.http_pool import Pool
from sagemaker_byoc.region.core.threads import Threads
from sagemaker_byoc.region.services.s3.store.object_store import ObjectStore
from sagemaker_byoc.region.services.sagemaker.jobs.inputs import Item
from sagemaker_byoc.region.services.sagemaker.transform_jobs import (
    requests,
    splitting,
    transformation,
)
from sagemaker_byoc.region.services.sagemaker.transform_jobs.requests import Sender, Side
from sagemaker_byoc.region.services.sagemaker.transform_jobs.transform_plan import (
    Strategy,
    plan_of,
)
from sagemaker_byoc.region.services.sagemaker.transform_jobs.transformation import (
    Effective,
    ObjectResults,
    Transformation,
)

BOUND = 20.0
MEGABYTE = 1 << 20


class Model:
    """A container; `answer(body, headers)` returns status and body, or None to cut the line."""

    def __init__(self, answer):
        self.answer = answer
        self.requests = []
        self.now = self.most = 0

    async def on_connection(self, reader, writer):
        try:
            while True:
                lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = dict(line.split(": ", 1) for line in lines[1:] if line)
                body = await self.body(reader, headers)
                self.requests.append((headers, body))
                self.now += 1
                self.most = max(self.most, self.now)
                found = self.answer(body, headers)
                found = await found if asyncio.iscoroutine(found) else found
                self.now -= 1
                if found is None:
                    return
                status, data = found
                writer.write(b"HTTP/1.1 %d X\r\ncontent-type: text/model\r\n" % status)
                writer.write(b"content-length: %d\r\n\r\n%b" % (len(data), data))
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def body(self, reader, headers):
        if "content-length" in headers:
            return await reader.readexactly(int(headers["content-length"]))
        data = b""
        while size := int(await reader.readline(), 16):
            data += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readexactly(2)
        return data


class Instance:
    def __init__(self, ports):
        self.pools = {f"container-{number}": Pool(port) for number, port in enumerate(ports)}
        self.suspected = 0
        self.is_healthy = True

    def suspect(self):
        self.suspected += 1

    async def until_healthy(self):
        return self.is_healthy


@asynccontextmanager
async def serving(*models):
    listeners = [
        await asyncio.start_server(model.on_connection, "127.0.0.1", 0, limit=MEGABYTE)
        for model in models
    ]
    instance = Instance([each.sockets[0].getsockname()[1] for each in listeners])
    try:
        async with asyncio.timeout(BOUND):
            yield instance
    finally:
        for pool in instance.pools.values():
            pool.close()
        for listener in listeners:
            listener.close()
            await listener.wait_closed()


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(requests, "_DELAYS", (0.0,))


@pytest.fixture
def store(tmp_path):
    store = ObjectStore(tmp_path / "s3")
    store.create_bucket("bucket-in")
    store.create_bucket("out")
    yield store
    assert not [*(tmp_path / "s3" / ".new").iterdir()], "an unfinished output is left"
    store.close()


class Job:
    """A transformation of all objects of the bucket `bucket-in`."""

    def __init__(self, store, concurrent=1, megabytes=6, strategy=Strategy.MULTI, **more):
        self.store = store
        self.plan = plan_of(request(TransformOutput__S3OutputPath="s3://out/at", **more))
        self.limits = Effective(concurrent=concurrent, megabytes=megabytes, strategy=strategy)
        self.results = ObjectResults()
        self.told = []

    def run(self, *models):
        asyncio.run(self.main(*models))
        return self

    async def main(self, *models):
        threads = Threads("test", 4)
        try:
            async with serving(*models) as instance:
                self.instance = instance
                await self.transformation(instance, threads).run(self.items())
        finally:
            await asyncio.to_thread(threads.close)

    def items(self):
        return [Item("bucket-in", info.key, info.key) for info in self.store.list("bucket-in")]

    def transformation(self, instance, threads):
        return Transformation(
            plan=self.plan,
            processing=self.plan.processing,
            limits=self.limits,
            sender=Sender(
                target=instance,
                content_type=self.plan.content_type,
                accept=self.plan.accept,
                seconds=self.plan.seconds,
                retries=self.plan.retries,
            ),
            store=self.store,
            threads=threads,
            results=self.results,
            on_failure=lambda item, error: self.told.append((item.key, error)),
        )

    def outputs(self):
        return {
            info.key.removeprefix("at/"): self.store.get("out", info.key).path.read_bytes()
            for info in self.store.list("out")
        }


def put(store, **objects):
    for name, data in objects.items():
        store.put_bytes("bucket-in", name, data)


def upper(body, headers):
    return 200, body.upper()


LINE = {"TransformInput__SplitType": "Line"}


def test_whole_objects(store):
    put(store, a=b"one\ntwo\n", b=b"", c=b"three")
    model = Model(upper)
    job = Job(store, TransformInput__ContentType="text/plain", TransformOutput__Accept="text/x")
    job.run(model)
    assert job.outputs() == {"a.out": b"ONE\nTWO\n", "b.out": b"", "c.out": b"THREE"}
    assert [item.key for item in job.results.stored] == ["a", "b", "c"]
    assert model.requests[0] == (
        {
            "host": "model",
            "content-length": "8",
            "content-type": "text/plain",
            "accept": "text/x",
        },
        b"one\ntwo\n",
    )
    assert len(model.requests) == 2


@pytest.mark.parametrize(("concurrent", "pause"), [(1, 0), (4, 0), (4, 0.02)])
def test_answers_keep_their_order(store, concurrent, pause):
    lines = [b"%d\n" % number for number in range(300)]
    put(store, a=b"".join(lines), b=b"".join(reversed(lines)))

    async def answer(body, headers):
        while pause and model.most < concurrent:
            await asyncio.sleep(0)
        await asyncio.sleep(pause if int(body) % 7 == 0 else 0)
        return 200, body

    model = Model(answer)
    job = Job(store, concurrent, strategy=Strategy.SINGLE, **LINE).run(model)
    assert job.outputs() == {"a.out": b"".join(lines), "b.out": b"".join(reversed(lines))}
    assert model.most <= concurrent
    assert model.most == concurrent or not pause
    assert len(model.requests) == 600


def test_batches_within_the_payload(store):
    line = b"x" * 999 + b"\n"
    put(store, a=line * 5000, b=line * 10)
    model = Model(lambda body, headers: (200, b"%d" % (len(body) // 1000)))
    job = Job(store, 2, 1, TransformOutput__AssembleWith="Line", **LINE).run(model)
    assert job.outputs() == {"a.out": b"1048\n" * 4 + b"808\n", "b.out": b"10\n"}


@pytest.mark.parametrize(
    ("end", "assemble", "output"),
    [
        (b"", "None", b"aabb"),
        (b"\n", "None", b"aa\nbb\n"),
        (b"", "Line", b"aa\nbb\n"),
        (b"\n", "Line", b"aa\nbb\n"),
    ],
)
def test_assembling(store, end, assemble, output):
    put(store, a=b"a\nb\n")
    model = Model(lambda body, headers: (200, body.strip() * 2 + end))
    more = {"TransformOutput__AssembleWith": assemble, **LINE}
    job = Job(store, strategy=Strategy.SINGLE, **more).run(model)
    assert job.outputs() == {"a.out": output}


def test_an_answer_without_content_is_a_line(store):
    """The lines of the output are those of the input."""
    put(store, a=b"a\nb\nc\n")
    model = Model(lambda body, headers: (200, b"" if body == b"b\n" else body))
    more = {"TransformOutput__AssembleWith": "Line", **LINE}
    job = Job(store, strategy=Strategy.SINGLE, **more).run(model)
    assert job.outputs() == {"a.out": b"a\n\nc\n"}


def test_filters_and_join(store):
    put(store, a=b"1,x\n2,y\n3,z\n")
    more = {
        "TransformInput__ContentType": "text/csv",
        "TransformOutput__Accept": "text/csv",
        "TransformOutput__AssembleWith": "Line",
        "DataProcessing": {
            "InputFilter": "$[1:]",
            "JoinSource": "Input",
            "OutputFilter": "$[0,-1]",
        },
        **LINE,
    }
    model = Model(upper)
    assert Job(store, **more).run(model).outputs() == {"a.out": b"1,X\n2,Y\n3,Z\n"}
    assert model.requests[0][1] == b"x\ny\nz\n"
    shorter = Job(store, **more).run(Model(lambda body, headers: (200, b"[1, 2, 3]\n")))
    ((_, error),) = shorter.told
    assert error.side is Side.ALGORITHM
    assert "2 record(s)" not in str(error)
    assert "1 record(s) for 3 record(s)" in str(error)


def test_gzip(store):
    put(store, a=gzip.compress(b"one\ntwo\n"), b=gzip.compress(b"x" * 10_000)[:-8], c=b"plain")
    job = Job(store, TransformInput__CompressionType="Gzip").run(Model(upper))
    assert job.outputs() == {"a.out": b"ONE\nTWO\n"}
    told = dict(job.told)
    assert "s3://bucket-in/b ends within its gzip stream" in str(told["b"])
    assert "s3://bucket-in/c is not gzip" in str(told["c"])
    assert {error.side for error in told.values()} == {Side.CLIENT}


def test_a_failed_object_beside_others(store):
    put(store, a=b"one", b=b"bad\nsecond line", c=b"three")

    def answer(body, headers):
        return (400, b"no\nsuch thing") if body.startswith(b"bad") else (200, body)

    model = Model(answer)
    job = Job(store).run(model)
    assert job.outputs() == {"a.out": b"one", "c.out": b"three"}
    assert [item.key for item in job.results.stored] == ["a", "c"]
    ((key, error),) = job.told
    assert (key, error.side) == ("b", Side.CLIENT)
    assert error.lines == ("ClientError: 400", "", "Message:", "no", "such thing")
    assert len(model.requests) == 3, "a client error is not sent again"
    assert job.results.reason == (
        "ClientError: See job logs for more information\n"
        "bucket-in/b: ClientError: 400 Message: no such thing"
    )


def test_many_failures_are_counted(store):
    put(store, **{f"k{number:02}": b"x" for number in range(25)})
    job = Job(store, 4).run(Model(lambda body, headers: (422, b"")))
    assert (job.results.failed, len(job.results.first), len(job.told)) == (25, 10, 25)
    assert job.results.reason.endswith("\nand 15 more object(s)")


def test_a_middle_batch_that_fails(store):
    put(store, a=b"".join(b"%d\n" % number for number in range(100)))
    answer = lambda body, headers: (500, b"oops") if body == b"50\n" else (200, body)  # noqa: E731
    model = Model(answer)
    job = Job(store, 3, strategy=Strategy.SINGLE, **LINE).run(model)
    assert job.outputs() == {}
    ((_, error),) = job.told
    assert error.side is Side.ALGORITHM
    assert str(error) == "Bad HTTP status received from algorithm: 500 oops"
    assert sum(body == b"50\n" for _, body in model.requests) == 4


@pytest.mark.parametrize("status", [500, 503, 408, 429, None])
def test_retries(store, status):
    """As often as the job says, after what may be different the next time."""
    put(store, a=b"one")

    def answer(body, headers):
        failed = len(model.requests) <= 3
        return (None if status is None else (status, b"")) if failed else (200, body)

    model = Model(answer)
    job = Job(store).run(model)
    assert job.outputs() == {"a.out": b"one"}
    model = Model(answer)
    job = Job(store, ModelClientConfig__InvocationsMaxRetries=2).run(model)
    assert len(model.requests) == 3
    assert len(job.told) == 1
    assert job.instance.suspected == 3


def test_a_model_that_does_not_answer(store):
    put(store, a=b"one")
    config = {"InvocationsTimeoutInSeconds": 1, "InvocationsMaxRetries": 0}

    async def answer(body, headers):
        await asyncio.sleep(BOUND)

    job = Job(store, ModelClientConfig=config).run(Model(answer))
    ((_, error),) = job.told
    assert str(error) == ("Model server did not respond to /invocations request within 1 seconds")


def test_an_instance_that_stays_out_of_service(store):
    put(store, a=b"one")
    job = Job(store)

    async def main():
        threads = Threads("test", 2)
        instance = Instance([1])
        instance.is_healthy = False
        await job.transformation(instance, threads).run(job.items())
        await asyncio.to_thread(threads.close)

    asyncio.run(main())
    ((_, error),) = job.told
    assert str(error).startswith("Unable to get response from algorithm: the instance has no")


def test_serial_containers(store):
    """An answer, with its type, is the next one's request."""
    put(store, a=b"one\ntwo\n")
    first, second = Model(upper), Model(lambda body, headers: (200, body * 2))
    more = {"TransformInput__ContentType": "text/csv", "TransformOutput__Accept": "text/x"}
    assert Job(store, **more).run(first, second).outputs() == {"a.out": b"ONE\nTWO\n" * 2}
    assert second.requests[0][0]["content-type"] == "text/model"
    assert second.requests[0][0]["accept"] == "text/x"
    first, second = Model(upper), Model(lambda body, headers: (200, body * 2))
    assert Job(store, megabytes=0, **more).run(first, second).outputs() == {
        "a.out": b"ONE\nTWO\n" * 2
    }
    assert second.requests[0][0]["transfer-encoding"] == "chunked"


@pytest.mark.parametrize("split", ["None", "Line"])
def test_streams(store, split):
    """MaxPayloadInMB 0: any length in one request, in chunks."""
    data = b"".join(b"%07d\n" % number for number in range(400_000))
    put(store, a=data, b=b"", c=gzip.compress(b"x" * 10))
    more = {"TransformInput__SplitType": split, "TransformOutput__AssembleWith": "Line"}
    model = Model(lambda body, headers: (200, b"%d" % len(body)))
    job = Job(store, 2, 0, **more).run(model)
    found = job.outputs()
    assert (found["a.out"], found["b.out"]) == (b"3200000\n", b"")
    assert all("content-length" not in headers for headers, _ in model.requests)


def test_a_stream_that_can_not_be_read(store):
    put(store, a=gzip.compress(bytes(3_000_000))[:-8])
    job = Job(store, megabytes=0, TransformInput__CompressionType="Gzip").run(Model(upper))
    ((_, error),) = job.told
    assert "ends within its gzip stream" in str(error)
    assert error.side is Side.CLIENT


def test_a_stream_is_sent_again_from_its_start(store):
    put(store, a=b"one" * 1000)

    def answer(body, headers):
        return (503, b"") if len(model.requests) == 1 else (200, body[:3])

    model = Model(answer)
    assert Job(store, megabytes=0).run(model).outputs() == {"a.out": b"one"}
    assert [len(body) for _, body in model.requests] == [3000, 3000]


def test_an_answer_before_the_end_of_a_stream(store, monkeypatch):
    """The object is closed only after the upload's thread has left it."""
    put(store, a=bytes(3 * MEGABYTE))
    closing, seen = threading.Event(), []

    def chunks(file, where, *, gunzip):
        yield file.read(MEGABYTE)
        assert closing.wait(BOUND)
        # A thread that does not wait for this one closes it meanwhile.
        until = time.monotonic() + 0.2
        while not file.closed and time.monotonic() < until:
            time.sleep(0.001)
        seen.append(file.closed)
        yield file.read(MEGABYTE)

    close = transformation._Transfer.close

    def close_it(transfer):
        closing.set()
        close(transfer)

    monkeypatch.setattr(splitting, "chunks", chunks)
    monkeypatch.setattr(transformation._Transfer, "close", close_it)

    class Early(Model):
        async def on_connection(self, reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 413 X\r\ncontent-length: 0\r\n\r\n")
            await reader.read()
            writer.close()

    job = Job(store, megabytes=0).run(Early(None))
    ((_, error),) = job.told
    assert error.lines[0] == "ClientError: 413"
    assert seen == [False]


def test_single_records_of_any_size(store):
    put(store, a=b"a\nb\n")
    model = Model(upper)
    Job(store, megabytes=0, strategy=Strategy.SINGLE, **LINE).run(model)
    assert [body for _, body in model.requests] == [b"a\n", b"b\n"]


def test_a_long_answer(store, monkeypatch):
    monkeypatch.setattr(requests, "ANSWER_LIMIT", MEGABYTE)
    put(store, a=b"x")
    job = Job(store).run(Model(lambda body, headers: (200, bytes(MEGABYTE + 1))))
    ((_, error),) = job.told
    assert str(error) == "The model's answer is too long: over 1 MB"


def test_a_full_disk(store, monkeypatch):
    put(store, a=b"one", b=b"two")

    def full(writer, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sagemaker_byoc.region.services.s3.store.writers.Writer.write", full)
    job = Job(store).run(Model(upper))
    assert {error.side for _, error in job.told} == {Side.INTERNAL}
    assert job.results.reason.startswith("InternalServerError: See job logs")


def test_an_object_that_is_deleted_meanwhile(store):
    put(store, a=b"one")
    job = Job(store)
    items = job.items()
    store.delete("bucket-in", "a")
    job.items = lambda: items
    job.run(Model(upper))
    ((_, error),) = job.told
    assert "does not exist" in str(error)


def test_a_stop_leaves_nothing(store):
    """The fixture looks for unfinished outputs."""
    put(store, a=b"1\n2\n3\n" * 50, b=b"x")
    job = Job(store, 2, strategy=Strategy.SINGLE, **LINE)
    begun = asyncio.Event()

    async def answer(body, headers):
        if len(model.requests) > 20:
            begun.set()
            await asyncio.sleep(BOUND)
        return 200, body

    model = Model(answer)

    async def main():
        running = asyncio.create_task(job.main(model))
        async with asyncio.timeout(BOUND):
            await begun.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(main())
    assert "a.out" not in job.outputs()
    assert job.told == []


@pytest.mark.parametrize("objects", [1, 3, 16])
def test_answers_that_wait_are_bounded(store, objects):
    """For all objects together, while the first request of each but the last is under way."""
    concurrent = 16
    names = [f"o{number:02}" for number in range(objects)]
    put(store, **dict.fromkeys(names[:-1], b"first\n" + b"x\n" * 200), z=b"z\n" * 200)
    released = asyncio.Event()
    waiting, last = [], []

    async def answer(body, headers):
        if body == b"first\n":
            await released.wait()
        elif not released.is_set():
            (last if body == b"z\n" else waiting).append(body)
        if len(last) == 200:
            released.set()
        return 200, body

    job = Job(store, concurrent, strategy=Strategy.SINGLE, **LINE).run(Model(answer))
    assert len(job.outputs()) == objects
    assert len(waiting) < 2 * concurrent


def test_bytes_of_answers_that_wait_are_bounded(store, monkeypatch):
    """Requests after a long one are sent when it is written."""
    monkeypatch.setattr(transformation, "_MOST_WAITING", 1000)
    put(store, a=b"1\n2\n3\n4\n")
    sent, before = [], []

    async def answer(body, headers):
        sent.append(body)
        if body == b"1\n":
            while len(sent) < 2:
                await asyncio.sleep(0)
            for _ in range(1000):  # turns of the event loop, in which the fourth could be sent
                await asyncio.sleep(0)
            before.extend(sent)
        return 200, body * 500

    job = Job(store, 2, strategy=Strategy.SINGLE, **LINE).run(Model(answer))
    assert len(job.outputs()["a.out"]) == 4000
    assert before[:2] == [b"1\n", b"2\n"]
    assert b"4\n" not in before, "the third may be on its way when the second is answered"


@pytest.mark.parametrize(("concurrent", "size", "is_over"), [(1, 60, False), (2, 60, True)])
def test_a_record_of_any_payload_is_within_the_product(store, concurrent, size, is_over):
    """MaxPayloadInMB 0 with records: the product with MaxConcurrentTransforms is at most 100."""
    put(store, a=bytes(size * MEGABYTE))
    model = Model(lambda body, headers: (200, b"%d" % len(body)))
    job = Job(store, concurrent, 0, strategy=Strategy.SINGLE, **LINE).run(model)
    assert len(job.told) == is_over
    if is_over:
        ((_, error),) = job.told
        assert "a line is over 50 MB" in str(error)


@pytest.mark.slow
def test_memory_of_a_long_object(store, tmp_path):
    """200 MB in batches of 1 MB grow the process by a few of them."""
    path = tmp_path / "long"
    with path.open("wb") as file:
        for _ in range(200):
            file.write((b"x" * 1023 + b"\n") * 1024)
    store.put_file("bucket-in", "long", path, move=True)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model = Model(lambda body, headers: (200, b"y" * 1000))
    model.requests = type("Nothing", (), {"append": lambda self, found: None})()
    job = Job(store, 4, 1, **LINE).run(model)
    assert len(job.outputs()["long.out"]) == 200_000
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 60 << 10, f"{grown} KiB"
