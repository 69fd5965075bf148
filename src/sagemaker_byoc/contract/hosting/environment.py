"""The variables that configure a serving container, and the limits that follow from the platform's.

Names without BYOC are the platform's, or were given a meaning by AWS's serving toolkits and by the
classic example container; endpoints that exist already set them.
"""

from __future__ import annotations

from sagemaker_byoc.contract import gpu
from sagemaker_byoc.contract.facts import GUIDE, Fact

_TOOLKIT = "sagemaker-inference-toolkit 1.10.1: parameters.py, environment.py"
_CLASSIC = "amazon-sagemaker-examples: scikit_bring_your_own container, serve"
_STANDARDS = "model-hosting-container-standards 0.1.16: sessions"
_OURS = "our choice: docs/decisions/0002"
_OURS_TOO = "our choice: docs/decisions/0010"
_MULTI = f"{GUIDE}: build-multi-model-build-container, mms-container-apis"
_BATCH = f"{GUIDE}: batch-transform, your-algorithms-batch-code"
_CHECKED = "2026-11-23"


def _variable(name: str, source: str, note: str = "") -> Fact[str]:
    return Fact(name, "variable", source, _CHECKED, note)


def _capture(name: str, note: str) -> Fact[str]:
    return _variable(name, "our choice: docs/decisions/0017", note)


BIND_TO_PORT = _variable("SAGEMAKER_BIND_TO_PORT", f"{GUIDE}: inference-pipeline-real-time")
BIND_HOST = _variable("BYOC_BIND_HOST", _OURS, "127.0.0.1 where the host is the user's own machine")
BATCH = _variable("SAGEMAKER_BATCH", _BATCH, "true in a batch transform job")
MAX_PAYLOAD_IN_MB = _variable(
    "SAGEMAKER_MAX_PAYLOAD_IN_MB", _BATCH, "0 means unbounded, and only in a batch transform job"
)
WORKERS = _variable("SAGEMAKER_MODEL_SERVER_WORKERS", _TOOLKIT)
CLASSIC_WORKERS = _variable("MODEL_SERVER_WORKERS", _CLASSIC)
TIMEOUT = _variable(
    "SAGEMAKER_MODEL_SERVER_TIMEOUT",
    _TOOLKIT,
    "seconds here; the toolkit hands it to a server that reads it as minutes",
)
TIMEOUT_SECONDS = _variable(
    "SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS", _TOOLKIT, "comes before the one without the unit"
)
CLASSIC_TIMEOUT = _variable("MODEL_SERVER_TIMEOUT", _CLASSIC, "seconds")
DEFAULT_ACCEPT = _variable("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", _TOOLKIT)
PROGRAM = _variable("SAGEMAKER_PROGRAM", _TOOLKIT, "the file that holds the handlers")
SUBMIT_DIRECTORY = _variable("SAGEMAKER_SUBMIT_DIRECTORY", _TOOLKIT)
QUEUE = _variable("BYOC_QUEUE", _OURS, "requests that may wait for a model worker")
STUCK_GRACE = _variable(
    "BYOC_STUCK_GRACE", _OURS, "seconds past its deadline after which a request's worker is killed"
)
QUEUE_MB = _variable(
    "BYOC_QUEUE_MB", _OURS_TOO, "bodies of all requests under way; a quarter of the memory, ≤ 1024"
)
BATCH_SIZE = _variable(
    "BYOC_BATCH", _OURS_TOO, "requests that may run as one batch; comes before the handlers' own"
)
TARGET_LATENCY = _variable(
    "BYOC_TARGET_LATENCY_MS", _OURS_TOO, "batches grow and shrink to take at most this long"
)
STREAM_TIMEOUT = _variable("BYOC_STREAM_TIMEOUT", _OURS_TOO, "seconds for a streamed reply")
MULTI_MODEL = _variable("SAGEMAKER_MULTI_MODEL", _MULTI, "true on a multi-model endpoint")
MODEL_MEMORY = _variable(
    "BYOC_MODEL_MEMORY_MB",
    "our choice: docs/decisions/0011",
    "what one model of a multi-model endpoint takes; else estimated from its files",
)
ALLOW_PICKLE = _variable(
    "BYOC_ALLOW_PICKLE",
    "our choice: docs/decisions/0006",
    "1 if a model that came without model_fn may be a pickle",
)
ALLOW_CPU = _variable(
    gpu.ALLOW_CPU, "our choice: docs/decisions/0003", "1 to serve although GPUs can't be used"
)
SESSIONS_ENABLED = _variable("SAGEMAKER_ENABLE_STATEFUL_SESSIONS", _STANDARDS, "true")
SESSIONS_EXPIRATION = _variable("SAGEMAKER_SESSIONS_EXPIRATION", _STANDARDS, "seconds; 1200")
SESSIONS = _variable(
    "BYOC_SESSIONS", "our choice: docs/decisions/0012", "sessions open at the same time; 1000"
)
CONVERSATIONS = _variable(
    "BYOC_CONVERSATIONS", "our choice: docs/decisions/0012", "two-way streams of one worker; 8"
)
CONVERSATION_TIMEOUT = _variable(
    "BYOC_CONVERSATION_TIMEOUT",
    "our choice: docs/decisions/0012",
    "seconds of a two-way stream; 1800",
)
ERROR_BUDGET = _variable(
    "BYOC_ERROR_BUDGET",
    "our choice: docs/decisions/0013",
    "percent of requests that may fail within a minute before /ping says 503; 100, 0 for never",
)
EVENT_LOOP = _variable("BYOC_EVENT_LOOP", _OURS_TOO, "auto, asyncio or uvloop")
MAX_ADAPTERS = _variable(
    "SAGEMAKER_MAX_NUMBER_OF_ADAPTERS_IN_MEMORY", _STANDARDS, "that may be registered; 70"
)
CAPTURE = _capture("BYOC_CAPTURE", "folder that requests and replies are captured in; off without")
CAPTURE_PERCENT = _capture("BYOC_CAPTURE_PERCENT", "of the requests, each drawn by itself; 100")
CAPTURE_MODE = _capture("BYOC_CAPTURE_MODE", "both, input or output")
CAPTURE_CSV_TYPES = _capture("BYOC_CAPTURE_CSV_TYPES", "kept as CSV; text/csv")
CAPTURE_JSON_TYPES = _capture("BYOC_CAPTURE_JSON_TYPES", "kept as JSON; application/json")
CAPTURE_SECONDS = _capture("BYOC_CAPTURE_SECONDS", "until a file is complete; 60")
CAPTURE_MB = _capture("BYOC_CAPTURE_MB", "at which a file is complete; 64")
CAPTURE_BODY_MB = _capture("BYOC_CAPTURE_BODY_MB", "of a body; with a larger one no record; 6")
CAPTURE_QUEUE_MB = _capture("BYOC_CAPTURE_QUEUE_MB", "that may wait for the disk; 64")
CAPTURE_FREE_PERCENT = _capture(
    "BYOC_CAPTURE_FREE_PERCENT", "of the disk that stay free, else capture pauses; 10"
)
CSV_HEADER = _variable("BYOC_CSV_HEADER", _OURS, "absent, present or auto")

MODELS = Fact("/models", "route", _MULTI, _CHECKED, "below it all of multi-model")
MODELS_FOLDER = Fact(
    "models", "folder below the root", _MULTI, _CHECKED, "/opt/ml/models/{model_name}/model"
)
BIDIRECTIONAL = Fact(
    "/invocations-bidirectional-stream",
    "route",
    f"{GUIDE}: realtime-endpoints-bidirectional-streaming",
    _CHECKED,
    "a WebSocket",
)
CHAT = Fact(
    "/v1/chat/completions",
    "route",
    f"{GUIDE}: realtime-endpoints-openai-compatible",
    _CHECKED,
    "with stream: true the reply is server-sent events",
)
ADAPTERS = Fact(
    "/adapters", "route", "model-hosting-container-standards 0.1.16, DJL Serving: LoRA", _CHECKED
)
METRICS = Fact("/metrics", "route", f"{GUIDE}: monitoring, ContainerMetricsConfig", _CHECKED)
EXECUTION_PARAMETERS = Fact("/execution-parameters", "route", _BATCH, _CHECKED)
TRANSFORM_PAYLOAD = Fact(
    6, "MB", f"{GUIDE}: batch-transform, MaxPayloadInMB", _CHECKED, "the platform's own default"
)
TRANSFORM_PRODUCT = Fact(
    100, "MB", f"{GUIDE}: batch-transform", _CHECKED, "most for MaxConcurrentTransforms x payload"
)
DEFAULT_PROGRAM = Fact("inference.py", "file name", _TOOLKIT, _CHECKED)
PACKAGES = ("flask", "gunicorn", "numpy", "orjson")
"""Those of the extra `serve` without which the server does not start."""
APPLICATIONS = ("wsgi.py", "predictor.py")
"""Looked for if no program is named and there is none of the default name: where the examples of
AWS's for a container of one's own have their application."""
REALTIME_DEADLINE = Fact(
    58.0, "seconds", _OURS, _CHECKED, "the platform's 60 less what the answer needs to travel"
)
STREAM_DEADLINE = Fact(
    478.0, "seconds", _OURS_TOO, _CHECKED, "the platform's 8 minutes less what an end needs"
)
BATCH_DEADLINE = Fact(
    598.0,
    "seconds",
    f"{GUIDE}: ModelClientConfig.InvocationsTimeoutInSeconds, default 600",
    _CHECKED,
    "the container is not told the job's own value",
)
