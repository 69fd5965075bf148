"""The protocol of a serving container: routes, port, limits, headers, deadlines."""

from __future__ import annotations

from sagemaker_byoc.contract.facts import API_MODEL, GUIDE, Fact

_PAGE = f"{GUIDE}: your-algorithms-inference-code"
_RUNTIME = f"{API_MODEL}: sagemaker-runtime"
_TOOLKIT = "sagemaker-inference-toolkit 1.10.1: parameters.py, environment.py"
_OURS = "our choice: docs/decisions/0002"
_OURS_TOO = "our choice: docs/decisions/0010"
_MULTI = f"{GUIDE}: build-multi-model-build-container, mms-container-apis"
_BATCH = f"{GUIDE}: batch-transform, your-algorithms-batch-code"
_CHECKED = "2026-11-23"

PORT = Fact(8080, "TCP port", _PAGE, "2026-11", "SAGEMAKER_BIND_TO_PORT overrides it")
PING = Fact("/ping", "route", _PAGE, "2026-11", "200 with an empty body when ready")
INVOCATIONS = Fact("/invocations", "route", _PAGE, "2026-11")
PING_TIMEOUT = Fact(2, "seconds", _PAGE, "2026-11")
ACCEPT_TIMEOUT = Fact(
    0.25, "seconds", _PAGE, "2026-11", "a TCP connection must be accepted within this"
)
INVOCATION_TIMEOUT = Fact(60, "seconds", _PAGE, "2026-11", "8 minutes for a streamed response")
STREAM_TIMEOUT = Fact(480, "seconds", _PAGE, "2026-11", "from the request to the last byte")
STARTUP_TIMEOUT = Fact(
    480,
    "seconds",
    _PAGE,
    "2026-11",
    "older text: 240; ContainerStartupHealthCheckTimeoutInSeconds overrides it",
)
STARTUP_TIMEOUT_MAX = Fact(
    3600,
    "seconds",
    f"{API_MODEL}: sagemaker.ProductionVariantContainerStartupHealthCheckTimeoutInSeconds.max",
    _CHECKED,
)
PAYLOAD = Fact(
    25 * 2**20,
    "bytes",
    f"{GUIDE}: deploy-model, hosting FAQ",
    "2026-11",
    "sagemaker-runtime.BodyBlob of the service model still says 6,291,456; "
    "SAGEMAKER_MAX_PAYLOAD_IN_MB overrides it",
)
API_PAYLOAD = Fact(
    6_291_456,
    "bytes",
    f"{_RUNTIME}.BodyBlob.max",
    _CHECKED,
    "what the local region takes and gives back; see PAYLOAD",
)
SERVERLESS_PAYLOAD = Fact(4 * 2**20, "bytes", f"{GUIDE}: serverless-endpoints-invoke", "2026-11")


def _header(name: str, member: str) -> Fact[str]:
    return Fact(name, "header", f"{_RUNTIME}.InvokeEndpoint.{member}", _CHECKED)


CUSTOM_ATTRIBUTES = _header("X-Amzn-SageMaker-Custom-Attributes", "CustomAttributes")
INFERENCE_ID = _header("X-Amzn-SageMaker-Inference-Id", "InferenceId")
TARGET_MODEL = _header("X-Amzn-SageMaker-Target-Model", "TargetModel")
TARGET_VARIANT = _header("X-Amzn-SageMaker-Target-Variant", "TargetVariant")
TARGET_CONTAINER = _header("X-Amzn-SageMaker-Target-Container-Hostname", "TargetContainerHostname")
SESSION_ID = _header("X-Amzn-SageMaker-Session-Id", "SessionId")
NEW_SESSION_ID = _header("X-Amzn-SageMaker-New-Session-Id", "NewSessionId")
CLOSED_SESSION_ID = _header("X-Amzn-SageMaker-Closed-Session-Id", "ClosedSessionId")
NEW_SESSION = Fact(
    "NEW_SESSION", "session id", f"{_RUNTIME}.SessionIdOrNewSessionConstantHeader", _CHECKED
)
SESSION_PATTERN = Fact(
    r"^[a-zA-Z0-9](-*[a-zA-Z0-9])*$",
    "regular expression",
    f"{_RUNTIME}.SessionIdHeader.pattern",
    _CHECKED,
)
SESSION_LENGTH = Fact(
    256, "characters", f"{_RUNTIME}.SessionIdOrNewSessionConstantHeader.max", _CHECKED
)
ADAPTER_ID = Fact(
    "X-Amzn-SageMaker-Adapter-Identifier",
    "header name",
    "model-hosting-container-standards 0.1.16: LoRA",
    _CHECKED,
)
CUSTOM_ATTRIBUTES_LENGTH = Fact(
    1024, "characters", f"{_RUNTIME}.CustomAttributesHeader.max", _CHECKED
)
INFERENCE_ID_LENGTH = Fact(64, "characters", f"{_RUNTIME}.InferenceId.max", _CHECKED)

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
"""Packages of the extra `serve` without which the server does not start."""
APPLICATIONS = ("wsgi.py", "predictor.py")
"""Files to try if no program is named and the default one is missing: AWS's examples of custom
containers have their application there."""
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
    "the container does not receive the job's own value",
)
