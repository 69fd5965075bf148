"""Signals, orphans and leftovers: as an ordinary process, and as PID 1 of a container."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from tests.unit.training.supervisor.conftest import wait_until

pytestmark = pytest.mark.slow  # real processes


@pytest.fixture(params=["ordinary process", "PID 1"])
def prefix(request):
    """Both ways to be started: as any process, and as a container's first."""
    return request.getfixturevalue("pid_1") if request.param == "PID 1" else []


def supervisor_of(running, prefix):
    """The process id of the supervisor as it is seen from here."""
    if not prefix:
        return running.process.pid
    children = f"/proc/{running.process.pid}/task/{running.process.pid}/children"
    with open(children) as file:
        return int(file.read().split()[0])


def stop(running, prefix, number=signal.SIGTERM):
    running.wait_for_line("ready")
    os.kill(supervisor_of(running, prefix), number)


def test_sigterm_saves_the_model(container, prefix):
    """The program gets SIGTERM and saves, and its exit code is the container's."""
    container.program("saves_on_sigterm.py")
    running = container.start(prefix=prefix)
    stop(running, prefix)
    result = running.result()
    assert result.code == 7
    assert (container.tree.model / "model.txt").read_text() == "weights"
    assert "byoc: SIGTERM: passed on; the program has 110 s to end" in result.err


def test_ignored_sigterm_ends_in_sigkill(container, prefix):
    """A program that outlives the grace period is killed, and the failure file reports it."""
    container.program("ignores_sigterm.py")
    container.environ["BYOC_STOP_GRACE"] = "0.2"
    running = container.start(prefix=prefix)
    stop(running, prefix)
    result = running.result()
    assert result.code == 137
    assert result.failure.startswith("did not end in time after SIGTERM, and was killed")


def test_unhandled_sigterm(container, prefix):
    """A program without a handler ends as it would without us: 143."""
    container.program("waits.py")
    running = container.start(prefix=prefix)
    stop(running, prefix)
    result = running.result()
    assert result.code == 143
    assert result.failure.startswith("stopped by SIGTERM")


SAVES_LATER = """\
import os, pathlib, signal, sys
shell, stops = os.getppid(), []
def save(*_):
    pathlib.Path(os.environ["SM_MODEL_DIR"], "stops").write_text(str(len(stops)))
    os._exit(0)
signal.signal(signal.SIGTERM, lambda *_: stops.append(1))
signal.signal(signal.SIGUSR1, save)
print("ready", flush=True)
while not stops:
    signal.pause()
while pathlib.Path(f"/proc/{shell}").exists():
    pass
os.kill(os.getppid(), signal.SIGUSR1)  # passed on by the supervisor, after all else it sends
while True:
    signal.pause()
"""


@pytest.mark.parametrize("ends", [True, False])
def test_what_a_shell_started_has_the_whole_grace(container, prefix, ends):
    """The signal ends a shell at once; the program in it is signalled once, and saves its work."""
    source = SAVES_LATER if ends else SAVES_LATER.replace("save)", "signal.SIG_IGN)")
    container.text(source, sagemaker_program="train.sh")
    (container.tree.code / "train.sh").write_text(f"{sys.executable} train.py\n:\n")
    if not ends:
        container.environ["BYOC_STOP_GRACE"] = "0.2"
    running = container.start(prefix=prefix)
    stop(running, prefix)
    result = running.result()
    saved = container.tree.model / "stops"
    assert saved.read_text() == "1" if ends else not saved.exists()
    words = "stopped by SIGTERM" if ends else "did not end in time after SIGTERM, and was killed"
    assert (result.code, result.failure.startswith(words)) == (143, True)


def test_interrupted_python_leaves_nothing(container):
    """After its own handlers, the processes that it left running are asked to end at once."""
    container.text(
        "import os, pathlib, signal\n"
        "def end(*_):\n"
        "    pathlib.Path(os.environ['SM_MODEL_DIR'], 'ended').touch()\n"
        "    os._exit(0)\n"
        "if os.fork() == 0:\n"
        "    signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "    signal.signal(signal.SIGTERM, end)\n"
        "    print('ready', flush=True)\n"
        "while True: signal.pause()"
    )
    container.environ["BYOC_STOP_GRACE"] = "10"
    running = container.start()
    stop(running, [], signal.SIGINT)
    assert running.result().code == 130
    assert (container.tree.model / "ended").exists()


def test_stop_before_the_start(container):
    """A signal that comes while the job is still being read is not lost: nothing is started."""
    container.text("print('ran')")
    document = container.tree.hyperparameters_file
    document.unlink()
    os.mkfifo(document)
    running = container.start()
    with open(document, "w") as file:  # opens when the supervisor does
        os.kill(running.process.pid, signal.SIGTERM)
        file.write("{}")
    result = running.result()
    assert (result.code, result.out) == (143, "")
    assert result.failure == "stopped by SIGTERM before the program was started"


def test_second_interrupt_does_not_wait(container):
    """Ctrl-C twice ends at once what ignores the first."""
    container.program("ignores_sigterm.py")
    source = container.tree.code / "train.py"
    source.write_text(source.read_text().replace("SIGTERM", "SIGINT"))
    running = container.start()
    stop(running, [], signal.SIGINT)
    wait_until(lambda: "SIGINT: passed on" in (running.folder / "err").read_text(), "the first")
    os.kill(running.process.pid, signal.SIGINT)
    assert running.result().code == 137


def test_user_signal_reaches_the_program(container):
    """SIGUSR1 means what the program takes it for."""
    container.text(
        "import signal\n"
        "signal.signal(signal.SIGUSR1, lambda *_: exit(5))\n"
        "print('ready')\n"
        "while True: signal.pause()"
    )
    running = container.start()
    stop(running, [], signal.SIGUSR1)
    assert running.result().code == 5


def test_leftovers_are_ended(container, prefix):
    """Nothing that the program left outlives the job, nor holds it up by keeping a pipe open."""
    container.program("leaves_orphan.py")
    container.environ["BYOC_STOP_GRACE"] = "0.2"
    result = container.run(prefix=prefix)
    assert result.code == 0
    left = [line.split()[1] for line in result.out.splitlines() if line.startswith("left")]
    assert len(left) == 2
    if not prefix:  # else these are numbers of a namespace that is gone
        assert not any(Path(f"/proc/{pid}").exists() for pid in left)


def test_orphans_are_reaped(container, prefix):
    """Grandchildren that lost their parent do not stay as zombies."""
    container.program("makes_zombies.py")
    assert container.run(prefix=prefix).code == 0
