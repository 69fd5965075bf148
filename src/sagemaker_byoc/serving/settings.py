"""The settings of a serving container, read once from its environment and passed to child
processes.

Standard library only: the supervisor and the front import it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from sagemaker_byoc.contract import http, machine, variables
from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.contract.lifecycle import SERVE_DRAIN
from sagemaker_byoc.contract.paths import Tree, baked_program_dir
from sagemaker_byoc.serving import media
from sagemaker_byoc.serving.capture.options import CaptureSettings
from sagemaker_byoc.serving.reader import Reader

QUEUE = 100
QUEUE_MB = 1024
STUCK_GRACE = 10.0
SESSIONS = 1000
ADAPTERS = 70
CONVERSATIONS = 8
CONVERSATION_SECONDS = 1800.0
SESSION_SECONDS = 1200.0
EVENT_LOOPS = ("auto", "asyncio", "uvloop")
CSV_HEADERS = ("absent", "present", "auto")
WORKER_STARTS = ("auto", "spawn")
MOST_WORKERS = 16
"""Workers that are started without being asked for."""
THREADS_SHARE = 4
"""A worker computes on this fraction (1/n) of the CPUs, and on at least one."""
OMP_THREADS = "OMP_NUM_THREADS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings as plain values that can travel to the child processes as JSON."""

    root: str
    program: str
    is_program_named: bool
    submit_directory: str
    program_dir: str
    host: str
    port: int
    slots: int
    """Workers; if `is_automatic`, the most that the loaded model may turn out to need."""
    threads: int
    """Threads of one worker, if the model does not choose another number."""
    cpus: int
    gpus: tuple[str, ...]
    payload: int | None
    deadline: float
    stuck_grace: float
    queue: int
    default_accept: str
    csv_header: str
    queue_bytes: int
    batch: int
    target_latency: float | None
    stream_deadline: float
    transform_megabytes: int
    batch_strategy: str
    is_automatic: bool = False
    """Whether the process that loads the model decides how many workers there are."""
    are_threads_given: bool = False
    """Whether `threads` is the user's number."""
    worker_start: str = "auto"
    allow_pickle: bool = False
    sessions: int = 0
    """Sessions that may be open at the same time; 0 leaves their headers to the handlers."""
    session_seconds: float = SESSION_SECONDS
    conversations: int = CONVERSATIONS
    """Two-way streams that one worker carries at the same time."""
    conversation_deadline: float = CONVERSATION_SECONDS
    adapters: int = ADAPTERS
    """Adapters that may be registered."""
    error_budget: float = 100.0
    """Percentage of failed requests from which /ping reports it; 0 for never."""
    event_loop: str = "auto"
    drain: float = SERVE_DRAIN.value
    """Seconds that requests in flight may take after SIGTERM."""
    is_batch: bool = False
    is_multi_model: bool = False
    model_memory: int | None = None
    """Bytes of memory per model, if configured."""
    model_name: str = ""
    model_url: str = ""
    """URL of the one model that a worker of a multi-model endpoint holds."""
    capture: CaptureSettings | None = None
    """None if requests are not captured."""

    @property
    def tree(self) -> Tree:
        return Tree.from_environ({variables.BASE_DIR: self.root})

    @property
    def model_dir(self) -> Path:
        return Path(self.model_url) if self.model_url else self.tree.model

    @property
    def may_fork(self) -> bool:
        """Return whether workers may be copies of one process that has loaded the model."""
        several = self.slots > 1 and not self.is_multi_model
        return several and not self.gpus and self.worker_start == "auto"

    def concurrent_transforms(self, workers: int) -> int:
        """Return how many requests keep every worker busy while the next ones arrive, within the
        platform's limit on their total size."""
        wanted = 2 * workers * max(1, self.batch)
        fits = http.TRANSFORM_PRODUCT.value // max(1, self.transform_megabytes)
        return max(1, min(wanted, fits, workers + self.queue))

    def gpu_of(self, slot: int) -> str | None:
        """Return the GPU that a slot sees; slots beyond the number of GPUs share them in turn."""
        return self.gpus[slot % len(self.gpus)] if self.gpus else None

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Settings:
        values = json.loads(text)
        capture = values["capture"] and CaptureSettings.from_dict(values["capture"])
        return cls(**{**values, "gpus": tuple(values["gpus"]), "capture": capture})

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Settings:
        """Read the settings; raise ContractError for an invalid value."""
        read = Reader(environ)
        gpus, cpus = machine.visible_gpus(environ), machine.usable_cpus()
        is_multi_model = read.text(variables.MULTI_MODEL).lower() == "true"
        slots = read.count(variables.WORKERS, variables.CLASSIC_WORKERS, default=0)
        is_automatic = not slots and not gpus and not is_multi_model
        slots = slots or (min(cpus, MOST_WORKERS) if is_automatic else len(gpus) or 1)
        threads = _threads_given(environ)
        is_batch = environ.get(variables.BATCH_TRANSFORM, "").lower() == "true"
        deadline = http.BATCH_DEADLINE if is_batch else http.REALTIME_DEADLINE
        return cls(
            root=str(Tree.from_environ(environ).root),
            program=read.text(variables.PROGRAM) or http.DEFAULT_PROGRAM.value,
            is_program_named=bool(read.text(variables.PROGRAM)),
            submit_directory=read.text(variables.SUBMIT_DIRECTORY).removeprefix("file://"),
            program_dir=str(baked_program_dir(environ)),
            host=read.text(variables.BIND_HOST) or "0.0.0.0",  # noqa: S104 - a container's port
            port=read.count(variables.BIND_TO_PORT, default=http.PORT.value, most=65535),
            slots=slots,
            threads=threads or max(1, cpus // (THREADS_SHARE if is_automatic else slots)),
            cpus=cpus,
            gpus=gpus,
            payload=_payload(read, is_batch=is_batch),
            deadline=read.seconds(
                variables.TIMEOUT_SECONDS,
                variables.TIMEOUT,
                variables.CLASSIC_TIMEOUT,
                default=deadline.value,
            ),
            stuck_grace=read.seconds(variables.STUCK_GRACE, default=STUCK_GRACE),
            queue=read.count(variables.QUEUE, default=QUEUE, least=0),
            default_accept=_accept(read),
            csv_header=read.choice(variables.CSV_HEADER, CSV_HEADERS),
            queue_bytes=read.count(variables.QUEUE_MB, default=_queue_megabytes()) * 2**20,
            batch=read.count(variables.BATCH_SIZE, default=0, least=0),
            target_latency=_target(read),
            stream_deadline=read.seconds(
                variables.STREAM_TIMEOUT, default=http.STREAM_DEADLINE.value
            ),
            transform_megabytes=_transform_megabytes(read),
            batch_strategy=_batch_strategy(environ),
            is_automatic=is_automatic and slots > 1,
            are_threads_given=threads > 0,
            worker_start=read.choice(variables.WORKER_START, WORKER_STARTS),
            allow_pickle=read.flag(variables.ALLOW_PICKLE),
            sessions=_sessions(read),
            session_seconds=read.seconds(variables.SESSIONS_EXPIRATION, default=SESSION_SECONDS),
            conversations=read.count(variables.CONVERSATIONS, default=CONVERSATIONS),
            conversation_deadline=read.seconds(
                variables.CONVERSATION_TIMEOUT, default=CONVERSATION_SECONDS
            ),
            adapters=read.count(variables.MAX_ADAPTERS, default=ADAPTERS),
            error_budget=read.seconds(variables.ERROR_BUDGET, default=100.0, least=0.0),
            event_loop=read.choice(variables.EVENT_LOOP, EVENT_LOOPS),
            is_batch=is_batch,
            is_multi_model=is_multi_model,
            model_memory=read.count(variables.MODEL_MEMORY, default=0, least=0) * 2**20 or None,
            capture=CaptureSettings.read(read),
        )


def _threads_given(environ: Mapping[str, str]) -> int:
    """Return the user's number of threads; 0 without one, or if it is not a number."""
    wanted = environ.get(OMP_THREADS, "").partition(",")[0].strip()
    return int(wanted) if wanted.isdecimal() else 0


def _payload(read: Reader, *, is_batch: bool) -> int | None:
    """Return the largest body in bytes; None for no limit, which only a batch job may ask for."""
    megabytes = read.count(variables.MAX_PAYLOAD_IN_MB, default=-1, least=0)
    if megabytes < 0:
        return http.PAYLOAD.value
    if megabytes == 0 and is_batch:
        return None
    if megabytes == 0:
        raise ContractError(
            where=variables.MAX_PAYLOAD_IN_MB,
            what="is 0, which means no limit, outside of a batch transform job",
            hint=f"Give a number of megabytes, or set {variables.BATCH_TRANSFORM}=true",
        )
    return megabytes * 2**20


def _sessions(read: Reader) -> int:
    is_on = read.text(variables.SESSIONS_ENABLED).lower() == "true"
    return read.count(variables.SESSIONS, default=SESSIONS) if is_on else 0


def _queue_megabytes() -> int:
    """Return the megabytes of bodies that may wait in memory, beside the models."""
    return min(QUEUE_MB, max(32, machine.usable_memory() // 4 // 2**20))


def _target(read: Reader) -> float | None:
    milliseconds = read.seconds(variables.TARGET_LATENCY, default=math.inf)
    return None if milliseconds == math.inf else milliseconds / 1000


def _transform_megabytes(read: Reader) -> int:
    """Return the job's setting if it has one, else the platform's default."""
    set_by_job = read.count(variables.MAX_PAYLOAD_IN_MB, default=0, least=0)
    return set_by_job or http.TRANSFORM_PAYLOAD.value


def _batch_strategy(environ: Mapping[str, str]) -> str:
    """Return the strategy in the platform's spelling; the SDK's local mode, which sends "True",
    accepts only its own."""
    is_local_mode = environ.get(variables.BATCH_TRANSFORM) == "True"
    return "MultiRecord" if is_local_mode else "MULTI_RECORD"


def _accept(read: Reader) -> str:
    text = read.text(variables.DEFAULT_ACCEPT) or media.JSON
    parsed = media.parse(text)
    if parsed is None or "*" in parsed.essence:
        raise ContractError(
            where=variables.DEFAULT_ACCEPT,
            what=f"is {text!r}, which is not one media type",
            hint=f"Give a type such as {media.JSON}",
        )
    return parsed.essence


@dataclass(frozen=True, slots=True)
class HandlerFile:
    """The chosen handler file, its folder, and files of the same name that were not chosen."""

    chosen: Path | None
    folder: Path | None
    passed_over: tuple[Path, ...]


def is_remote(settings: Settings) -> bool:
    """Return whether the configured folder is an address, which no server reads.

    SDK 2 gives one to the models of scikit-learn and XGBoost: their images download the program.
    """
    return "://" in settings.submit_directory


def handler_folders(settings: Settings) -> tuple[Path, ...]:
    """Return the folders in search order: the configured one, the model's, the image's."""
    named = settings.submit_directory
    candidates = [
        *([Path(named)] if named and not is_remote(settings) else []),
        settings.model_dir / settings.tree.model_code.name,
        Path(settings.program_dir),
    ]
    return tuple(dict.fromkeys(candidates))


def find_handlers(settings: Settings) -> HandlerFile:
    """Return the first file with the program's name; it may be missing unless the name was
    configured."""
    names = [settings.program, *([] if settings.is_program_named else http.APPLICATIONS)]
    places = [(folder, folder / name) for name in names for folder in handler_folders(settings)]
    found = [(folder, path) for folder, path in places if path.is_file()]
    if found:
        folder, chosen = found[0]
        others = tuple(path for _, path in found[1:] if path.name == chosen.name)
        return HandlerFile(chosen, folder, others)
    if settings.is_program_named:
        raise ContractError(
            where=variables.PROGRAM,
            what=f"is {settings.program}, and no such file is in "
            + ", ".join(str(folder) for folder, _ in places),
            hint=f"Put it into one of them, or set {variables.SUBMIT_DIRECTORY}",
        )
    return HandlerFile(None, None, ())
