"""The workers of one model, with processes that are only numbers and answer as a test says."""

from __future__ import annotations

import selectors
import socket
import time
from dataclasses import replace

import pytest

from sagemaker_byoc.serving.settings import Settings
from sagemaker_byoc.serving.supervisor import processes, workers
from sagemaker_byoc.serving.supervisor.slots import DEATHS_IN_WINDOW, LOADED, Channel, Slot
from sagemaker_byoc.serving.supervisor.workers import FAILED, FORK, FORKED, LoadFailedError, Workers

SETTINGS = replace(
    Settings.from_environ({"CUDA_VISIBLE_DEVICES": ""}),
    slots=3,
    cpus=3,
    threads=1,
    is_automatic=True,
)
KILLED = -9


class Scripted(Workers):
    """Workers whose processes are channels of the test, by pid; time passes by `sooner`."""

    def __init__(self, monkeypatch, **changes):
        self.started = []
        self.killed = []
        self.ends = {}
        monkeypatch.setattr(Slot, "start", self._start_slot)
        monkeypatch.setattr(processes, "kill_session", self.killed.append)
        self.link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        super().__init__(replace(SETTINGS, **changes), self.link, selectors.DefaultSelector())
        self.start_all()

    @property
    def _start_slot(self):
        def start(slot, settings, link, *, of=0, is_loader=False):
            slot.pid = 100 + len(self.started)
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            slot.channel, slot.start_at = Channel(ours), None
            self.ends[slot.pid] = Channel(theirs)
            self.started.append((slot.index, of, is_loader, settings.threads))

        return start

    def turn(self, *ended, after=0.0):
        """One turn of the supervisor's loop, so many seconds later."""
        now = time.monotonic() + after
        self.handle_messages()
        for pid in ended:
            self.on_end(pid, KILLED)
        self.start_due(now)
        return self.step(now)

    def loaded(self, pid, count=3, *, forks=True):
        self.ends[pid].send(LOADED, workers=count, threads=1, forks=forks)
        self.turn()
        self.turn()

    def asked(self, pid=100):
        return [message["slot"] for message in self.ends[pid].receive() if message["what"] == FORK]

    def fork(self, slot, pid, template=100):
        self.ends[template].send(FORKED, slot=slot, pid=pid)

    def pids(self):
        return [slot.pid for slot in self.slots]


@pytest.fixture
def scripted(monkeypatch):
    def make(**changes):
        found.append(Scripted(monkeypatch, **changes))
        return found[-1]

    found = []
    yield make
    for one in found:
        one.link.close()
        one.close()
        one._selector.close()
        for end in one.ends.values():
            end.close()


@pytest.fixture
def forked(scripted):
    """Three workers, 1 to 3, forked from process 100."""
    found = scripted()
    found.loaded(100)
    assert sorted(found.asked()) == [0, 1, 2]
    for slot in range(3):
        found.fork(slot, slot + 1)
    found.turn()
    assert found.pids() == [1, 2, 3]
    return found


def test_loader_first(scripted):
    """One process loads; the others wait for what it says."""
    found = scripted()
    assert found.started == [(0, 0, True, 1)]
    found.loaded(100, 2)
    assert found.asked() == [0, 1]
    assert (found.template_pid, len(found.slots)) == (100, 2)
    assert found.was_loaded


def test_not_forked(scripted):
    """The loader becomes a worker; the others start with the number and the threads it has told."""
    found = scripted()
    found.ends[100].send(LOADED, workers=2, threads=5, forks=False)
    found.turn()
    found.turn()
    assert found.started == [(0, 0, True, 1), (1, 2, False, 5)]
    assert (found.template_pid, found.pids()) == (None, [100, 101])
    found.turn(101)
    assert len(found.slots) == 1  # it has never loaded, and was not asked for
    found.turn(100)
    found.turn(after=1.0)
    assert found.started[2:] == [(0, 1, False, 5)]


@pytest.mark.parametrize("changes", [{"worker_start": "spawn"}, {"gpus": ("0", "1", "2")}])
def test_all_at_once(scripted, changes):
    """A known number of workers that are not forked needs no loader."""
    found = scripted(is_automatic=False, **changes)
    assert found.started == [(index, 3, False, 1) for index in range(3)]
    with pytest.raises(LoadFailedError, match="can't be loaded: the worker of slot 1 was ended"):
        found.turn(101)


def test_none_on_multi_model(scripted):
    """All models come by request there."""
    found = scripted(is_automatic=False, is_multi_model=True)
    assert (found.started, found.slots, found.was_loaded) == ([], [], False)


def test_first_load_fails(scripted):
    """Nothing can be served."""
    found = scripted()
    with pytest.raises(LoadFailedError, match="the worker of slot 0 was ended by SIGKILL"):
        found.turn(100)


def test_worker_ends(forked):
    """It is forked again after the delay; the fifth death within a minute is the end."""
    forked.turn(2)
    assert (forked.killed, forked.asked()) == ([2], [])
    forked.turn(after=1.0)
    assert forked.asked() == [1]
    forked.fork(1, 12)
    forked.turn()
    assert forked.pids() == [1, 12, 3]
    pid = 12
    for death in range(DEATHS_IN_WINDOW - 2):
        forked.turn(pid)
        forked.turn(after=60.0)
        pid = 20 + death
        forked.fork(1, pid)
        forked.turn()
    with pytest.raises(LoadFailedError, match=r"slot 1: its worker was ended by SIGKILL.* again"):
        forked.turn(pid)
    assert len(forked.started) == 1


def test_ends_before_its_pid_is_read(forked):
    """A worker that ends at once has reported its pid before, so its end is not lost."""
    forked.turn(2)
    forked.turn(after=1.0)
    forked.fork(1, 12)
    forked.turn(12)
    assert forked.slots[1].start_at is not None


def test_no_further_process(forked):
    """A fork that fails is tried again."""
    forked.turn(2)
    forked.turn(after=1.0)
    forked.ends[100].send(FAILED, slot=1, why="no further process can be started")
    forked.asked()
    forked.turn()
    forked.turn(after=5.0)
    assert forked.asked() == [1]


def test_idle_template_ends(forked, capfd):
    """The workers continue; the next one that is needed loads, and is the new template."""
    forked.ends[100].close()
    forked.turn()
    forked.turn(100)
    assert (forked.template_pid, forked.pids(), len(forked.started)) == (None, [1, 2, 3], 1)
    assert "forked from was ended by SIGKILL" in capfd.readouterr().err
    forked.turn(3)
    forked.turn(after=1.0)
    assert forked.started[1:] == [(2, 3, True, 1)]
    forked.turn(1)
    forked.turn(after=1.0)  # slot 0 waits for it
    forked.loaded(101)
    assert sorted(forked.asked(101)) == [0, 2]
    assert len(forked.started) == 2


def test_template_ends_within_a_fork(forked):
    """What it was asked for is asked of the next, once nobody is left that may have answered."""
    forked.turn(2)
    forked.turn(after=1.0)
    forked.turn(100)
    assert len(forked.started) == 1
    forked.fork(1, 12)  # by the process that it has left behind
    forked.turn()
    assert forked.pids() == [1, 12, 3]
    forked.ends[100].close()
    forked.turn()
    assert (forked.template_pid, len(forked.started)) == (None, 1)


@pytest.mark.parametrize("is_closed", [True, False])
def test_template_ends_without_an_answer(forked, is_closed):
    """A loader starts, after the last words or after a time."""
    forked.turn(2)
    forked.turn(after=1.0)
    if is_closed:
        forked.ends[100].close()
    forked.turn(100)
    for after in (6.0, 7.0, 7.0):
        forked.turn(after=after)
    assert forked.started[1:] == [(1, 3, True, 1)]


def test_stuck_template(forked):
    """It is ended if it does not fork in time."""
    forked.turn(2)
    forked.turn(after=1.0)
    assert 100 not in forked.killed
    forked.turn(after=1.0 + workers.FORK_TIME)
    assert 100 in forked.killed


def test_templates_end_again_and_again(forked):
    """As with workers, that is the end."""
    template = 100

    def end_within_a_fork():
        forked.ends[template].close()
        forked.turn()
        forked.turn(template)

    forked.turn(2)
    forked.turn(after=1.0)
    for death in range(1, DEATHS_IN_WINDOW):
        end_within_a_fork()
        forked.turn(after=60.0)
        template = 100 + death
        forked.loaded(template)
        assert forked.asked(template) == [1]
    with pytest.raises(LoadFailedError, match="again and again"):
        end_within_a_fork()


def test_loader_ends_later(forked):
    """Its slot and those that wait for it start again after the delay."""
    forked.ends[100].close()
    forked.turn()
    forked.turn(100)
    forked.turn(1, 2)
    forked.turn(after=1.0)
    assert forked.started[1:] == [(0, 3, True, 1)]
    forked.turn(101)
    forked.turn(after=3.0)
    assert [slot for slot, *_ in forked.started] == [0, 0, 0]
    forked.loaded(102)
    assert sorted(forked.asked(102)) == [0, 1]


def test_stop(forked):
    """Nothing is read any more, and a template that has ended is not signalled."""
    forked.stop_watching()
    assert forked.template_pid == 100
    forked.forget_template(100)
    assert forked.template_pid is None
