"""Start containers in threads, so that a start can be given up: a copy of 100 GB takes a while."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

from sagemaker_byoc.region.engines.container import (
    Container,
    ContainerSpec,
    Engine,
    GivenUpError,
    never,
)

_STARTERS = 4


def start_all(
    engine: Engine,
    specs: Mapping[str, ContainerSpec],
    given_up: Callable[[], bool] = never,
) -> dict[str, Container]:
    """Return all containers, or raise LocalError with none left.

    `given_up` is asked all the while, also by an engine that copies files.
    """
    with ThreadPoolExecutor(min(_STARTERS, len(specs))) as starters:
        begun = {
            name: starters.submit(engine.start, replace(spec, given_up=given_up))
            for name, spec in specs.items()
        }
    started, failure = _sorted(begun)
    if failure is not None or given_up():
        for container in started.values():
            container.close()
        raise GivenUpError if failure is None else failure
    return started


def _sorted(
    begun: Mapping[str, Future[Container]],
) -> tuple[dict[str, Container], BaseException | None]:
    failures = [error for call in begun.values() if (error := call.exception()) is not None]
    done = {name: call.result() for name, call in begun.items() if call.exception() is None}
    return done, failures[0] if failures else None
