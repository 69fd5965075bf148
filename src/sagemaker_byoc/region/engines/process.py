"""The engine without images: the contract's command as a plain process of a Python on this machine.

Its /opt/ml is in its own mount namespace; if the kernel forbids that, the tree is moved with
SAGEMAKER_BASE_DIR, which programs that read SM_* follow and programs that write "/opt/ml" don't.

A container is all processes of a tree: those that see it as /opt/ml, or have it as
SAGEMAKER_BASE_DIR. They may outlive the process that started them. There is no pid file that could
be stale, and no other process is mistaken for one of them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from sagemaker_byoc.contract import installation, lifecycle
from sagemaker_byoc.contract.errors import MachineError
from sagemaker_byoc.contract.folders import OnLeft
from sagemaker_byoc.contract.machine import CUDA_DEVICES, hides_gpus, visible_gpus
from sagemaker_byoc.contract.paths import DEFAULT_ROOT, Tree
from sagemaker_byoc.contract.variables import (
    BASE_DIR,
    BIND_HOST,
    BIND_TO_PORT,
    INSTALLER,
    PROGRAM_DIR,
    REGION_OWNER,
    SUBMIT_DIRECTORY,
)
from sagemaker_byoc.host import owners
from sagemaker_byoc.region.engines import namespace
from sagemaker_byoc.region.engines.container import (
    Container,
    ContainerSpec,
    Network,
    Reach,
    lines_of,
    shell_of,
)

ROOMS = {
    lifecycle.TRAIN_ARGUMENT.value: "sagemaker_byoc.training",
    lifecycle.SERVE_ARGUMENT.value: "sagemaker_byoc.serving",
}
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "TERM")
"""A container inherits no variables; a process needs these few, and no credentials."""
_PROBE_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class ProcessEngine:
    """`unshare` is the command that makes the namespace; empty if there can't be one."""

    unshare: tuple[str, ...]
    name: str = "process"
    shares_files: bool = True
    interface: str = "lo"
    """The hosts of a job are addresses of one loopback interface."""

    @property
    def protects_inputs(self) -> bool:
        """True in a namespace, which shows inputs read-only; a link does not."""
        return bool(self.unshare)

    @classmethod
    def detect(cls, scratch: Path) -> ProcessEngine:
        """Try what this kernel allows, in the empty folder `scratch`."""
        for command in (("unshare", "--mount"), ("unshare", "--map-root-user", "--mount")):
            if shutil.which(command[0]) and _mounts(command, scratch):
                return cls(command)
        return cls(())

    def start(self, spec: ContainerSpec) -> Container:
        return ProcessContainer(_popen(*self._command(spec)), spec.tree)

    @contextmanager
    def shell(self, spec: ContainerSpec) -> Iterator[subprocess.Popen[bytes]]:
        command, variables, folder = self._command(shell_of(spec))
        # In this session: the shell reads the terminal and manages its jobs.
        with subprocess.Popen(command, env=variables, cwd=folder) as process:
            try:
                yield process
            finally:
                process.kill()
                end(spec.tree)

    def _command(self, spec: ContainerSpec) -> tuple[list[str], dict[str, str], str | None]:
        """Return the words, the variables and the working directory."""
        variables = {key: os.environ[key] for key in _INHERITED if key in os.environ}
        variables |= _own_variables(spec)
        command = _command(spec)
        if self.unshare:
            command = self._in_namespace(spec, command)
        else:
            _show_inputs(spec)
            variables[BASE_DIR] = str(spec.tree.root)
        variables |= spec.environment
        if owner := spec.labels.get(owners.LABEL):
            variables[REGION_OWNER] = owner
        return command, variables, _working_folder(spec)

    def _in_namespace(self, spec: ContainerSpec, command: list[str]) -> list[str]:
        for relative in spec.inputs:
            (spec.tree.root / relative).mkdir(parents=True, exist_ok=True)
        for source in spec.outside.values():
            source.mkdir(parents=True, exist_ok=True)
        words = [f"{namespace.WRITABLE}{place}={path}" for place, path in spec.outside.items()]
        words += [f"{relative}={source.resolve()}" for relative, source in spec.inputs.items()]
        unshare = [*self.unshare]
        if spec.network is not None:
            # Without one of its own, sethostname() would rename the machine.
            unshare.append("--uts")
            words.append(f"{namespace.HOSTNAME}{spec.hostname}")
            words.append(f"/etc/hosts={_write_hosts(spec)}")
            if spec.network.isolated:
                unshare.append("--net")
                words.append(namespace.LOOPBACK)
        return [*unshare, *_inside(spec.tree.root), *words, "--", *command]

    def gateway(self, network: Network | None) -> str | None:
        """Return the machine's own loopback, which a process without a network namespace shares."""
        return None if network is not None and network.isolated else "127.0.0.1"

    def open_network(self, network: Network) -> None:
        """Raise MachineError for what addresses of `lo` can't do."""
        if len(network.hosts) == 1:
            return
        if not self.unshare:
            raise MachineError(
                f"{len(network.hosts)} hosts need names, and this kernel forbids the namespace "
                "that would give them",
                hint="Use one instance, or --engine docker",
            )
        if network.isolated:
            raise MachineError(
                "the process engine can't isolate several hosts and leave them connected",
                hint="Use one instance, EnableNetworkIsolation=False, or --engine docker",
            )

    def close_network(self, network: Network) -> None:
        """Do nothing: the names went with the namespaces."""

    def sweep(self, labels: Mapping[str, str], trees: Sequence[Tree]) -> int:  # noqa: ARG002 - processes have none
        return sum(end(tree) for tree in trees)


@dataclass(slots=True)
class ProcessContainer:
    """All processes of `tree`; it ends with the first, the contract's command."""

    process: subprocess.Popen[str]
    tree: Tree
    _reaper: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        # Processes that outlive the command would keep the log open, and so the container.
        self._reaper = threading.Thread(target=self._end_with_command, daemon=True)
        self._reaper.start()

    def lines(self) -> Iterator[str]:
        assert self.process.stdout is not None
        with self.process.stdout as log:
            yield from lines_of(log)

    def exit_code(self) -> int | None:
        returncode = self.process.poll()
        return None if returncode is None else lifecycle.exit_code_of(returncode)

    def reach(self) -> Reach | None:
        ended = self.process.poll() is not None
        return (
            None if ended else Reach(self.process.pid, has_own_network=False, address="127.0.0.1")
        )

    def wait(self) -> int:
        return lifecycle.exit_code_of(self.process.wait())

    def stop(self, grace: float) -> None:
        self.process.terminate()
        try:
            self.process.wait(timeout=grace)
        except subprocess.TimeoutExpired:
            self.close()

    def fetch(self, relative: str, on_left: OnLeft) -> None:
        """Do nothing: the container writes into the tree itself."""

    def collect(self, on_left: OnLeft) -> None:
        """Do nothing, as in `fetch`."""

    def keep(self) -> str:
        """End it: its tree is the host's own, and there is nothing else to keep."""
        self.close()
        return ""

    def close(self) -> None:
        """End all of its processes, in any process group."""
        if self.process.poll() is None:  # or its number may be another's by now
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        # Until the search for processes is over: the next container may have this tree.
        self._reaper.join()

    def _end_with_command(self) -> None:
        self.process.wait()
        end(self.tree)


def _working_folder(spec: ContainerSpec) -> str | None:
    """Return the program's folder, else the tree: not the folder in which the region was started.

    None, which is that folder, for the toolkit's own commands: they choose one.
    """
    if not spec.entrypoint or spec.program is not None:
        return None
    return spec.environment.get(PROGRAM_DIR) or str(spec.tree.root)


def _command(spec: ContainerSpec) -> list[str]:
    if spec.entrypoint:
        return [*spec.entrypoint, *spec.command]
    interpreter = str(spec.interpreter or sys.executable)
    return [interpreter, "-I", "-m", ROOMS[spec.argument], *spec.command]


def _popen(
    command: list[str], variables: dict[str, str], folder: str | None
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        env=variables,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",  # in any locale of the terminal
        errors="replace",
        # This process turns Ctrl-C of the terminal into the contract's SIGTERM.
        start_new_session=True,
    )


def _inside(root: Path) -> list[str]:
    return [sys.executable, "-I", "-m", "sagemaker_byoc.region.engines.namespace", str(root)]


def lacking() -> str:
    """Return why there is no namespace, for an engine without one."""
    if shutil.which("unshare") is None:
        return "the command unshare, of util-linux, is missing"
    return "this kernel forbids mount namespaces"


def _mounts(unshare: tuple[str, ...], scratch: Path) -> bool:
    """Return whether `unshare` makes a namespace in which `scratch` appears as /opt/ml."""
    command = [*unshare, *_inside(scratch), "--", "test", "-d", str(DEFAULT_ROOT)]
    result = subprocess.run(command, capture_output=True, check=False, timeout=_PROBE_SECONDS)
    return result.returncode == 0


def _own_variables(spec: ContainerSpec) -> dict[str, str]:
    variables = {INSTALLER: installation.installer(spec.interpreter)}
    if spec.interpreter is not None:
        # `python`, `train` and what else its environment has, as in an image's PATH.
        path = os.environ.get("PATH", os.defpath)
        variables["PATH"] = f"{spec.interpreter.parent}{os.pathsep}{path}"
        # As in both images: else the lines of a killed program are lost.
        variables["PYTHONUNBUFFERED"] = "1"
    if spec.program is not None:
        variables[SUBMIT_DIRECTORY] = str(spec.program.resolve())
    if spec.port is not None:
        variables[BIND_TO_PORT] = str(spec.port)
        variables[BIND_HOST] = "127.0.0.1"
    # Those that CUDA_VISIBLE_DEVICES leaves to this process, and no others.
    if spec.gpus is not None or CUDA_DEVICES in os.environ or hides_gpus(os.environ):
        variables[CUDA_DEVICES] = ",".join(visible_gpus(os.environ)[: spec.gpus])
    return variables


def _write_hosts(spec: ContainerSpec) -> Path:
    """Write a table of the job's hosts beside the tree, and return its path."""
    assert spec.network is not None
    addresses = host_addresses(spec.network)
    lines = ["127.0.0.1 localhost", *(f"{addresses[host]} {host}" for host in spec.network.hosts)]
    table = spec.tree.root.with_name(f"{spec.tree.root.name}.hosts")
    table.write_text("\n".join(lines) + "\n")
    return table


def host_addresses(network: Network) -> dict[str, str]:
    """Return an address of 127/8 per host, most likely different from another job's."""
    second, third, first = hashlib.sha256(network.name.encode()).digest()[:3]
    return {
        host: f"127.{1 + (second + place // 250) % 254}.{third}.{1 + (first + place) % 250}"
        for place, host in enumerate(network.hosts)
    }


def _show_inputs(spec: ContainerSpec) -> None:
    if spec.outside:
        raise MachineError(
            f"{', '.join(spec.outside)} needs a mount namespace, which this kernel forbids",
            hint="Leave LocalPath out of TensorBoardOutputConfig, or use --engine docker",
        )
    for relative, source in spec.inputs.items():
        place = spec.tree.root / relative
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(source.resolve(), target_is_directory=True)


def make_engine(scratch: Path) -> ProcessEngine:
    """Return the engine for this machine; `scratch` is an empty folder for a test of the kernel."""
    if sys.platform == "win32":
        raise MachineError("the process engine needs Linux", hint="Use --engine docker")
    return ProcessEngine.detect(scratch)


_PASSED_OVER = (FileNotFoundError, ProcessLookupError, NotADirectoryError, PermissionError)
"""Raised for a process that has ended, or belongs to another user."""
_PROC = Path("/proc")
_SECONDS = 10.0
_PAUSE = 0.01
_EXECVE_SECONDS = 1.0
_PF_KTHREAD = 0x200000  # a thread of the kernel; include/linux/sched.h


def find(tree: Tree) -> Iterator[int]:
    """Yield the process ids; those of other users, which we may not end, are skipped."""
    try:
        place = tree.root.stat()
    except FileNotFoundError:
        return
    inside = DEFAULT_ROOT.relative_to("/")
    # If the tree is this machine's own /opt/ml, every process sees it there.
    is_hosts_own = _is_same(DEFAULT_ROOT, place)
    moved = f"{BASE_DIR}={tree.root}".encode()
    for entry in _PROC.iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        with suppress(*_PASSED_OVER):
            if moved in _environ(entry):
                yield int(entry.name)
                continue
        if not is_hosts_own and _is_same(entry / "root" / inside, place):
            yield int(entry.name)


def _environ(entry: Path) -> list[bytes]:
    """Return the variables of a process, if it is being executed those that it gets.

    In the middle of execve(2) its file is empty (environ_read in fs/proc/base.c), and a process
    that is ended only if its variables say so would be missed.
    """
    deadline = time.monotonic() + _EXECVE_SECONDS
    while not (text := (entry / "environ").read_bytes()):
        if time.monotonic() > deadline or not _is_executed(entry):
            text = (entry / "environ").read_bytes()  # it may have ended between the two reads
            break
        time.sleep(_PAUSE / 10)
    return text.split(b"\0")


def _is_executed(entry: Path) -> bool:
    """Return whether execve(2) has not set the place of the variables yet (proc_pid_stat(5))."""
    fields = (entry / "stat").read_bytes().rpartition(b")")[2].split()
    flags, env_end = int(fields[9 - 3]), int(fields[51 - 3])
    return env_end == 0 and not flags & _PF_KTHREAD and fields[0] != b"Z"


def end(tree: Tree) -> int:
    """SIGKILL all of them, and those that they start meanwhile, within 10 s; return the number."""
    return _end(lambda: find(tree))


def orphans() -> Iterator[int]:
    """Yield processes of this user whose REGION_OWNER has ended, and those in the same trees."""
    for entry in _PROC.iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        with suppress(*_PASSED_OVER):
            if entry.stat().st_uid != os.geteuid():
                continue
            for variable in _environ(entry):
                name, _, value = variable.partition(b"=")
                if name == REGION_OWNER.encode() and owners.is_dead(value.decode(errors="replace")):
                    yield int(entry.name)
                    yield from find(Tree(entry / "root" / DEFAULT_ROOT.relative_to("/")))


def end_orphans() -> int:
    """SIGKILL all orphans; return the number."""
    return _end(orphans)


def _end(look: Callable[[], Iterator[int]]) -> int:
    deadline = time.monotonic() + _SECONDS
    ended: set[int] = set()
    while time.monotonic() < deadline:
        alive = {pid for pid in look() if not _is_zombie(pid)}
        if not alive:
            break
        for pid in alive:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        ended |= alive
        time.sleep(_PAUSE)
    return len(ended)


def _is_same(path: Path, place: os.stat_result) -> bool:
    try:
        return os.path.samestat(path.stat(), place)
    except _PASSED_OVER:
        return False


def _is_zombie(pid: int) -> bool:
    try:
        status = (_PROC / str(pid) / "stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return status.rpartition(b")")[2].split()[0] == b"Z"
