"""Programs that end with the block that started them."""

import os
import signal
import subprocess

import pytest

from sagemaker_byoc.host.children import Child


def sleeper():
    return subprocess.Popen(["sleep", "60"], start_new_session=True)


def test_a_program_ends_with_its_block():
    with Child(sleeper) as process:
        assert process.poll() is None
    assert process.returncode == -signal.SIGKILL


def test_one_that_has_ended_is_left():
    with Child(lambda: subprocess.Popen(["false"])) as process:
        process.wait()
    assert process.returncode == 1


def test_its_own_way_to_end():
    with Child(sleeper, subprocess.Popen.terminate) as process:
        pass
    assert process.returncode == -signal.SIGTERM


def test_a_signal_between_the_start_and_the_first_line_of_the_block():
    started = []

    def start():
        started.append(sleeper())
        os.kill(os.getpid(), signal.SIGUSR1)
        return started[0]

    def interrupt(*_):
        raise KeyboardInterrupt

    former = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt), Child(start):
            pytest.fail("the signal came before")
    finally:
        signal.signal(signal.SIGUSR1, former)
    assert started[0].returncode == -signal.SIGKILL


def test_one_that_cannot_be_started():
    with pytest.raises(FileNotFoundError), Child(lambda: subprocess.Popen(["/absent"])):
        pytest.fail("it can't be started")
