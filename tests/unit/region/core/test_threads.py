"""Short calls that share a thread."""

import asyncio
import threading

import pytest

from sagemaker_byoc.region.core.threads import Threads


@pytest.fixture
def threads():
    made = Threads("test")
    yield made
    made.close()


async def together(threads, calls):
    outcomes = (threads.run_short(call) for call in calls)
    return await asyncio.gather(*outcomes, return_exceptions=True)


def test_calls_of_one_turn_share_a_thread(threads):
    barrier = threading.Barrier(2, timeout=10)

    def meet():
        barrier.wait()
        return threading.get_ident()

    quick = [threading.get_ident] * 7
    found = asyncio.run(together(threads, [meet, *quick, meet, *quick]))
    assert len(set(found)) == 2
    assert found == [found[0]] * 8 + [found[8]] * 8


def test_a_failure_is_its_callers(threads):
    error, value, other = asyncio.run(together(threads, [lambda: 1 // 0, lambda: 2, dict]))
    assert isinstance(error, ZeroDivisionError)
    assert (value, other) == (2, {})


def test_a_client_that_has_left(threads):
    """The calls beside its own go on."""
    begun, may_end = threading.Event(), threading.Event()

    def slow():
        begun.set()
        return may_end.wait(10)

    async def leave():
        left = asyncio.ensure_future(threads.run_short(slow))
        stays = asyncio.ensure_future(threads.run_short(lambda: 3))
        assert await asyncio.to_thread(begun.wait, 10)
        left.cancel()
        may_end.set()
        return await stays, left.cancelled()

    assert asyncio.run(leave()) == (3, True)


def test_a_client_that_leaves_before_its_call(threads):
    """Nothing is read for it."""
    calls = []

    async def leave():
        left = asyncio.ensure_future(threads.run_short(lambda: calls.append("left")))
        stays = asyncio.ensure_future(threads.run_short(lambda: calls.append("stays")))
        await asyncio.sleep(0)  # both are asked, and no thread has them
        left.cancel()
        await stays

    asyncio.run(leave())
    assert calls == ["stays"]


def test_a_call_that_raises_what_a_future_can_not_hold(threads):
    error, value = asyncio.run(together(threads, [lambda: next(iter(())), lambda: 2]))
    assert isinstance(error, RuntimeError)
    assert value == 2


def test_threads_that_end_before_the_call():
    threads = Threads("test", 1)
    begun, may_end = threading.Event(), threading.Event()

    def slow():
        begun.set()
        may_end.wait(10)

    async def ask():
        first = asyncio.ensure_future(threads.run_short(slow))
        assert await asyncio.to_thread(begun.wait, 10)
        second = asyncio.ensure_future(threads.run_short(dict))
        await asyncio.sleep(0)  # it is asked
        await asyncio.sleep(0)  # it waits for the only thread
        threads.abandon()
        may_end.set()
        await first
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(second, 10)

    asyncio.run(ask())


def test_threads_that_have_ended():
    threads = Threads("test")
    threads.close()

    async def ask():
        with pytest.raises(RuntimeError, match="after shutdown"):
            await threads.run_short(dict)

    asyncio.run(ask())
