"""Several workers of one model: forked from one load if that is safe, each with a load if not."""

from __future__ import annotations

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.unit.serving.harness import Server, children, is_alive, wait_until

from sagemaker_byoc.contract import machine
from sagemaker_byoc.serving.supervisor.slots import DEATHS_IN_WINDOW

pytestmark = pytest.mark.slow  # real processes

HEAD = """
import os, pathlib, random, signal, tempfile, threading, time
import numpy as np
FOLDER = pathlib.Path(os.environ["ZOO"])

def load():
    with (FOLDER / "loads").open("a") as file:
        file.write(f"{os.getpid()}\\n")
"""
TAIL = """

def input_fn(body, content_type):
    return body.decode()

def predict_fn(data, model, context):
    while data == "wait" and not (FOLDER / "go").exists():
        time.sleep(0.005)
    return [os.getpid(), context.slot, *told(model, data)]
"""
PLAIN = "\ndef model_fn(folder):\n    load()\ndef told(model, data):\n    return []\n"


class Workers(Server):
    """A server whose handlers count the loads; `load_code` is the rest of the file."""

    def __init__(self, root, load_code=PLAIN, **environ):
        super().__init__(root, SAGEMAKER_MODEL_SERVER_TIMEOUT="20", **environ)
        code = root / "model" / "code"
        code.mkdir()
        (code / "inference.py").write_text(HEAD + load_code + TAIL)
        self.wanted = int(environ.get("SAGEMAKER_MODEL_SERVER_WORKERS", "2"))

    def __enter__(self):
        super().__enter__()
        return self.wait_both(self.wanted)

    @property
    def loads(self):
        return (self.root / "loads").read_text().split()

    def ask(self, text=b""):
        reply = self.invoke(text, "text/plain")
        assert reply.status == 200, reply.text
        return json.loads(reply.body)

    def ask_all(self):
        """The answer of every worker, by slot: each has a request when the last arrives."""
        (self.root / "go").unlink(missing_ok=True)
        with ThreadPoolExecutor(self.wanted) as pool:
            asked = [pool.submit(self.ask, b"wait") for _ in range(self.wanted)]
            running = {f"byoc_requests_in_flight {self.wanted}", "byoc_queue_depth 0"}
            wait_until(lambda: running <= {*self.request("GET", "/metrics").text.splitlines()})
            self.let_go("go")
            found = {entry.result()[1]: entry.result() for entry in asked}
        assert sorted(found) == list(range(self.wanted))
        return [found[slot] for slot in sorted(found)]

    def processes(self):
        """All of the server's but the front's."""
        return [pid for pid in children(self.process.pid) if pid != self.front()[0]]

    def template(self):
        (found,) = set(self.processes()) - {pid for pid, *_ in self.ask_all()}
        return found

    def kill(self, pid):
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not is_alive(pid))


def two(root, load_code=PLAIN, **environ):
    """Two workers, on any number of CPUs."""
    return Workers(root, load_code, SAGEMAKER_MODEL_SERVER_WORKERS="2", **environ)


def test_by_default(tmp_path):
    """On two CPUs two workers answer, and no request waits for the other."""
    if len(os.sched_getaffinity(0)) != 2:
        pytest.skip("the default depends on the CPUs: test_capacity.py has the others")
    with Workers(tmp_path) as server:
        assert len({pid for pid, *_ in server.ask_all()}) == 2
        assert len(server.loads) == 1
        assert "up to 2 model workers" in server.log
        assert "2 worker(s) of 1 thread(s), forked from one loaded model" in server.log
        parameters = json.loads(server.request("GET", "/execution-parameters").body)
        assert parameters["MaxConcurrentTransforms"] == 4


@pytest.mark.parametrize("count", [1, 3])
def test_number_of_the_user(tmp_path, count):
    """The variable decides, whatever the CPUs."""
    with Workers(tmp_path, SAGEMAKER_MODEL_SERVER_WORKERS=str(count)) as server:
        assert len({pid for pid, *_ in server.ask_all()}) == count
        assert len(server.loads) == 1


def test_little_memory(tmp_path):
    """What memory does not allow is not started, and the front expects no more."""
    limit = """
from sagemaker_byoc.contract import machine
machine.free_memory = lambda: 0
def model_fn(folder):
    load()
def told(model, data):
    return []
"""
    server = Workers(tmp_path, limit)
    server.wanted = 1
    with server:
        if os.sched_getaffinity(0) == {0}:
            pytest.skip("one CPU has one worker anyway")
        assert f"1 worker(s) of {machine.usable_cpus()} thread(s); each further" in server.log
        assert "MB are free" in server.log
        assert len(server.processes()) == 1
        parameters = json.loads(server.request("GET", "/execution-parameters").body)
        assert parameters["MaxConcurrentTransforms"] == 2


def test_memory_is_shared(tmp_path):
    """Two workers of a model of 200 MB take little more than one."""
    model = """
def model_fn(folder):
    load()
    return np.ones(25_000_000)
def told(model, data):
    return [float(model[::512].sum())]
"""

    def memory(count):
        root = tmp_path / str(count)
        root.mkdir()
        with Workers(root, model, SAGEMAKER_MODEL_SERVER_WORKERS=str(count)) as server:
            for _ in range(5):
                server.ask_all()
            return sum(map(proportional, children(server.process.pid)))

    one = memory(1)
    assert one > 200e6
    assert memory(2) < 1.3 * one


def proportional(pid):
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def test_killed_worker(tmp_path):
    """It is forked again, in its slot, without a load."""
    with two(tmp_path) as server:
        (first, _), (second, _) = server.ask_all()
        server.kill(first)
        server.wait_both()
        (new, _), (other, _) = server.ask_all()
        assert (new != first, other) == (True, second)
        assert len(server.loads) == 1
        assert "slot 0: its worker was ended by SIGKILL" in server.log


def test_killed_template(tmp_path):
    """The workers continue; the next that is needed comes from a new load, later ones from that."""
    with two(tmp_path) as server:
        before = server.ask_all()
        server.kill(server.template())
        assert server.ask_all() == before
        assert len(server.loads) == 1
        for loads in (2, 2):
            server.kill(server.ask_all()[0][0])
            server.wait_both()
            assert len(server.loads) == loads
        assert server.ask_all()[1] == before[1]
        server.send_signal()
        assert server.exit_code() == 0


def test_number_stays(tmp_path):
    """A later load does not decide again, though less memory is free then."""
    code = """
from sagemaker_byoc.contract import machine
def model_fn(folder):
    load()
    machine.free_memory = lambda: 2**40 if len((FOLDER / "loads").read_text().split()) == 1 else 0
def told(model, data):
    return []
"""
    if len(os.sched_getaffinity(0)) != 2:
        pytest.skip("the default depends on the CPUs")
    with Workers(tmp_path, code) as server:
        before = server.ask_all()
        server.kill(server.template())
        server.kill(before[0][0])
        server.wait_both()
        assert server.ask_all()[1] == before[1]
        assert len(server.loads) == 2


def test_workers_end_again_and_again(tmp_path):
    """The container ends after as many deaths as with one worker."""
    with two(tmp_path) as server:
        for _ in range(DEATHS_IN_WINDOW - 1):
            server.kill(server.ask_all()[0][0])
            server.wait_both()
        server.kill(server.ask_all()[0][0])
        assert server.exit_code() == 1
        assert "slot 0: its worker was ended by SIGKILL" in server.log
        assert "again and again; giving up" in server.log
        assert len(server.loads) == 1


@pytest.mark.parametrize(
    ("kept", "why"),
    [
        (
            "threading.Thread(target=time.sleep, args=(99,), daemon=True, name='poll').start()",
            "the load started threads (poll)",
        ),
        ("kept.append(__import__('socket').socketpair())", "the load opened socket:["),
        (
            "kept.append(__import__('sqlite3').connect(FOLDER / f'{os.getpid()}.db'))",
            "the load opened ",
        ),
        ("kept.append(open(FOLDER / 'app.log', 'a'))", "app.log for writing"),
    ],
)
def test_not_to_be_shared(tmp_path, kept, why):
    """A load that leaves such a thing behind is repeated for each worker."""
    code = f"""
kept = []
def model_fn(folder):
    load()
    if kept == []:
        {kept}
def told(model, data):
    return []
"""
    with two(tmp_path, code) as server:
        pids = [pid for pid, *_ in server.ask_all()]
        assert sorted(map(int, server.loads)) == sorted(pids) == server.processes()
        assert "2 worker(s) of 1 thread(s), each loads the model: the load " in server.log
        assert why in server.log
        server.kill(pids[1])
        wait_until(lambda: len(server.loads) == 3)  # the front may notice the death later
        server.wait_both()
        assert len(server.loads) == 3


def test_as_configured(tmp_path):
    """Each worker loads the model if that is asked for."""
    with two(tmp_path, BYOC_WORKER_START="spawn") as server:
        assert len(server.loads) == 2
        assert "forked" not in server.log


def test_files_to_read(tmp_path):
    """Each worker has its own position in a file that the load has opened."""
    (tmp_path / "lines").write_text("".join(f"{number}\n" for number in range(9)))
    code = """
def model_fn(folder):
    load()
    file = os.open(FOLDER / "lines", os.O_RDONLY)
    os.read(file, 4)
    return file
def told(model, data):
    return [os.read(model, 2).decode()]
"""
    with two(tmp_path, code) as server:
        assert [line for *_, line in server.ask_all()] == ["2\n", "2\n"]
        assert [line for *_, line in server.ask_all()] == ["3\n", "3\n"]


RANDOM = """
def model_fn(folder):
    load()
    if (FOLDER / "seed").exists():
        random.seed(1); np.random.seed(1)
def told(model, data):
    return [random.random(), np.random.random()]
"""


def test_random_numbers(tmp_path):
    """No two workers draw the same numbers; a seed makes them the same with every start."""
    found = []
    for name in ("a", "b", "seeded", "seeded again"):
        root = tmp_path / name
        root.mkdir()
        if "seeded" in name:
            (root / "seed").touch()
        with two(root, RANDOM) as server:
            found.append([numbers for _, _, *numbers in server.ask_all()])
    free, also_free, seeded, again = found
    drawn = [number for pair in (*free, *also_free, *seeded) for number in pair]
    assert len(set(drawn)) == len(drawn)
    assert seeded == again


def test_temporary_folders_and_exit_functions(tmp_path):
    """A folder that the load made exists as long as the server; exit functions that it registered
    run in the workers, which have answered requests, and not in the template."""
    code = """
import atexit
def model_fn(folder):
    load()
    atexit.register(lambda: (FOLDER / f"exit-{os.getpid()}").touch())
    return tempfile.TemporaryDirectory(dir=FOLDER)
def told(model, data):
    if data == "leave":
        os.kill(os.getpid(), signal.SIGTERM)
    return [os.listdir(model.name), model.name]
"""
    with two(tmp_path, code) as server:
        assert [files for _, _, files, _ in server.ask_all()] == [[], []]
        gone = server.ask()[0]
        server.invoke(b"leave", "text/plain")
        wait_until(lambda: not is_alive(gone) or server.ask()[0] != gone)
        server.wait_both()
        answers = server.ask_all()
        assert [files for _, _, files, _ in answers] == [[], []]
        folder = Path(answers[0][-1])
        server.send_signal()
        assert server.exit_code() == 0
        assert not folder.exists()
        ended = {int(path.name.partition("-")[2]) for path in tmp_path.glob("exit-*")}
        assert {pid for pid, *_ in answers} <= ended <= {pid for pid, *_ in answers} | {gone}


def test_supervisor_is_killed(tmp_path):
    """Neither template nor workers outlive it, though a handler takes SIGTERM for itself."""
    code = PLAIN + "signal.signal(signal.SIGTERM, print)\n"
    with two(tmp_path, code) as server:
        pids = children(server.process.pid)
        server.process.kill()
        wait_until(lambda: not any(map(is_alive, pids)))
