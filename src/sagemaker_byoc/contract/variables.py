"""Variables that configure a container, or tell a client of a region: each name once.

Names without BYOC are the platform's, or were given a meaning by AWS's toolkits and by the classic
example container; endpoints that exist already set them.

Only strings, without an import: programs of users pay for this module at their start.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_GUIDE = "SageMaker developer guide"
_TRAINING_TOOLKIT = "sagemaker-training 5.1.4: environment.py"
_TOOLKIT = "sagemaker-inference-toolkit 1.10.1: parameters.py, environment.py"
_CLASSIC = "amazon-sagemaker-examples: scikit_bring_your_own container, serve"
_STANDARDS = "model-hosting-container-standards 0.1.16: sessions"
_MULTI = f"{_GUIDE}: build-multi-model-build-container, mms-container-apis"
_BATCH = f"{_GUIDE}: batch-transform, your-algorithms-batch-code"
_SDK = "SageMaker SDK"

TRAIN, SERVE, BOTH, CLIENT = "train", "serve", "train, serve", "client"
CHECKED = "2026-11-23"


class Variable(str):
    """The name of a variable, with who reads it, the source of its meaning, and a note."""

    __slots__ = ("note", "reader", "source")
    reader: str
    source: str
    note: str

    def __new__(cls, name: str, reader: str, source: str, note: str = "") -> Variable:
        self = super().__new__(cls, name)
        self.reader, self.source, self.note = reader, source, note
        return self


def _theirs(name: str, reader: str, source: str, note: str = "") -> str:
    """A name, typed as any other key of an environment."""
    return Variable(name, reader, source, note)


def _ours(name: str, reader: str, decision: str, note: str) -> str:
    return Variable(name, reader, f"our choice: docs/decisions/{decision}", note)


# Both images
BASE_DIR = _theirs("SAGEMAKER_BASE_DIR", BOTH, _TRAINING_TOOLKIT, "moves the whole of /opt/ml")
PROGRAM = _theirs("SAGEMAKER_PROGRAM", BOTH, _TOOLKIT, "the file to run, or with the handlers")
SUBMIT_DIRECTORY = _theirs("SAGEMAKER_SUBMIT_DIRECTORY", BOTH, _TOOLKIT, "the folder of PROGRAM")
PROGRAM_DIR = _ours(
    "BYOC_PROGRAM_DIR",
    BOTH,
    "0003",
    "folder of the program baked into the image; outside /opt/ml, which mounts may hide",
)
INSTALLER = _ours(
    "BYOC_INSTALLER",
    BOTH,
    "0004",
    "set by the process engine: the command that installs into the Python of the container",
)
ALLOW_CPU = _ours("BYOC_ALLOW_CPU", BOTH, "0003", "1 to run although GPUs can't be used")

# Training: each of ours is also a hyperparameter, sagemaker_byoc_x
STOP_GRACE = _ours(
    "BYOC_STOP_GRACE", TRAIN, "0001", "seconds from a stop signal until the program is killed; 110"
)
NPROC = _ours(
    "BYOC_NPROC",
    TRAIN,
    "0007",
    "processes per host: a number, or gpu for one per GPU; one plain process without it",
)
TORCHRUN_ARGS = _ours(
    "BYOC_TORCHRUN_ARGS", TRAIN, "0007", "options for torchrun, which then starts the processes"
)
CONTROL_PORT = _ours(
    "BYOC_CONTROL_PORT",
    TRAIN,
    "0007",
    "port of the first host's supervisor for the others; MASTER_PORT + 1",
)
DNS_SECONDS = _ours(
    "BYOC_DNS_SECONDS",
    TRAIN,
    "0007",
    "how long the other hosts may take to appear; 300, 0 does not wait for their names",
)
LOST_SECONDS = _ours(
    "BYOC_LOST_SECONDS", TRAIN, "0007", "silence after which a host counts as lost; 20"
)
HANG_SECONDS = _ours(
    "BYOC_HANG_SECONDS", TRAIN, "0007", "time without progress after which the job is ended; never"
)
INSTALL_REQUIREMENTS = _ours(
    "BYOC_INSTALL_REQUIREMENTS",
    TRAIN,
    "0001",
    "1 to install the program's requirements.txt at the start",
)
REPLACE = _ours(
    "BYOC_REPLACE",
    TRAIN,
    "0020",
    "packages of the image that requirements may replace: names such as torch, or all",
)
WATCH = _ours("BYOC_WATCH", TRAIN, "0021", "1, rules by name, or a JSON object: watch the training")
PROGRESS_FILE = _ours(
    "BYOC_PROGRESS_FILE",
    TRAIN,
    "0007",
    "set for the program: a file to touch at each step, for HANG_SECONDS",
)
TENSORBOARD_DIR = _ours(
    "BYOC_TENSORBOARD_DIR", TRAIN, "0021", "folder of TensorBoard's files; else that of the job"
)
CODE_COMMIT = _ours("BYOC_CODE_COMMIT", TRAIN, "0021", "commit of the program, for run.json")
CODE_REPOSITORY = _ours(
    "BYOC_CODE_REPOSITORY", TRAIN, "0021", "repository of the program, for run.json"
)
IMAGE_DIGEST = _ours(
    "BYOC_IMAGE_DIGEST", TRAIN, "0021", "for run.json: a container can't know its own digest"
)
JOB_NAME = _theirs("SAGEMAKER_JOB_NAME", TRAIN, f"{_SDK} 3.20: container_drivers")
REGION = _theirs("SAGEMAKER_REGION", TRAIN, _TRAINING_TOOLKIT, "set for the program")
METRICS_DIRECTORY = _theirs(
    "SAGEMAKER_METRICS_DIRECTORY", TRAIN, "sagemaker-experiments: smexperiments/metrics.py"
)
WARM_POOL_CACHE = _theirs(
    "SAGEMAKER_MANAGED_WARMPOOL_CACHE_DIRECTORY", TRAIN, f"{_GUIDE}: train-warm-pools"
)

# Serving
BIND_TO_PORT = _theirs("SAGEMAKER_BIND_TO_PORT", SERVE, f"{_GUIDE}: inference-pipeline-real-time")
BIND_HOST = _ours("BYOC_BIND_HOST", SERVE, "0002", "127.0.0.1 on the user's own machine")
BATCH_TRANSFORM = _theirs("SAGEMAKER_BATCH", SERVE, _BATCH, "true in a batch transform job")
MAX_PAYLOAD_IN_MB = _theirs(
    "SAGEMAKER_MAX_PAYLOAD_IN_MB",
    SERVE,
    _BATCH,
    "0 means unbounded, and only in a batch transform job",
)
BATCH_STRATEGY = _theirs(
    "SAGEMAKER_BATCH_STRATEGY", SERVE, _BATCH, "SINGLE_RECORD or MULTI_RECORD, if the job says"
)
MAX_CONCURRENT_TRANSFORMS = _theirs(
    "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS", SERVE, _BATCH, "if the job says"
)
TRANSFORM_JOB_ARN = _theirs(
    "TRANSFORM_JOB_ARN", SERVE, "sagemaker-python-sdk 2: experiments/_environment.py"
)
WORKERS = _theirs("SAGEMAKER_MODEL_SERVER_WORKERS", SERVE, _TOOLKIT)
CLASSIC_WORKERS = _theirs("MODEL_SERVER_WORKERS", SERVE, _CLASSIC)
WORKER_START = _ours(
    "BYOC_WORKER_START",
    SERVE,
    "0032",
    "auto: workers are forked from one loaded model if that is safe; spawn: each loads it",
)
TIMEOUT = _theirs(
    "SAGEMAKER_MODEL_SERVER_TIMEOUT",
    SERVE,
    _TOOLKIT,
    "seconds here; the toolkit passes it to a server that reads it as minutes",
)
TIMEOUT_SECONDS = _theirs(
    "SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS",
    SERVE,
    _TOOLKIT,
    "wins over the one without the unit",
)
CLASSIC_TIMEOUT = _theirs("MODEL_SERVER_TIMEOUT", SERVE, _CLASSIC, "seconds")
DEFAULT_ACCEPT = _theirs("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", SERVE, _TOOLKIT)
QUEUE = _ours("BYOC_QUEUE", SERVE, "0002", "requests that may wait for a model worker")
STUCK_GRACE = _ours(
    "BYOC_STUCK_GRACE",
    SERVE,
    "0002",
    "seconds past its deadline after which a request's worker is killed",
)
QUEUE_MB = _ours(
    "BYOC_QUEUE_MB",
    SERVE,
    "0010",
    "bodies of all requests in progress; a quarter of the memory, ≤ 1024",
)
BATCH_SIZE = _ours(
    "BYOC_BATCH",
    SERVE,
    "0010",
    "requests that may run as one batch; wins over the handlers' own",
)
TARGET_LATENCY = _ours(
    "BYOC_TARGET_LATENCY_MS", SERVE, "0010", "batches grow and shrink to take at most this long"
)
STREAM_TIMEOUT = _ours("BYOC_STREAM_TIMEOUT", SERVE, "0010", "seconds for a streamed reply")
MULTI_MODEL = _theirs("SAGEMAKER_MULTI_MODEL", SERVE, _MULTI, "true on a multi-model endpoint")
MODEL_MEMORY = _ours(
    "BYOC_MODEL_MEMORY_MB",
    SERVE,
    "0011",
    "what one model of a multi-model endpoint takes; else estimated from its files",
)
ALLOW_PICKLE = _ours(
    "BYOC_ALLOW_PICKLE", SERVE, "0006", "1 if a model that came without model_fn may be a pickle"
)
SESSIONS_ENABLED = _theirs("SAGEMAKER_ENABLE_STATEFUL_SESSIONS", SERVE, _STANDARDS, "true")
SESSIONS_EXPIRATION = _theirs("SAGEMAKER_SESSIONS_EXPIRATION", SERVE, _STANDARDS, "seconds; 1200")
SESSIONS = _ours("BYOC_SESSIONS", SERVE, "0012", "sessions open at the same time; 1000")
CONVERSATIONS = _ours("BYOC_CONVERSATIONS", SERVE, "0012", "two-way streams of one worker; 8")
CONVERSATION_TIMEOUT = _ours(
    "BYOC_CONVERSATION_TIMEOUT", SERVE, "0012", "seconds of a two-way stream; 1800"
)
ERROR_BUDGET = _ours(
    "BYOC_ERROR_BUDGET",
    SERVE,
    "0013",
    "percent of requests that may fail within a minute before /ping says 503; 100, 0 for never",
)
EVENT_LOOP = _ours("BYOC_EVENT_LOOP", SERVE, "0010", "auto, asyncio or uvloop")
MAX_ADAPTERS = _theirs(
    "SAGEMAKER_MAX_NUMBER_OF_ADAPTERS_IN_MEMORY",
    SERVE,
    _STANDARDS,
    "that may be registered; 70",
)
CAPTURE = _ours(
    "BYOC_CAPTURE", SERVE, "0017", "folder in which requests and replies are captured; off if unset"
)
CAPTURE_PERCENT = _ours(
    "BYOC_CAPTURE_PERCENT", SERVE, "0017", "of the requests, each drawn by itself; 100"
)
CAPTURE_MODE = _ours("BYOC_CAPTURE_MODE", SERVE, "0017", "both, input or output")
CAPTURE_CSV_TYPES = _ours("BYOC_CAPTURE_CSV_TYPES", SERVE, "0017", "kept as CSV; text/csv")
CAPTURE_JSON_TYPES = _ours(
    "BYOC_CAPTURE_JSON_TYPES", SERVE, "0017", "kept as JSON; application/json"
)
CAPTURE_SECONDS = _ours("BYOC_CAPTURE_SECONDS", SERVE, "0017", "until a file is complete; 60")
CAPTURE_MB = _ours("BYOC_CAPTURE_MB", SERVE, "0017", "at which a file is complete; 64")
CAPTURE_BODY_MB = _ours(
    "BYOC_CAPTURE_BODY_MB",
    SERVE,
    "0017",
    "largest body; an invocation with a larger one is not recorded; 6",
)
CAPTURE_QUEUE_MB = _ours("BYOC_CAPTURE_QUEUE_MB", SERVE, "0017", "that may wait for the disk; 64")
CAPTURE_FREE_PERCENT = _ours(
    "BYOC_CAPTURE_FREE_PERCENT",
    SERVE,
    "0017",
    "of the disk to leave free; capture pauses below it; 10",
)
CSV_HEADER = _ours("BYOC_CSV_HEADER", SERVE, "0002", "absent, present or auto")

# On the user's own machine
REGION_URL = _ours("BYOC_REGION_URL", CLIENT, "0015", "address of the local region")
REGION_OWNER = _ours(
    "_BYOC_OWNER", CLIENT, "0015", "set by the process engine: marks the processes of a container"
)
ROLE = _theirs("SAGEMAKER_ROLE", CLIENT, f"{_SDK}: examples", "an IAM role, by ARN or by name")
USER_CONFIG = _theirs("SAGEMAKER_USER_CONFIG_OVERRIDE", CLIENT, f"{_SDK}: sagemaker.config")

_PREFIXES = ("BYOC_", "SAGEMAKER_", "MODEL_SERVER_")
_LIKENESS = 0.85
_UNREAD = frozenset(
    {
        "SAGEMAKER_CONTAINER_LOG_LEVEL",
        "SAGEMAKER_SAFE_PORT_RANGE",
        "SAGEMAKER_MODEL_SERVER_VMARGS",
        "SAGEMAKER_STARTUP_TIMEOUT",
        "SAGEMAKER_REQUIREMENTS",
    }
)
"""Variables that the platform or AWS's toolkits set, and that neither of our images reads."""


def every() -> list[Variable]:
    """Return all variables, in the order of this module."""
    return [value for value in globals().values() if isinstance(value, Variable)]


def is_known(name: str) -> bool:
    return name in _UNREAD or name in every()


def misspelt(names: Iterable[str], reader: str) -> dict[str, str]:
    """Return, for each name that means nothing, the variable of `reader` that it resembles."""
    known = {*_UNREAD, *every()}
    unknown = sorted(
        name for name in names if name.upper().startswith(_PREFIXES) and name not in known
    )
    if not unknown:
        return {}
    from difflib import get_close_matches  # noqa: PLC0415 - few containers need it

    wanted = [*_UNREAD, *(one for one in every() if reader in one.reader)]
    found = {name: get_close_matches(name.upper(), wanted, 1, _LIKENESS) for name in unknown}
    return {name: str(like[0]) for name, like in found.items() if like}


def warnings(names: Iterable[str], reader: str) -> list[str]:
    """Return a line for the log of `reader` for each name that looks misspelt."""
    return [
        f"variable {name} is not known; did you mean {meant}?"
        for name, meant in misspelt(names, reader).items()
    ]
