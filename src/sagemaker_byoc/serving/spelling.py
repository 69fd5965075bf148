"""Variables that look like one of ours or of the platform's, and are none."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from sagemaker_byoc.contract import serving
from sagemaker_byoc.contract.facts import Fact

PREFIXES = ("BYOC_", "SAGEMAKER_", "MODEL_SERVER_")
ELSEWHERE = frozenset(
    {
        *("BYOC_PROGRAM_DIR", "SAGEMAKER_BASE_DIR", "SAGEMAKER_BATCH_STRATEGY"),
        *("SAGEMAKER_MAX_CONCURRENT_TRANSFORMS", "SAGEMAKER_CONTAINER_LOG_LEVEL"),
        *("SAGEMAKER_SAFE_PORT_RANGE", "SAGEMAKER_REGION"),
        *("SAGEMAKER_MODEL_SERVER_VMARGS", "SAGEMAKER_STARTUP_TIMEOUT", "SAGEMAKER_REQUIREMENTS"),
    }
)
"""Known, and not read by the server itself."""
LIKENESS = 0.85


def misspelt(names: Iterable[str]) -> dict[str, str]:
    """Name → what was probably meant."""
    known = ELSEWHERE | {
        fact.value
        for fact in vars(serving).values()
        if isinstance(fact, Fact) and fact.unit == "variable"
    }
    found = {}
    for name in sorted(names):
        if name.upper().startswith(PREFIXES) and name not in known:
            like = difflib.get_close_matches(name.upper(), known, 1, LIKENESS)
            if like:
                found[name] = like[0]
    return found
