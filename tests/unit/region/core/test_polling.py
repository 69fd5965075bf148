"""Whose requests may be held back, how long, and how many."""

from __future__ import annotations

import asyncio
import contextvars

import pytest
from botocore.session import Session

from sagemaker_byoc.region.core import polling
from sagemaker_byoc.region.core.polling import (
    CLIENT,
    FOLLOWS,
    SDK,
    WAITER_SECONDS,
    WAITS,
    Holds,
    Subject,
    is_sdk,
    is_waiter,
)


class SentError(Exception):
    pass


@pytest.mark.parametrize(
    ("user_agent", "expected"),
    [
        ("Boto3/1 md/Botocore#1 ua/2.1 os/linux m/B", True),
        ("Botocore/1 m/Z,b,N,E,B,e cfg/retry-mode#standard", True),
        ("Botocore/1 m/Z,b,C", False),
        ("Botocore/1 cfg/m/B", False),
        ("", False),
    ],
)
def test_features_are_read_from_the_user_agent(user_agent, expected):
    assert is_waiter(user_agent) is expected


@pytest.mark.slow
@pytest.mark.parametrize("waits", [True, False])
def test_the_installed_botocore_names_its_waiters_so(waits):
    session = Session(session_vars={"profile": (None, None, None, None)})
    client = session.create_client(
        "sagemaker",
        region_name="us-east-1",
        aws_access_key_id="a",
        aws_secret_access_key="b",
        endpoint_url="http://127.0.0.1:9",
    )
    seen = []

    def keep(request, **_):
        seen.append(request.headers["User-Agent"].decode())
        raise SentError

    client.meta.events.register("before-send.*.*", keep)
    call = client.get_waiter("endpoint_in_service").wait if waits else client.describe_endpoint
    with pytest.raises(SentError):
        call(EndpointName="e")
    assert [is_waiter(text) for text in seen] == [waits]


@pytest.mark.parametrize(
    ("user_agent", "expected"),
    [
        ("Boto3/1.43 md/Botocore#1 lib/AWS-SageMaker-Python-SDK#2.257.7", True),
        ("Boto3/1.43 lib/AWS-SageMaker-Python-SDK#3.27.0 md/AWS-SageMaker-Studio#x", True),
        ("Boto3/1.43 lib/AWS-SageMakerCore#2.27.0", True),
        ("Boto3/1.43 md/Botocore#1", False),
        ("", False),
    ],
)
def test_sdks_are_known_by_their_user_agent(user_agent, expected):
    assert is_sdk(user_agent) is expected


class QuickLoop(asyncio.SelectorEventLoop):
    """A loop whose clock jumps to the next timer whenever nothing else is left to do."""

    now = 1000.0

    def time(self):
        return self.now

    def _run_once(self):
        if not self._ready and self._scheduled:
            self.now = max(self.now, self._scheduled[0].when())
        super()._run_once()


SUBJECT = Subject(
    look=lambda document: (document["step"],),
    has_ended=lambda document: document["step"] == "end",
    hold=5.0,
    settle=2.0,
    sdk_first=25.0,
    sdk_hold=8.0,
)


class Scene:
    """A job whose steps come at given times, and clients that look at it."""

    def __init__(self, steps):
        self.holds = Holds()
        self.watch = self.holds.watch(SUBJECT)
        self.watch.start()
        self.loop = asyncio.get_running_loop()
        self.begin = self.loop.time()
        self.step = "begun"
        for seconds, step in steps:
            self.loop.call_later(seconds, self._enter, step)

    def _enter(self, step):
        self.step = step
        self.watch.announce("job")

    @property
    def seconds(self):
        return round(self.loop.time() - self.begin, 1)

    def start(self, client, *kinds):
        """A look in the context of a request."""
        context = contextvars.copy_context()
        context.run(CLIENT.set, client)
        for kind in kinds:
            context.run(kind.set, True)
        look = self.watch.see("job", lambda: {"step": self.step})
        return self.loop.create_task(look, context=context)

    async def look(self, client, *kinds):
        """What the client sees, and when."""
        return (await self.start(client, *kinds))["step"], self.seconds

    async def ask(self, client, *kinds):
        """A change that the client asks for."""
        context = contextvars.copy_context()
        context.run(CLIENT.set, client)
        for kind in kinds:
            context.run(kind.set, True)
        context.run(self.watch.expect, "job")
        await asyncio.sleep(0)


def play(scene, *steps):
    """`steps` are pairs: seconds from the beginning, step of the job."""

    async def run():
        await scene(Scene(steps))

    with asyncio.Runner(loop_factory=QuickLoop) as runner:
        runner.run(run())


def test_a_lone_look_is_answered_at_once():
    """Whoever looks: a script that prints the state, a page, a person with an SDK."""

    async def scene(job):
        assert await job.look("1") == ("begun", 0)
        assert await job.look("2", SDK) == ("begun", 0)
        assert await job.look("") == ("begun", 0)
        assert await job.look("") == ("begun", 0)

    play(scene, (60, "end"))


def test_a_client_that_polls_is_held_until_there_is_news():
    async def scene(job):
        await job.look("1")
        assert await job.look("1") == ("begun", 7)  # hold, and the time to settle
        assert await job.look("1") == ("next", 11)  # at 9, and 2 s more for the end
        assert await job.look("1", FOLLOWS) == ("next", 16)

    play(scene, (9, "next"), (60, "end"))


def test_news_wait_for_an_end_that_is_near():
    async def scene(job):
        await job.look("1")
        assert await job.look("1") == ("end", 4.5)
        assert await job.look("1") == ("end", 4.5)

    play(scene, (3, "next"), (4.5, "end"))


def test_a_client_that_follows_gets_each_step():
    async def scene(job):
        await job.look("1", FOLLOWS)
        assert await job.look("1", FOLLOWS) == ("next", 3)

    play(scene, (3, "next"), (4.5, "end"))


def test_a_waiter_is_held_from_its_first_look_on():
    async def scene(job):
        assert await job.look("1", WAITS) == ("begun", WAITER_SECONDS)
        assert await job.look("1", WAITS) == ("end", 60)

    play(scene, (7, "begun"), (60, "end"))


@pytest.mark.parametrize(("end", "seen"), [(20, ("end", 20)), (60, ("next", 30))])
def test_the_wait_of_an_sdk_is_held_until_the_end(end, seen):
    """It sleeps before its first look, and half a minute after it."""

    async def scene(job):
        await job.ask("1", SDK)
        await asyncio.sleep(5)
        assert await job.look("1", SDK) == seen

    play(scene, (7, "next"), (end, "end"))


@pytest.mark.parametrize("seconds", [0, 3.9, 46])
def test_other_looks_of_an_sdk_are_not_its_wait(seconds):
    async def scene(job):
        await job.ask("1", SDK)
        await asyncio.sleep(seconds)
        assert await job.look("1", SDK) == ("begun", seconds)

    play(scene, (60, "end"))


@pytest.mark.parametrize(("asks", "looks"), [(("1", SDK), ("2", SDK)), (("1",), ("1", SDK))])
def test_only_who_asked_waits(asks, looks):
    async def scene(job):
        await job.ask(*asks)
        await asyncio.sleep(5)
        assert await job.look(*looks) == ("begun", 5)

    play(scene, (60, "end"))


def test_later_looks_of_an_sdk():
    async def scene(job):
        await job.look("1", SDK)
        assert await job.look("1", SDK) == ("begun", 10)  # hold, and the time to settle

    play(scene, (60, "end"))


def test_the_number_of_held_answers_is_bounded(monkeypatch):
    monkeypatch.setattr(polling, "MOST_HELD", 3)

    async def scene(job):
        held = [job.start(str(number), WAITS) for number in range(3)]
        await asyncio.sleep(1)
        assert job.holds.count == 3
        assert await job.look("more", WAITS) == ("begun", 1)
        held[0].cancel()  # its client has left
        await asyncio.sleep(1)
        assert job.holds.count == 2
        assert await job.look("more", WAITS) == ("end", 20)
        await asyncio.gather(*held[1:])
        assert job.holds.count == 0
        assert not job.watch._waiting

    play(scene, (20, "end"))


def test_the_end_of_the_region_releases_all():
    async def scene(job):
        held = [job.start(str(number), WAITS) for number in range(3)]
        await asyncio.sleep(1)
        job.holds.release()
        assert [(await each)["step"] for each in held] == ["begun"] * 3
        assert await job.look("late", WAITS) == ("begun", 1)

    play(scene, (20, "end"))


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(polling, "REMEMBERED", 2)

    async def scene(job):
        for number in range(5):
            await job.ask(str(number), SDK)
            await job.look(str(number), SDK)
        assert len(job.watch._looks) == len(job.watch._asked) == 2

    play(scene, (20, "end"))


def test_a_cancellation_that_comes_with_the_change_is_kept():
    async def live():
        watch = Holds().watch(SUBJECT)
        watch.start()
        task = asyncio.create_task(watch._change("n", 60.0))
        await asyncio.sleep(0)
        watch.wake_all()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(live())
