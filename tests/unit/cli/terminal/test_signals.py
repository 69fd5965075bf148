"""SIGINT, SIGTERM and SIGHUP end what a command has begun, at any moment, and leave nothing."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tests.support.waiting import wait_until

from sagemaker_byoc.cli.main import main
from sagemaker_byoc.cli.terminal import signals
from sagemaker_byoc.contract.variables import REGION_OWNER
from sagemaker_byoc.host import owners

BYOC = [sys.executable, "-m", "sagemaker_byoc.cli"]
SIGINT, SIGTERM, SIGHUP = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
STUBBORN = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(os.environ["SM_MODEL_DIR"] + "/m", "w").write("x")
print("started", flush=True)
time.sleep(600)
"""
SAVING = """
import os, signal, sys
def save(*_):
    open(os.environ["SM_MODEL_DIR"] + "/m", "w").write("x")
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
print("started", flush=True)
signal.pause()
"""


def raised(numbers, *asks):
    """The exit code of a command that gets these signals, None if it is not ended by them."""
    with signals.handled() as received:
        try:
            with received.asking(*asks):
                for number in numbers:
                    os.kill(os.getpid(), number)
        except signals.Interrupted:
            return received.exit_code
    return None


def test_the_first_signal_raises_by_default():
    for number in (SIGINT, SIGTERM, SIGHUP):
        assert raised([number]) == 128 + number


def test_a_command_is_asked_before_anything_is_raised():
    """Only Ctrl-C counts again: a closed terminal and its shell send SIGHUP twice."""
    told = []
    asks = [lambda: told.append("stop"), lambda: told.append("kill")]
    assert raised([SIGHUP, SIGHUP, SIGTERM], *asks) is None
    assert told == ["stop"]
    assert raised([SIGTERM, SIGINT, SIGTERM], *asks) is None
    assert told == ["stop", "stop", "kill"]
    assert raised([SIGINT, SIGINT, SIGINT], *asks) == 130


def test_a_signal_before_the_asking_is_not_lost():
    told = []
    with signals.handled() as received:
        with pytest.raises(signals.Interrupted):
            os.kill(os.getpid(), SIGTERM)
        with received.asking(lambda: told.append("stop")):
            pass
    assert told == ["stop"]


def test_the_clean_up_is_not_interrupted():
    """One more Ctrl-C does nothing; the one after it would end the process."""
    with signals.handled():
        with pytest.raises(signals.Interrupted):
            os.kill(os.getpid(), SIGINT)
        os.kill(os.getpid(), SIGINT)
        os.kill(os.getpid(), SIGHUP)


def test_handlers_are_put_back():
    before = [signal.getsignal(number) for number in signals.NUMBERS]
    with signals.handled():
        pass
    assert [signal.getsignal(number) for number in signals.NUMBERS] == before


@pytest.mark.parametrize("number", [SIGHUP, SIGINT])
def test_what_the_caller_ignores_stays_ignored(number):
    """SIGHUP under nohup, SIGINT in a background job of a shell."""
    old = signal.signal(number, signal.SIG_IGN)
    try:
        with signals.handled():
            assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, old)


def test_in_another_thread_signals_are_left_alone():
    codes = []
    thread = threading.Thread(target=lambda: codes.append(main(["completion", "bash"])))
    thread.start()
    thread.join()
    assert codes == [0]


# ── real processes ──


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    for name, text in (("stubborn", STUBBORN), ("saving", SAVING)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.py").write_text(text)
    (tmp_path / "model").mkdir()
    (tmp_path / "handler.py").write_text(
        "def model_fn(d): return 1\ndef predict_fn(x, m): return x"
    )
    return tmp_path


COMMANDS = {
    "stubborn": (["train", "stubborn", "--output", "out"], "started"),
    "saving": (["train", "saving", "--output", "out"], "started"),
    "serve": (["serve", "handler.py", "--model", "model", "--port", "0"], "is healthy"),
}


BEGUN = []


def begun(words, cwd):
    pipe = subprocess.PIPE
    process = subprocess.Popen(words, cwd=cwd, text=True, stdout=pipe, stderr=pipe)
    BEGUN.append(process)
    return process


def start(folder, command):
    """The process once it has said the line for which COMMANDS waits."""
    words, awaited = COMMANDS[command]
    process = begun([*BYOC, *words], folder)
    said = []
    for line in process.stderr:
        said.append(line)
        if awaited in line:
            return process
    raise AssertionError(said)


def processes_of(pid: int) -> list[int]:
    """What the command `pid` has started and marked as its own."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            variables = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        mark = f"{REGION_OWNER}={pid}/".encode()
        found += [int(entry.name) for variable in variables if variable.startswith(mark)]
    return found


def folders_left(folder):
    return sorted(path.name for path in folder.glob("byoc-command-*"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "numbers", "code"),
    [
        ("saving", [SIGTERM], 143),
        ("saving", [SIGHUP], 129),
        ("stubborn", [SIGINT, SIGINT], 130),
        ("serve", [SIGINT], 130),
        ("serve", [SIGHUP], 129),
        ("serve", [SIGTERM], 0),
    ],
)
def test_a_running_container_is_ended(folder, command, numbers, code):
    """What it wrote is kept, its processes are not."""
    process = start(folder, command)
    assert processes_of(process.pid)
    process.send_signal(numbers[0])
    if len(numbers) > 1:  # two at once would be one
        assert any("Ctrl-C again" in line for line in process.stderr)
        process.send_signal(numbers[1])
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in err
    assert not processes_of(process.pid)
    assert not folders_left(folder)
    assert (folder / "out/model.tar.gz").exists() is (command != "serve")


@pytest.mark.slow
@pytest.mark.parametrize("number", [SIGINT, SIGTERM, SIGHUP])
def test_any_moment_of_the_start(folder, number):
    """From the interpreter's first line on: no traceback, no process, no folder."""
    words, _ = COMMANDS["serve"]
    for pause in (0.0, 0.05, 0.15, 0.3):
        process = begun([*BYOC, *words], folder)
        wait_until(lambda pid=process.pid: catches_sigterm(pid), "its handlers")
        # Not a wait for anything: these are moments at which nothing can be observed.
        threading.Event().wait(pause)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 128 + number or "is healthy" in err
        assert "Traceback" not in err
        assert not processes_of(process.pid)
        assert not folders_left(folder)


def catches_sigterm(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return int(caught.split()[1], 16) >> (SIGTERM - 1) & 1


def test_ctrl_c_is_quiet_before_the_handlers_are_there():
    """The interpreter's own handler, which ends in a traceback, is gone with the first import."""
    program = (
        "import sagemaker_byoc.cli.__main__, os, signal; os.kill(os.getpid(), signal.SIGINT)\n"
        "import time; time.sleep(60)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (-SIGINT, b"")


def test_an_ignored_ctrl_c_stays_ignored_from_the_first_import():
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "import sagemaker_byoc.cli.__main__, os; os.kill(os.getpid(), signal.SIGINT)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.slow
@pytest.mark.parametrize("command", ["saving", "serve"])
def test_a_terminal_that_is_closed(folder, command):
    """SIGHUP to the group, and a stderr on which every write fails from then on."""
    words, awaited = COMMANDS[command]
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.execv(BYOC[0], [*BYOC, *words])
    said = b""
    while awaited.encode() not in said:
        said += os.read(terminal, 4096)
    assert processes_of(pid)
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 129
    assert not processes_of(pid)
    assert (folder / "out/model.tar.gz").exists() is (command == "saving")


@pytest.mark.slow
def test_what_kill_9_left_is_swept_by_the_next(folder):
    """Processes and the temporary folder; what a living command has stays."""
    alive = start(folder, "serve")
    killed = start(folder, "serve")
    killed.kill()
    killed.communicate()
    assert processes_of(killed.pid)
    assert len(folders_left(folder)) == 2
    (folder / "ok").mkdir()
    (folder / "ok/train.py").write_text("")
    assert subprocess.run(
        [*BYOC, "train", "ok"], cwd=folder, capture_output=True, check=True, text=True
    ).stderr.startswith("* ")
    assert not processes_of(killed.pid)
    assert len(folders_left(folder)) == 1
    assert processes_of(alive.pid)
    alive.send_signal(SIGTERM)
    alive.communicate(timeout=60)
    assert alive.returncode == 0


def test_only_what_is_certain_is_dead():
    """A process of another namespace or kernel can't be seen; a reused id has another start."""
    pid, start_time, *place = owners.me().split("/")
    assert not owners.is_dead(owners.me())
    assert owners.is_dead("/".join([pid, "1", *place]))
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    assert owners.is_dead("/".join([str(ended.pid), start_time, *place]))
    for hidden in ("", "x", "1/2/3/4", f"{ended.pid}/1/1/{place[1]}", "/".join(["x", "1", *place])):
        assert not owners.is_dead(hidden)


def test_a_zombie_is_dead():
    with subprocess.Popen(["true"]) as child:
        wait_until(
            lambda: b") Z" in Path(f"/proc/{child.pid}/stat").read_bytes(), "a child that ended"
        )
        _, start_time, *place = owners.me().split("/")
        assert owners.is_dead("/".join([str(child.pid), start_time, *place]))


DOCKER = """#!/bin/sh
case "$1" in
cp) head -c 1000000 > /dev/null; touch copying; cat > /dev/null ;;
rm) touch removed ;;
esac
"""


@pytest.mark.slow
def test_a_copy_into_a_container_is_not_waited_for(folder, monkeypatch):
    """A terabyte of data takes hours; the container is removed."""
    (folder / "docker").write_text(DOCKER)
    (folder / "docker").chmod(0o755)
    monkeypatch.setenv("DOCKER", str(folder / "docker"))
    (folder / "data").mkdir()
    with (folder / "data/large").open("wb") as file:
        file.truncate(1 << 40)
    words = ["train", "saving", "--engine", "docker", "--channel", "train=data"]
    process = begun([*BYOC, *words], cwd=folder)
    wait_until((folder / "copying").exists, "the copy")
    process.send_signal(SIGTERM)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, "error[" in err) == (143, False)
    assert (folder / "removed").exists()
