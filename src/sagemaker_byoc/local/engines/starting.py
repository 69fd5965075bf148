"""Start containers in threads, so that a start can be given up: a copy of 100 GB takes a while."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait

from sagemaker_byoc.local.engines.container import Container, ContainerSpec, Engine
from sagemaker_byoc.local.errors import LocalError

_STARTERS = 4
_LOOK = 0.1
"""Seconds between two looks at whether the start is given up."""


class GivenUpError(LocalError):
    """The container was stopped before it started."""

    def __init__(self) -> None:
        super().__init__("it was stopped before it started", cure="Start it again")


def start_all(
    engine: Engine,
    specs: Mapping[str, ContainerSpec],
    given_up: Callable[[], bool] = lambda: False,
) -> dict[str, Container]:
    """Return all containers, or raise LocalError with none left.

    `given_up` is asked all the while. The labels of a spec, or its tree, identify its container.
    """
    with ThreadPoolExecutor(min(_STARTERS, len(specs))) as starters:
        begun = {name: starters.submit(engine.start, spec) for name, spec in specs.items()}
        asked = given_up()
        while wait(begun.values(), _LOOK, FIRST_EXCEPTION).not_done:
            asked = asked or given_up()
            if asked:
                # What is removed here fails in its thread; what is not created yet comes later.
                for name, call in begun.items():
                    if not call.done():
                        engine.sweep(specs[name].labels, [specs[name].tree])
            elif any(call.done() and call.exception() for call in begun.values()):
                wait(begun.values())
    started, failure = _sorted(begun)
    if failure is not None or asked or given_up():
        for container in started.values():
            container.close()
        raise GivenUpError if asked or failure is None else failure
    return started


def _sorted(
    begun: Mapping[str, Future[Container]],
) -> tuple[dict[str, Container], BaseException | None]:
    failures = [error for call in begun.values() if (error := call.exception()) is not None]
    done = {name: call.result() for name, call in begun.items() if call.exception() is None}
    return done, failures[0] if failures else None
