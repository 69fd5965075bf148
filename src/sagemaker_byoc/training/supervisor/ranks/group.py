"""A job of several ranks: gathered over all hosts, started, watched and judged together.

Only jobs that ask for ranks or for hang detection import this module.
"""

from __future__ import annotations

import shutil
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from time import monotonic

from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.contract.lifecycle import ExitCode
from sagemaker_byoc.contract.variables import (
    CONTROL_PORT,
    DNS_SECONDS,
    HANG_SECONDS,
    LOST_SECONDS,
    PROGRESS_FILE,
)
from sagemaker_byoc.training.supervisor.failure.diagnosis import report_on
from sagemaker_byoc.training.supervisor.failure.first_cause import (
    HANG_CODE,
    NEVER,
    Alone,
    Oversight,
    Report,
    Terms,
)
from sagemaker_byoc.training.supervisor.failure.tracebacks import FATAL_FRAME
from sagemaker_byoc.training.supervisor.job_run import FLUSH_SECONDS, JobRun, Verdict
from sagemaker_byoc.training.supervisor.process.child import Outcome, Program
from sagemaker_byoc.training.supervisor.process.loop import Ending, Supervisor
from sagemaker_byoc.training.supervisor.ranks.control import Hub, Spoke
from sagemaker_byoc.training.supervisor.ranks.hosts import DEFAULT_SECONDS, PET_RENDEZVOUS
from sagemaker_byoc.training.supervisor.ranks.launch import (
    Launch,
    cpu_threads,
    make_launch,
    rank_programs,
    torchrun_program,
)
from sagemaker_byoc.training.supervisor.ranks.network import Network, look_at_network

DEFAULT_LOST_SECONDS = 20.0
MAIN_THREAD = "most recent call first"
FRAMES = 4


def run_group(run: JobRun) -> Verdict:
    """Run the program as the ranks that the job asks for."""
    launch = make_launch(run.job, run.plan.settings, run.plan.hardware)
    with _scratch_folder() as scratch:
        return Group(run, launch, scratch).run()


class Group:
    def __init__(self, run: JobRun, launch: Launch | None, scratch: Path) -> None:
        self._run = run
        self._launch = launch
        self._scratch = scratch
        self._hang_seconds = run.plan.settings.seconds(HANG_SECONDS, NEVER) or NEVER
        self._host = launch.host if launch else run.job.cluster.current_host
        self._files: list[Path] = []

    def run(self) -> Verdict:
        link = self._link()
        watch = ProgressFiles(self._files)
        supervisor = Supervisor(
            signals=self._run.signals,
            writer=self._run.writer,
            grace=self._run.plan.stop_grace,
            oversight=Oversight(link, self._examine, watch.stalled),
        )
        counts = [self._launch.processes] if self._launch else []
        if isinstance(link, Hub | Spoke):
            if not self._gather(supervisor, link):
                link.leave(supervisor.stop)
                return self._run.stopped_early(supervisor.stop)
            counts = link.counts
        ending = supervisor.run(self._watched(self._programs(counts)))
        return self._judge(ending)

    def _link(self) -> Alone | Hub | Spoke:
        launch = self._launch
        if launch is None or len(launch.hosts) == 1 or launch.is_elastic:
            return Alone(self._host, hang_seconds=self._hang_seconds)
        terms = Terms(
            run_id=launch.run_id,
            say=self._run.writer.say,
            lost_seconds=self._run.plan.settings.seconds(LOST_SECONDS, DEFAULT_LOST_SECONDS),
            hang_seconds=self._hang_seconds,
        )
        if launch.place == 0:
            return Hub(
                launch.hosts,
                launch.processes,
                listener=_listen(self._run.addresses.get(launch.master), launch),
                terms=terms,
            )
        return Spoke(
            launch.host,
            launch.processes,
            hub=(launch.master, launch.control_port),
            hub_name=launch.hosts[0],
            terms=terms,
        )

    def _gather(self, supervisor: Supervisor, link: Hub | Spoke) -> bool:
        """Wait until all hosts have joined; return False if the job was stopped."""
        seconds = self._run.plan.settings.seconds(DNS_SECONDS, DEFAULT_SECONDS)
        seconds = seconds or DEFAULT_SECONDS
        if supervisor.wait_for(lambda: bool(link.counts), monotonic() + seconds):
            return True
        if supervisor.stop:
            return False
        missing = link.missing if isinstance(link, Hub) else [link.hub_name]
        raise ContractError(
            where=f"host {', '.join(missing)}",
            what=f"did not join the job within {seconds:g} s",
            hint="Look at that host's log; the hosts must reach each other's ports "
            f"({CONTROL_PORT} sets the one for this), and have the same settings",
        )

    def _programs(self, counts: Sequence[int]) -> list[Program]:
        launch, program = self._launch, self._run.plan.program
        if launch is None:
            self._run.writer.say("not in the distribution: one plain process")
            return [program]
        hardware = self._run.plan.hardware
        network = look_at_network(
            self._run.job.cluster.network_interface,
            hosts=len(launch.hosts),
            gpus=hardware.gpus,
            environ=self._run.plan.settings.environ,
        )
        self._say(launch, counts, network)
        # The user's own variables override these.
        defaults = {"TORCH_NCCL_ASYNC_ERROR_HANDLING": "1", **network.variables}
        if launch.processes > 1 and launch.torchrun is None:
            defaults["OMP_NUM_THREADS"] = str(cpu_threads(hardware.cpus, launch.processes))
        master = {"SM_MASTER_ADDR": launch.master, "SM_MASTER_PORT": str(launch.port)}
        program = replace(program, environment={**defaults, **program.environment, **master})
        if launch.torchrun is not None:
            return [torchrun_program(launch, program, scratch=self._scratch)]
        return rank_programs(launch, counts, program, scratch=self._scratch)

    def _say(self, launch: Launch, counts: Sequence[int], network: Network) -> None:
        say = self._run.writer.say
        rendezvous = self._run.plan.settings.environ.get(PET_RENDEZVOUS)
        if rendezvous and launch.torchrun is not None:
            say(f"{launch.processes} started by torchrun on this host; others meet at {rendezvous}")
            return
        how = "started by torchrun" if launch.torchrun is not None else "ranks"
        say(
            f"{sum(counts) or launch.processes} {how} over {len(launch.hosts)} host(s), "
            f"{launch.host} is number {launch.place + 1}, master {launch.master}:{launch.port}, "
            f"expected transport: {network.transport}"
        )
        if network.warning:
            say(f"warning: {network.warning}")

    def _watched(self, programs: list[Program]) -> list[Program]:
        if self._hang_seconds == NEVER:
            return programs
        watched = []
        for number, program in enumerate(programs):
            file = self._scratch / f"progress-{number}"
            self._files.append(file)
            # For the rank's reports of its steps, and for its stacks at an abort.
            variables = {PROGRESS_FILE: str(file), "PYTHONFAULTHANDLER": "1"}
            environment = {**program.environment, **variables}
            watched.append(replace(program, environment=environment))
        return watched

    def _examine(self, outcome: Outcome, now: float, was_stopped: bool) -> Report | None:  # noqa: FBT001
        circumstances = self._run.circumstances(self._host)
        return report_on(outcome, circumstances, now=now, was_stopped=was_stopped)

    def _judge(self, ending: Ending) -> Verdict:
        verdict = ending.verdict
        if ending.stop or verdict is None:
            return self._run.judge(ending)
        text = verdict.text
        if verdict.code == HANG_CODE and verdict.rank is None:
            stacks = (_innermost_frames(outcome.err) for outcome in ending.outcomes)
            text = "\n".join([text, *next(filter(None, stacks), [])])
        return self._run.failed(verdict.code or ExitCode.MODEL_FAILED, text, FLUSH_SECONDS)


def _listen(address: str | None, launch: Launch) -> socket.socket:
    """Listen on the address that the other hosts know; on all if it is not this host's."""
    problem: str | None = None
    for place in (address or launch.master, ""):
        try:
            return socket.create_server((place, launch.control_port), backlog=128)
        except OSError as error:
            problem = error.strerror
    raise ContractError(
        where=f"port {launch.control_port}",
        what=f"can't be listened on ({problem})",
        hint=f"Set {CONTROL_PORT} to a free port, the same on all hosts",
    )


class ProgressFiles:
    """One progress file per rank. A rank that has none yet does not report its steps."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files
        self._seen: dict[Path, tuple[int, float]] = {}
        """Modification time, and when our clock first saw it: the two clocks may differ."""

    def stalled(self, now: float) -> float | None:
        """Return the seconds since the slowest rank's last step; None if no rank made one."""
        ages = [age for file in self._files if (age := self._age(file, now)) is not None]
        return max(ages, default=None)

    def _age(self, file: Path, now: float) -> float | None:
        try:
            changed = file.stat().st_mtime_ns
        except OSError:
            return None
        last = self._seen.get(file)
        if last is None or last[0] != changed:
            self._seen[file] = (changed, now)
            return 0.0
        return now - last[1]


def _innermost_frames(err: str) -> list[str]:
    """Return the main thread's frames in what the fault handler wrote, innermost first."""
    start = err.rfind(MAIN_THREAD)
    places = []
    for line in err[start:].splitlines()[1:] if start >= 0 else []:
        found = FATAL_FRAME.fullmatch(line)
        if not found:
            break
        places.append(f"  {found['file']}:{found['line']} in {found['function']}")
    return places[:FRAMES]


@contextmanager
def _scratch_folder() -> Iterator[Path]:
    try:
        folder = Path(tempfile.mkdtemp(prefix="byoc-"))
    except OSError as error:
        raise ContractError(
            where="temporary folder",
            what=f"can't be made ({error.strerror or error})",
            hint="Mount a writable /tmp, or set TMPDIR",
        ) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
