"""The worker's main loop: load, report, then answer one request after the other, across restarts of
the front. A loader decides after the load how many workers there are, and whether to fork them."""

from __future__ import annotations

import gc
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

import orjson

from sagemaker_byoc.contract import variables
from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.contract.lifecycle import ExitCode
from sagemaker_byoc.serving import log
from sagemaker_byoc.serving.bodies import Body
from sagemaker_byoc.serving.error_replies import LoadFailed
from sagemaker_byoc.serving.link import ClosedError, Ends, Frame, Kind, Link, LinkError
from sagemaker_byoc.serving.settings import Settings, find_handlers, is_remote
from sagemaker_byoc.serving.supervisor.slots import LOADED, Channel
from sagemaker_byoc.serving.worker import capacity
from sagemaker_byoc.serving.worker.code import guard, handlers
from sagemaker_byoc.serving.worker.code.apps import AppError
from sagemaker_byoc.serving.worker.code.guard import Failure
from sagemaker_byoc.serving.worker.code.handlers import HandlerError
from sagemaker_byoc.serving.worker.code.model_files import ModelError
from sagemaker_byoc.serving.worker.pipeline import Pipeline
from sagemaker_byoc.serving.worker.template import Descriptors, Template, obstacle
from sagemaker_byoc.serving.worker.turns import Turn

PAUSE = 0.05
"""Seconds between two attempts to reach the front."""
FAULTS = 10
"""Consecutive turns that fail because of what handlers left behind; then the process ends."""
PLAIN = (HandlerError, ModelError, ContractError, AppError)
"""Errors whose message is all that a reader needs."""


class Worker:
    """One slot's process."""

    def __init__(
        self, settings: Settings, *, slot: int, link_name: str, of: int = 0, is_loader: bool = False
    ) -> None:
        self._settings = settings
        self._slot = slot
        self._of = of
        self._is_loader = is_loader
        self._address = f"\0{link_name}"
        self._who = f"model {settings.model_name}" if settings.model_name else f"slot {slot}"
        self._speaks = slot == 0 or bool(settings.model_name)
        """Whether it logs what is the same for all slots of a model."""
        self._faults = 0
        self._supervisor = os.getppid()

    def run(self, channel: Channel) -> int:
        """Run; return an exit code only if the model cannot be loaded or nothing can be
        answered."""
        # What a loader is going to be is known after the load: only a worker has a link.
        ends = None if self._is_loader else self._connect()
        sockets = () if ends is None else (ends.link, ends.inbox)
        held = [guard.Held.of(end.fileno()) for end in (channel, *sockets)]
        before = Descriptors()
        loaded: list[Pipeline] = []
        failure = guard.attempt(lambda: loaded.append(self._load(held)))
        if failure is not None:
            self._tell_failure((ends or self._connect()).link, failure)
            return ExitCode.MODEL_FAILED
        (pipeline,) = loaded
        if self._is_loader:
            gc.collect()
        gc.freeze()  # torch alone is 165,000 objects; one look at them all takes 0.2 s
        if not self._is_loader:
            channel.send(LOADED)
        elif not self._settle(channel, before.opened(), pipeline):
            return ExitCode.INTERNAL
        channel.close()
        ends = ends or self._connect()
        while True:
            guard.hold(*(guard.Held.of(end.fileno()) for end in (ends.link, ends.inbox)))
            failure = guard.attempt(self._serve, ends, pipeline)
            if failure is not None:
                log.say(f"between two requests: {failure.explained}")
                self._faults += 1
            if self._faults >= FAULTS:
                return ExitCode.INTERNAL
            guard.hold()
            ends.close()
            ends = self._connect()

    def _settle(self, channel: Channel, opened: list[int], pipeline: Pipeline) -> bool:
        """Decide how many workers there are and become one, by a fork if there are several; return
        False if a template can't continue."""
        settings, measured = self._settings, capacity.Loaded.measure(self._settings)
        decide = partial(capacity.decide, settings, measured, of=self._of)
        plan = decide(is_forked=settings.may_fork)
        problem = "" if settings.may_fork else f"{variables.WORKER_START}=spawn"
        if plan.workers > 1 and not problem:
            problem = obstacle(opened)
            plan = decide(is_forked=not problem)
        forks = plan.workers > 1 and not problem
        how = "forked from one loaded model" if forks else f"each loads the model: {problem}"
        more = f", {how}" if plan.workers > 1 else ""
        more += f"; {plan.why}" if plan.why else ""
        log.say(f"{plan.workers} worker(s) of {plan.threads} thread(s){more}")
        self._of = plan.workers
        channel.send(LOADED, workers=plan.workers, threads=plan.threads, forks=forks)
        if forks:
            template = Template(channel, self._supervisor, opened)
            slots: list[int] = []
            while not slots:
                failure = guard.attempt(lambda: slots.append(template.wait()))
                if failure is not None:
                    log.say(f"in the process that workers are forked from: {failure.explained}")
                    self._faults += 1
                if self._faults >= FAULTS:
                    return False
            (self._slot,) = slots
            self._who, self._speaks = f"slot {self._slot}", self._slot == 0
            self._faults = 0
            pipeline.slot = self._slot
        if plan.threads != measured.threads:
            capacity.use_threads(plan.threads)
        return True

    def _connect(self) -> Ends:
        """Connect to the front.

        The supervisor holds the listening socket, so this works while the front restarts.
        """
        greeting = {"slot": self._slot, "of": self._of, "model": self._settings.model_name}
        while True:
            try:
                return Ends.connected(self._address, greeting)
            except (OSError, ClosedError):
                if os.getppid() != self._supervisor:  # a handler may have taken SIGTERM for itself
                    guard.stop(signal.SIGTERM, None)
                time.sleep(PAUSE)

    def _load(self, held: list[guard.Held]) -> Pipeline:
        with plainly():
            pipeline = self._loaded()
        if not all(entry.is_whole() for entry in held):
            raise LoadFailed("the handler file closed descriptors that are not its own")
        return pipeline

    def _loaded(self) -> Pipeline:
        file = find_handlers(self._settings)
        if self._speaks:
            if is_remote(self._settings):
                place = self._settings.submit_directory
                log.say(
                    f"handlers: {variables.SUBMIT_DIRECTORY} {place} is ignored: put the program "
                    "into the model's archive, as code/"
                )
            for path in file.passed_over:
                log.say(f"handlers: {path} is ignored, {file.chosen} comes first")
        began = time.monotonic()
        pipeline = Pipeline(self._settings, handlers.load(file), self._slot)
        if self._speaks:
            log.say(f"handlers: {pipeline.handlers.table()}")
        pipeline.load()
        took = time.monotonic() - began
        log.say(
            f"{self._who}: model loaded in {took:.2f} s on {pipeline.device}: {pipeline.source}"
        )
        return pipeline

    def _tell_failure(self, link: Link, failure: Failure) -> None:
        if failure.report:
            log.say(failure.report)
        log.say(f"error: {self._who}: loading failed: {failure.message}")
        with suppress(LinkError):
            meta = {"reason": failure.message, "status": failure.status}
            link.send(Frame(Kind.FAILED, meta=meta))

    def _serve(self, ends: Ends, pipeline: Pipeline) -> None:
        """Answer requests until the front is gone; the requests that it waited for have no receiver
        then."""
        with suppress(LinkError):
            ends.link.send(_ready(pipeline))
            turn = Turn(ends, pipeline)
            while self._faults < FAULTS:
                failure = guard.stage(turn.take)
                if turn.lost is not None:
                    raise turn.lost
                self._faults = 0 if failure is None else self._faults + 1
                if failure is not None:
                    turn.fail(failure)


@contextmanager
def plainly() -> Iterator[None]:
    """Turn errors whose message says all into one that has no traceback in the log."""
    try:
        yield
    except PLAIN as error:
        raise LoadFailed(str(error)) from error


def _ready(pipeline: Pipeline) -> Frame:
    """Return what the front needs to know of a loaded model."""
    handlers = pipeline.handlers
    meta = {
        "batch": int(pipeline.batch),
        "has_app": handlers.app is not None,
        "app_routes": handlers.app_routes,
        "has_adapters": handlers.get("load_adapter_fn") is not None,
        "has_redact": pipeline.redaction is not None,
        "has_chat": handlers.get("chat_fn") is not None,
        "conversations": handlers.get("bidirectional_fn") is not None,
    }
    state = {"sessions": pipeline.sessions.held(), "adapters": pipeline.adapters}
    return Frame(Kind.READY, meta=meta, body=Body(orjson.dumps(state)))
