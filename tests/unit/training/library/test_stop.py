import os
import signal

import pytest

from sagemaker_byoc.training.library.stop import StopFlag, steps_apart

pytestmark = pytest.mark.slow  # real processes


@pytest.fixture
def flag():
    flag = StopFlag(every=4)
    yield flag
    flag.close()


def test_sigterm_sets_the_flag(flag):
    """The signal itself changes nothing but the flag."""
    os.kill(os.getpid(), signal.SIGTERM)
    assert flag.is_set


def test_the_answer_changes_only_where_the_ranks_meet(flag):
    """Between two meetings the flag waits, and after one the answer stays."""
    answers = []
    for step in range(1, 9):
        if step == 3:
            flag.set()
        answers.append(flag.agreed(step))
    assert answers == [False] * 4 + [True] * 4


def test_closing_gives_the_signal_back():
    """A handler of the script's own is back in its place."""
    before = signal.getsignal(signal.SIGTERM)
    flag = StopFlag()
    assert signal.getsignal(signal.SIGTERM) != before
    flag.close()
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_handler_that_was_there_is_called_too():
    """Two libraries may both want to know."""
    seen = []
    before = signal.signal(signal.SIGTERM, lambda *_: seen.append(1))
    flag = StopFlag()
    os.kill(os.getpid(), signal.SIGTERM)
    flag.close()
    signal.signal(signal.SIGTERM, before)
    assert seen == [1]
    assert flag.is_set


def test_a_wish_is_agreed_on_in_the_same_message(flag):
    """It holds for the one step at which the ranks met."""
    flag.agreed(1, wish=lambda: True)
    assert flag.wished
    flag.agreed(2, wish=lambda: True)
    assert not flag.wished


@pytest.mark.parametrize(
    ("microseconds", "steps"), [(0, 1), (10_000, 32), (100_000, 10), (5_000_000, 1)]
)
def test_meetings_are_about_a_second_apart(microseconds, steps):
    """Short steps meet rarely, long ones each time."""
    assert steps_apart(microseconds) == steps


def test_a_flag_without_meetings_is_refused():
    """every=0 would never be agreed on."""
    with pytest.raises(ValueError, match="at least 1"):
        StopFlag(every=0)
