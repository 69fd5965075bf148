"""What the hosting side speaks: routes, port, limits, headers."""

from __future__ import annotations

from sagemaker_byoc.contract.facts import API_MODEL, GUIDE, Fact

_PAGE = f"{GUIDE}: your-algorithms-inference-code"
_RUNTIME = f"{API_MODEL}: sagemaker-runtime"

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
    "2026-11-23",
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
    "2026-11-23",
    "what the local region takes and gives back; see PAYLOAD",
)
SERVERLESS_PAYLOAD = Fact(4 * 2**20, "bytes", f"{GUIDE}: serverless-endpoints-invoke", "2026-11")


def _header(name: str, member: str) -> Fact[str]:
    return Fact(name, "header", f"{_RUNTIME}.InvokeEndpoint.{member}", "2026-11-23")


CUSTOM_ATTRIBUTES = _header("X-Amzn-SageMaker-Custom-Attributes", "CustomAttributes")
INFERENCE_ID = _header("X-Amzn-SageMaker-Inference-Id", "InferenceId")
TARGET_MODEL = _header("X-Amzn-SageMaker-Target-Model", "TargetModel")
TARGET_VARIANT = _header("X-Amzn-SageMaker-Target-Variant", "TargetVariant")
TARGET_CONTAINER = _header("X-Amzn-SageMaker-Target-Container-Hostname", "TargetContainerHostname")
SESSION_ID = _header("X-Amzn-SageMaker-Session-Id", "SessionId")
NEW_SESSION_ID = _header("X-Amzn-SageMaker-New-Session-Id", "NewSessionId")
CLOSED_SESSION_ID = _header("X-Amzn-SageMaker-Closed-Session-Id", "ClosedSessionId")
NEW_SESSION = Fact(
    "NEW_SESSION", "session id", f"{_RUNTIME}.SessionIdOrNewSessionConstantHeader", "2026-11-23"
)
SESSION_PATTERN = Fact(
    r"^[a-zA-Z0-9](-*[a-zA-Z0-9])*$",
    "regular expression",
    f"{_RUNTIME}.SessionIdHeader.pattern",
    "2026-11-23",
)
SESSION_LENGTH = Fact(
    256, "characters", f"{_RUNTIME}.SessionIdOrNewSessionConstantHeader.max", "2026-11-23"
)
ADAPTER_ID = Fact(
    "X-Amzn-SageMaker-Adapter-Identifier",
    "header name",
    "model-hosting-container-standards 0.1.16: LoRA",
    "2026-11-23",
)
CUSTOM_ATTRIBUTES_LENGTH = Fact(
    1024, "characters", f"{_RUNTIME}.CustomAttributesHeader.max", "2026-11-23"
)
INFERENCE_ID_LENGTH = Fact(64, "characters", f"{_RUNTIME}.InferenceId.max", "2026-11-23")
