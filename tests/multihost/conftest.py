"""Several hosts on one machine: a network namespace each, with names, on one bridge.

Every host is the real supervisor on a tree of its own. Needs root and `ip netns`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.contract.training.cluster import Cluster, InstanceGroup

TRAINERS = Path(__file__).parents[1] / "zoo" / "trainers"
COMMAND = [sys.executable, "-I", "-m", "sagemaker_byoc.training", "train"]
WAIT_SECONDS = 90
NETWORK = "10.213.7"


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True)


def wait_until(condition, what, timeout=WAIT_SECONDS):
    """Return what `condition` returns as soon as that is true."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {timeout} s for {what}"
        time.sleep(0.01)
    return value


@dataclass
class Host:
    name: str
    space: str
    folder: Path
    process: subprocess.Popen | None = None

    @property
    def tree(self):
        return Tree(self.folder / "ml")

    @property
    def out(self):
        return (self.folder / "out").read_text()

    @property
    def err(self):
        return (self.folder / "err").read_text()

    @property
    def failure(self):
        return self.tree.failure.read_text() if self.tree.failure.exists() else None

    @property
    def programs(self):
        """The process ids of the ranks that run."""
        path = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        with suppress(OSError), open(path) as file:
            return [int(word) for word in file.read().split()]
        return []

    def start(self, environ):
        given = {
            "PATH": os.environ["PATH"],
            "SAGEMAKER_BASE_DIR": str(self.tree.root),
            "BYOC_PROGRAM_DIR": str(self.folder / "baked"),
            "BYOC_DNS_SECONDS": str(WAIT_SECONDS),
            **environ,
        }
        command = ["ip", "netns", "exec", self.space, *COMMAND]
        with open(self.folder / "out", "wb") as out, open(self.folder / "err", "wb") as err:
            self.process = subprocess.Popen(command, env=given, stdout=out, stderr=err)


@dataclass
class Hosts:
    """The hosts of one job; `environ` is for all of them."""

    members: list[Host]
    environ: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, index):
        return self.members[index]

    def program(self, name, groups=(), **hyperparameters):
        self.text((TRAINERS / name).read_text(), groups, **hyperparameters)

    def text(self, source, groups=(), **hyperparameters):
        names = tuple(host.name for host in self.members)
        for host in self.members:
            host.tree.code.mkdir(parents=True)
            (host.tree.code / "train.py").write_text(source)
            host.tree.config.mkdir(parents=True)
            host.tree.hyperparameters_file.write_text(json.dumps(hyperparameters))
            mine = next((group.name for group in groups if host.name in group.hosts), None)
            cluster = Cluster(
                current_host=host.name,
                hosts=names,
                groups=tuple(groups),
                **({"current_group": mine} if mine else {}),
            )
            cluster.write(host.tree)

    def start(self, **of_one):
        """Start all; `of_one` has more variables for a host, by its name with an underscore."""
        for host in self.members:
            host.start({**self.environ, **of_one.get(host.name.replace("-", "_"), {})})

    def wait_for(self, words, *, count=1):
        def seen():
            self.fail_early()
            return sum(host.out.count(words) for host in self.members) >= count

        wait_until(seen, f"{count} times {words!r}")

    def fail_early(self):
        for host in self.members:
            if host.process.poll():
                raise AssertionError(f"{host.name}: {host.err}")

    def codes(self):
        return [host.process.wait(WAIT_SECONDS) for host in self.members]

    def all_programs(self):
        return [pid for host in self.members for pid in host.programs]

    def until_all_gone(self, pids):
        """Seconds from now until no supervisor and none of `pids` is left."""
        begin = time.monotonic()
        everyone = [*pids, *(host.process.pid for host in self.members)]

        def gone():
            for host in self.members:
                host.process.poll()
            return not any(Path(f"/proc/{pid}").exists() for pid in everyone)

        wait_until(gone, "the last process to be gone")
        return time.monotonic() - begin

    def kill_host(self, host):
        """As a machine dies: everything on it at once, the supervisor first."""
        pids = host.programs
        for pid in (host.process.pid, *pids):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def close(self):
        for host in self.members:
            if host.process and host.process.poll() is None:
                self.kill_host(host)
                host.process.wait()


@pytest.fixture(scope="session")
def spaces():
    """Four network namespaces whose hosts know each other by name."""
    if os.geteuid() or not shutil.which("ip"):
        pytest.skip("needs root and the program ip, for network namespaces")
    bridge = f"byoc{os.getpid()}"
    names = [f"{bridge}-{number}" for number in range(1, 5)]
    try:
        ip("netns", "add", bridge)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespace can be made here: {error.stderr.decode().strip()}")
    table = "127.0.0.1 localhost\n"
    table += "".join(f"{NETWORK}.{number} algo-{number}\n" for number in range(1, 5))
    try:
        ip("-n", bridge, "link", "add", "br0", "type", "bridge")
        ip("-n", bridge, "link", "set", "br0", "up")
        for number, name in enumerate(names, 1):
            ip("netns", "add", name)
            Path("/etc/netns", name).mkdir(parents=True)
            Path("/etc/netns", name, "hosts").write_text(table)
            ip("-n", bridge, "link", "add", f"v{number}", "type", "veth", "peer", "eth0",
               "netns", name)  # fmt: skip
            ip("-n", bridge, "link", "set", f"v{number}", "master", "br0", "up")
            ip("-n", name, "addr", "add", f"{NETWORK}.{number}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield names
    finally:
        for name in (*names, bridge):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
            shutil.rmtree(f"/etc/netns/{name}", ignore_errors=True)


@pytest.fixture
def hosts(spaces, tmp_path):
    """Makes the hosts of a job; all that they left is ended afterwards."""
    made = []

    def make(count, **environ):
        members = []
        for number in range(1, count + 1):
            folder = tmp_path / f"algo-{number}"
            (folder / "ml").mkdir(parents=True)
            members.append(Host(f"algo-{number}", spaces[number - 1], folder))
        job = Hosts(members, {"BYOC_NPROC": "2", **environ})
        made.append(job)
        return job

    yield make
    for job in made:
        job.close()


def group(name, *hosts):
    return InstanceGroup(name, "ml.test", tuple(hosts))
