"""The Docker engine, driven by its command line: create, cp, start, stop, cp.

No bind mounts, so it works with a remote engine and leaves no root-owned files behind.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path, PurePosixPath
from typing import IO, cast

from sagemaker_byoc.contract import http, variables
from sagemaker_byoc.contract.errors import MachineError, RequestError
from sagemaker_byoc.contract.folders import OnLeft, left_out
from sagemaker_byoc.contract.machine import CUDA_DEVICES, DRIVER, visible_gpus
from sagemaker_byoc.contract.paths import DEFAULT_ROOT, Tree
from sagemaker_byoc.contract.training.cluster import DEFAULT_INTERFACE
from sagemaker_byoc.host import docker, ignore
from sagemaker_byoc.region.engines.container import (
    Container,
    ContainerSpec,
    Network,
    Reach,
    lines_of,
    shell_of,
)
from sagemaker_byoc.region.engines.copying import (
    CODE,
    Copying,
    Counted,
    CountedRead,
    Receiver,
    program_folder,
    size_of,
    write_tree,
)

LABEL = "sagemaker-byoc"
"""Every container of ours carries it, so that exactly ours can be found and removed."""
SHARED_MEMORY = "2g"
"""Docker's default of 64 MB ends data loaders with a bus error."""

LOG = logging.getLogger(__name__)

INSTEAD = "use --engine process"
_IPV4 = 4
_COPIES = 4
"""At a time; each waits for the engine more than for the disk."""


def run(*arguments: str, data: bytes | None = None, timeout: float = docker.QUICK) -> str:
    """Return what one command prints. An error's hint names the engine that needs no Docker."""
    return docker.run(*arguments, data=data, timeout=timeout, instead=INSTEAD)


def remove(kind: str, arguments: Sequence[str], missing: str) -> None:
    """Run a command that removes something; that it is `missing` is expected, else a warning.

    What stays behind can be removed with `byoc local gc`, so that no other end is disturbed.
    """
    try:
        run(*arguments)
    except MachineError as error:
        if missing not in str(error).lower():
            LOG.warning("a %s stays behind: %s", kind, error)


@dataclass(frozen=True, slots=True)
class DockerEngine:
    mount_inputs: bool = False
    """Bind-mount the inputs read-only instead of copying them: for large data, local engines."""
    copying: Copying | None = None
    """Gets the bytes that are copied into a container, and those that are collected from it."""
    name: str = "docker"
    shares_files: bool = False
    protects_inputs: bool = True
    interface: str = DEFAULT_INTERFACE

    def start(self, spec: ContainerSpec) -> Container:
        """Raise RequestError for an image that the engine does not have."""
        require_image(spec.image)
        if spec.shared and not is_local():
            raise MachineError(
                f"{', '.join(spec.shared)} must be seen by this machine and the container alike, "
                "and the Docker engine is on another machine",
                hint="Use a local engine, or File mode instead of Pipe mode",
            )
        container = self._created(spec)
        try:
            _start(spec)
        except BaseException:
            container.close()
            raise
        return container

    @contextmanager
    def shell(self, spec: ContainerSpec) -> Iterator[subprocess.Popen[bytes]]:
        require_image(spec.image)
        options = ["--interactive", *(["--tty"] if sys.stdin.isatty() else [])]
        container = self._created(shell_of(spec), options)
        try:
            with docker.start(
                *("start", "--attach", "--interactive", spec.name),
                stdin=None,
                stdout=None,
                stderr=None,
                instead=INSTEAD,
            ) as process:
                yield process
        finally:
            container.close()

    def _created(self, spec: ContainerSpec, options: Sequence[str] = ()) -> DockerContainer:
        """Return the container with its files in it, not started."""
        container = DockerContainer(spec, self.copying)
        try:
            run(
                "create",
                *options,
                *self.create_arguments(spec),
                data=self.env_file(spec).encode(errors="replace"),
            )
        except docker.SilentError:  # it may be created all the same
            container.close()
            raise
        try:
            self._fill(spec)
        except BaseException:
            container.close()
            raise
        return container

    def create_arguments(self, spec: ContainerSpec) -> list[str]:
        """Return the arguments of `docker create`."""
        arguments = ["--name", spec.name, "--hostname", spec.hostname]
        labels = {LABEL: spec.argument, **spec.labels}
        for name, value in labels.items():
            arguments += ["--label", f"{name}={value}"]
        arguments += ["--shm-size", SHARED_MEMORY, *_hardware(spec), *_network(spec)]
        for name, value in self._variables(spec).items():
            if not _fits_env_file(name, value):
                arguments += ["--env", f"{name}={value}"]
        arguments += ["--env-file", "/dev/stdin"]
        if spec.port is not None:
            arguments += ["--publish", f"127.0.0.1:{spec.port}:{http.PORT.value}"]
        for relative in spec.shared:
            source = (spec.tree.root / relative).resolve()
            mount = f"type=bind,src={source},dst={DEFAULT_ROOT / relative}"
            arguments += ["--mount", mount + (",readonly" if relative in spec.read_only else "")]
        for relative in self._mounted(spec):
            source = spec.inputs[relative].resolve()
            target = DEFAULT_ROOT / relative
            arguments += ["--mount", f"type=bind,src={source},dst={target},readonly"]
        if spec.entrypoint:
            arguments += ["--entrypoint", spec.entrypoint[0]]
        return [*arguments, spec.image, *spec.entrypoint[1:], *spec.command]

    def env_file(self, spec: ContainerSpec) -> str:
        """Return what `docker create` reads from its standard input: keys and passwords would be
        seen by every user of this machine in a command line.
        """
        found = self._variables(spec).items()
        return "".join(f"{name}={value}\n" for name, value in found if _fits_env_file(name, value))

    def gateway(self, network: Network | None) -> str | None:
        if network is not None and network.isolated:
            return None
        name = network.name if network is not None and len(network.hosts) > 1 else "bridge"
        (found,) = json.loads(run("network", "inspect", name))
        for config in found["IPAM"]["Config"]:
            subnet = ip_network(config["Subnet"])
            if subnet.version == _IPV4:
                # The default bridge names none before its first restart; it is the first address.
                return str(config.get("Gateway") or subnet[1])
        return None

    def open_network(self, network: Network) -> None:
        """Make the network; a job of one host needs none."""
        if len(network.hosts) > 1:
            arguments = ["--internal"] if network.isolated else []
            for name, value in {LABEL: "network", **network.labels}.items():
                arguments += ["--label", f"{name}={value}"]
            run("network", "create", *arguments, network.name)

    def close_network(self, network: Network) -> None:
        if len(network.hosts) > 1:
            remove("network", ["network", "rm", network.name], "not found")

    def sweep(self, labels: Mapping[str, str], trees: Sequence[Tree]) -> int:  # noqa: ARG002 - labels tell all
        filters = [
            f"--filter=label={name}" + (f"={value}" if value else "")
            for name, value in labels.items()
        ]
        containers = run("ps", "--all", "--quiet", *filters).split()
        if containers:
            run("rm", "--force", "--volumes", *containers)
        networks = run("network", "ls", "--quiet", *filters).split()
        if networks:
            run("network", "rm", *networks)
        return len(containers)

    def _mounted(self, spec: ContainerSpec) -> list[str]:
        """Return the inputs that are mounted instead of copied."""
        if self.mount_inputs:
            return [*spec.inputs]
        return [name for name in spec.inputs if name in spec.read_only and is_local()]

    def _variables(self, spec: ContainerSpec) -> dict[str, str]:
        code = {variables.SUBMIT_DIRECTORY: str(DEFAULT_ROOT / CODE)} if spec.program else {}
        # The driver's files under /proc are seen in every container, also in one without a GPU.
        unused = {CUDA_DEVICES: ""} if spec.gpus == 0 else {}
        return {**code, **unused, **spec.environment}

    def _fill(self, spec: ContainerSpec) -> None:
        mounted = self._mounted(spec)
        sources = {"": spec.tree.root}
        sources |= {
            relative: source.resolve()
            for relative, source in spec.inputs.items()
            if relative not in mounted
        }
        if spec.program is not None:
            sources[CODE] = program_folder(spec.program)
        with docker.start(
            *("cp", "-", f"{spec.name}:/"),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            instead=INSTEAD,
        ) as copy:
            assert copy.stdin is not None
            assert copy.stderr is not None
            # docker's own words say why it does not take the rest.
            with suppress(BrokenPipeError), copy.stdin:
                self._expect(sources)
                counted = Counted(copy.stdin, self.copying, spec.given_up)
                # A tar is only written to.
                write_tree(cast("IO[bytes]", counted), sources, without=spec.shared)
            message = copy.stderr.read().decode(errors="replace").strip()
            if copy.wait(timeout=docker.SLOW) != 0:
                raise MachineError(
                    f"the tree could not be copied into the container: {message}",
                    hint="Check that the engine's disk has room: docker system df",
                )
        if self.copying is not None:
            self.copying.finish()

    def _expect(self, sources: Mapping[str, Path]) -> None:
        if self.copying is not None:
            self.copying.start("copy into the container")
            sizes = [
                size_of(path, ignore.litter() if name == CODE else None)
                for name, path in sources.items()
            ]
            self.copying.expect(sum(sizes))


def _start(spec: ContainerSpec) -> None:
    """Raise RequestError for a command that the image can't run."""
    try:
        run("start", spec.name)
    except MachineError as error:
        words = error.what.lower()
        if "oci runtime" not in words or "exec:" not in words:
            raise
        raise RequestError(
            error.what, hint="Name a command that the image has and that may be executed"
        ) from error


def require_image(image: str) -> None:
    """Raise RequestError unless the engine has it, MachineError if there is no engine."""
    try:
        run("image", "inspect", image)
    except MachineError as error:
        if "no such image" not in str(error).lower():
            raise
        raise RequestError(
            f"the engine has no image {image!r}",
            hint="Build it with scripts/build-images, or name another with --image",
        ) from error


def _fits_env_file(name: str, value: str) -> bool:
    """Return whether docker's file of variables can hold it: one line each, none above 64 KiB."""
    return "\n" not in value and "\r" not in value and len(name) + len(value.encode()) < 60_000


def is_local() -> bool:
    """Return whether the engine sees this machine's files, as far as its address shows."""
    return os.environ.get("DOCKER_HOST", "unix://").startswith("unix://")


def _hardware(spec: ContainerSpec) -> list[str]:
    arguments = []
    if spec.gpus != 0 and DRIVER.exists():
        arguments += _gpus(spec.gpus)
    if spec.limits is not None:
        arguments += ["--cpus", str(spec.limits.cpus), "--memory", str(spec.limits.memory)]
    return arguments


def _gpus(most: int | None) -> list[str]:
    """Return options for the GPUs that CUDA_VISIBLE_DEVICES leaves to this process, or for all."""
    if CUDA_DEVICES not in os.environ:
        return ["--gpus", "all" if most is None else str(most)]
    names = visible_gpus(os.environ)[:most]
    return ["--gpus", f'"device={",".join(names)}"'] if names else []


def _network(spec: ContainerSpec) -> list[str]:
    network = spec.network
    if network is None:
        return []
    if len(network.hosts) > 1:
        return ["--network", network.name, "--network-alias", spec.hostname]
    if network.isolated:
        return ["--network", "none", "--add-host", f"{spec.hostname}:127.0.0.1"]
    return []


@dataclass(frozen=True, slots=True)
class DockerContainer:
    spec: ContainerSpec
    copying: Copying | None = None

    def lines(self) -> Iterator[str]:
        words = ("logs", "--follow", self.spec.name)
        with (
            docker.start(*words, stderr=subprocess.STDOUT, instead=INSTEAD) as logs,
            docker.text_of(logs) as text,
        ):
            yield from lines_of(text)

    def exit_code(self) -> int | None:
        state = json.loads(run("container", "inspect", self.spec.name))[0]["State"]
        return None if state["Running"] else int(state["ExitCode"])

    def reach(self) -> Reach | None:
        found = json.loads(run("container", "inspect", self.spec.name))[0]
        pid = int(found["State"]["Pid"])
        # The engine's processes are seen where it runs on this very machine, not in a virtual one.
        if not pid or not is_local() or not Path(f"/proc/{pid}").exists():
            return None
        address = str(found["NetworkSettings"]["IPAddress"])
        return Reach(pid, has_own_network=True, address=address)

    def wait(self) -> int:
        while True:
            try:
                return int(run("wait", self.spec.name))
            except docker.SilentError:
                # Its log has ended, and it has not; as long as the engine says that it runs.
                code = self.exit_code()
                if code is not None:
                    return code

    def stop(self, grace: float) -> None:
        run("stop", "--time", str(int(grace)), self.spec.name, timeout=grace + docker.QUICK)

    def fetch(self, relative: str, on_left: OnLeft) -> None:
        self._fetch(relative, self.spec.tree.root / relative, on_left)

    def collect(self, on_left: OnLeft) -> None:
        wanted = {name: self.spec.tree.root / name for name in self.spec.outputs}
        wanted |= self.spec.outside
        if self.copying is not None:
            self.copying.start("copy out of the container")
        with ThreadPoolExecutor(_COPIES) as copies:
            begun = [copies.submit(self._fetch, name, wanted[name], on_left) for name in wanted]
        if self.copying is not None:
            self.copying.finish()
        for copy in begun:
            copy.result()

    def keep(self) -> str:
        name = self.spec.name
        try:
            run("kill", name)
        except MachineError as error:
            words = str(error).lower()
            if "no such container" in words:
                return f"The container {name} is gone"
            if "is not running" not in words:
                LOG.warning("%s may still run: %s", name, error)
        has_model = "model" in self.spec.outputs
        path, what = (f"{DEFAULT_ROOT}/model", "the model") if has_model else (DEFAULT_ROOT, "all")
        return (
            f"The container {name} is kept: `docker cp {name}:{path} .` copies {what}, "
            f"`byoc local gc --remove {name}` removes it"
        )

    def close(self) -> None:
        remove("container", ["rm", "--force", "--volumes", self.spec.name], "no such container")

    def _fetch(self, folder: str, target: Path, on_left: OnLeft) -> None:
        """`folder` is relative to /opt/ml, or absolute."""
        if any(PurePosixPath(folder).is_relative_to(each) for each in self.spec.shared):
            return  # what the container writes there is on this machine
        source = DEFAULT_ROOT / folder
        receiver = Receiver(target, str(source), on_left)
        try:
            _receive(f"{self.spec.name}:{source}/.", receiver, self.copying)
        except MachineError as error:
            words = str(error).lower()
            if "not a directory" in words:
                on_left(left_out(folder, "it is not a folder"))
            elif not self._was_removed(words):
                raise
        receiver.prune()

    def _was_removed(self, words: str) -> bool:
        """Return whether the program removed the folder that could not be copied: it is empty.

        Raise MachineError if the container is gone, for which Docker 20 has the same words.
        """
        if "no such container:path" in words:
            run("container", "inspect", self.spec.name)
            return True
        return "could not find the file" in words


def _receive(source: str, receiver: Receiver, copying: Copying | None) -> None:
    """Raise DockerError with the engine's own words, or with what this machine lacks."""
    with docker.start("cp", source, "-", instead=INSTEAD) as copy:
        assert copy.stdout is not None
        assert copy.stderr is not None
        clock = threading.Timer(docker.SLOW, copy.kill)
        clock.start()
        broken: OSError | tarfile.TarError | None = None
        try:
            counted = copy.stdout if copying is None else CountedRead(copy.stdout, copying)
            receiver.receive(cast("IO[bytes]", counted))  # it is only read
            while copy.stdout.read(1 << 16):
                pass  # padding after the archive's end
        except OSError as error:
            copy.kill()
            broken = error
        except tarfile.TarError as error:  # docker tells why
            broken = error
        finally:
            if broken is None or isinstance(broken, tarfile.TarError):
                words = copy.stderr.read().decode(errors="replace").strip()
                code = copy.wait()
            else:
                words, code = broken.strerror or str(broken), 1
            clock.cancel()
    if code or broken is not None:
        raise docker.DockerError("cp", words or str(broken))
