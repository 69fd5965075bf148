"""The limits of a job: those of the request, else of the container, else SageMaker's defaults.

Source: developer guide, your-algorithms-batch-code. The container answers GET /execution-parameters
with a JSON object, or with an error if it does not know this path.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from sagemaker_byoc.contract import http as hosting
from sagemaker_byoc.region.containers.http_pool import Pool
from sagemaker_byoc.region.containers.http_reply import UpstreamError
from sagemaker_byoc.region.services.sagemaker.transform_jobs.transform_plan import (
    MOST_CONCURRENT,
    MOST_MEGABYTES,
    Limits,
    Strategy,
)
from sagemaker_byoc.region.services.sagemaker.transform_jobs.transformation import Effective

_HEAD = b"GET /execution-parameters HTTP/1.1\r\nhost: model\r\n\r\n"
_SECONDS = 10.0
_LIMIT = 64 << 10
"""Bytes of the answer."""


async def effective(asked: Limits, pool: Pool) -> tuple[Effective, list[str]]:
    """Return the limits, and lines for the log."""
    given, notes = _parsed(await _ask(pool))
    megabytes = given.megabytes if asked.megabytes is None else asked.megabytes
    found = Effective(
        concurrent=asked.concurrent or given.concurrent or 1,
        megabytes=hosting.TRANSFORM_PAYLOAD.value if megabytes is None else megabytes,
        strategy=asked.strategy or given.strategy or Strategy.MULTI,
    )
    if found.concurrent * found.megabytes > MOST_MEGABYTES:
        concurrent = MOST_MEGABYTES // found.megabytes
        notes.append(
            f"MaxConcurrentTransforms {found.concurrent} is reduced to {concurrent}: its product "
            f"with MaxPayloadInMB must not exceed {MOST_MEGABYTES} MB"
        )
        found = replace(found, concurrent=concurrent)
    return found, notes


async def _ask(pool: Pool) -> Any:
    """Return the container's answer; an empty object if it does not know the path."""
    try:
        reply = await pool.request(_HEAD, timeout=_SECONDS)
        body = await reply.read(_LIMIT)
    except UpstreamError:
        return {}
    if reply.status != 200:
        return {}
    with suppress(ValueError, RecursionError):
        return json.loads(body)
    return None


def _parsed(answer: Any) -> tuple[Limits, list[str]]:
    if not isinstance(answer, dict):
        return Limits(None, None, None), [
            "The answer to /execution-parameters is not a JSON object"
        ]
    found: dict[str, Any] = {}
    notes = []
    for name, parse in _PARAMETERS.items():
        value = answer.get(name)
        if value is None:
            continue
        try:
            found[name] = parse(value)
        except (TypeError, ValueError, LookupError):
            notes.append(f"/execution-parameters: {name} {value!r} is ignored")
    return Limits(*map(found.get, _PARAMETERS)), notes


def _number(value: object, least: int, most: int) -> int:
    """Raise ValueError or TypeError. Some containers return the text of a variable."""
    number = int(value) if isinstance(value, int | str) else None
    if number is None or not least <= number <= most:
        raise ValueError
    return number


def _strategy(value: object) -> Strategy:
    """Parse MULTI_RECORD, as AWS documents it, or MultiRecord, as SDK 2 requires it."""
    return _STRATEGIES[str(value).upper().replace("_", "")]


_STRATEGIES = {each.value.upper(): each for each in Strategy}
_PARAMETERS: dict[str, Callable[[Any], Any]] = {
    "MaxConcurrentTransforms": lambda value: _number(value, 0, MOST_CONCURRENT) or None,
    "MaxPayloadInMB": lambda value: _number(value, 0, MOST_MEGABYTES),
    "BatchStrategy": _strategy,
}
