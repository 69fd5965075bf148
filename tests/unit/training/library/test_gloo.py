"""When a gloo thread counts as idle."""

import ctypes
import threading
import time

import pytest

from sagemaker_byoc.training.library import gloo
from sagemaker_byoc.training.library.gloo import THREAD_NAME, wait_until_idle

PR_SET_NAME = 15


class Thread:
    """Has gloo's name, and a condition variable of the C library, as gloo's have."""

    def __init__(self):
        self._c = ctypes.CDLL(None)
        self._mutex = ctypes.create_string_buffer(64)  # all zero: PTHREAD_MUTEX_INITIALIZER
        self._condition = ctypes.create_string_buffer(64)
        self._busy = True
        self._named = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        assert self._named.wait(10)
        return self

    def _run(self):
        self._c.prctl(PR_SET_NAME, THREAD_NAME.encode())
        self._named.set()
        while self._busy:
            pass
        self._c.pthread_mutex_lock(self._mutex)
        self._c.pthread_cond_wait(self._condition, self._mutex)

    def finish_work(self):
        self._busy = False

    def __exit__(self, *_):
        self.finish_work()
        while self._thread.is_alive():
            self._c.pthread_cond_signal(self._condition)
            self._thread.join(0.01)


@pytest.fixture
def thread():
    with Thread() as made:
        yield made


def test_none():
    """A program without gloo pays for one look."""
    assert wait_until_idle(0)


def test_one_look_is_not_enough(thread, monkeypatch):
    """A working thread may wait for a moment."""
    answers = iter([True])
    monkeypatch.setattr(gloo, "_is_idle", lambda _thread: next(answers, False))
    assert not wait_until_idle(0.1)


def test_a_thread_that_works(thread):
    """It is waited for, for a limited time."""
    assert not wait_until_idle(0.1)
    threading.Timer(0.1, thread.finish_work).start()
    begin = time.monotonic()
    assert wait_until_idle(30)
    assert time.monotonic() - begin > 0.05


def test_a_thread_that_waits_for_a_peer():
    """A collective waits with a timeout, as Event.wait does: such a thread is not idle."""
    end, named = threading.Event(), threading.Event()

    def run():
        ctypes.CDLL(None).prctl(PR_SET_NAME, THREAD_NAME.encode())
        named.set()
        end.wait(60)

    waiting = threading.Thread(target=run)
    waiting.start()
    assert named.wait(10)
    assert not wait_until_idle(0.1)
    end.set()
    waiting.join()


def test_a_thread_that_sleeps(thread):
    """An idle thread is not waited for."""
    thread.finish_work()
    assert wait_until_idle(30)
