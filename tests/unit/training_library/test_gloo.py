"""When a gloo thread counts as idle."""

import ctypes
import threading
import time

import pytest

from sagemaker_byoc.training.library.gloo import THREAD_NAME, wait_until_idle

PR_SET_NAME = 15


@pytest.fixture
def thread():
    """A thread with gloo's name: works until the yielded event is cleared, then sleeps."""
    work, end, named = threading.Event(), threading.Event(), threading.Event()

    def run():
        ctypes.CDLL(None).prctl(PR_SET_NAME, THREAD_NAME.encode())
        named.set()
        while work.is_set():
            pass
        end.wait()

    work.set()
    made = threading.Thread(target=run)
    made.start()
    assert named.wait(10)
    yield work
    work.clear()
    end.set()
    made.join()


def test_none():
    """A program without gloo pays for one look."""
    assert wait_until_idle(0)


def test_a_thread_that_works(thread):
    """It is waited for, for a limited time."""
    assert not wait_until_idle(0.1)
    threading.Timer(0.1, thread.clear).start()
    begin = time.monotonic()
    assert wait_until_idle(30)
    assert time.monotonic() - begin > 0.05


def test_a_thread_that_sleeps(thread):
    """An idle thread is not waited for."""
    thread.clear()
    assert wait_until_idle(30)
