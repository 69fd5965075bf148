"""The worker's life: load, tell, then one request after the other, across restarts of the front."""

from __future__ import annotations

import gc
import os
import select
import socket
import sys
import time
import traceback
from contextlib import suppress

import orjson

from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.contract.lifecycle import ExitCode
from sagemaker_byoc.serving import handler_file, log
from sagemaker_byoc.serving.bodies import Body
from sagemaker_byoc.serving.link import ClosedError, Frame, Kind, Link, LinkError
from sagemaker_byoc.serving.settings import Settings
from sagemaker_byoc.serving.slots import LOADED
from sagemaker_byoc.serving.worker import handlers
from sagemaker_byoc.serving.worker.apps import AppError
from sagemaker_byoc.serving.worker.conversations import Exchange
from sagemaker_byoc.serving.worker.handlers import HandlerError
from sagemaker_byoc.serving.worker.jobs import status_of
from sagemaker_byoc.serving.worker.model_files import ModelError
from sagemaker_byoc.serving.worker.pipeline import Pipeline

PAUSE = 0.05
"""Seconds between two tries to reach the front."""
PLAIN = (HandlerError, ModelError, ContractError, AppError)
"""Errors whose message is all that the reader needs."""


class Worker:
    """One slot's process."""

    def __init__(self, settings: Settings, *, slot: int, link_name: str) -> None:
        self._settings = settings
        self._slot = slot
        self._address = f"\0{link_name}"
        self._who = f"model {settings.model_name}" if settings.model_name else f"slot {slot}"
        self._speaks = slot == 0 or bool(settings.model_name)
        """Once for all slots of a model."""

    def run(self, report: int) -> int:
        """The exit code; returns only when the model can't be loaded."""
        link = self._connect()
        try:
            pipeline = self._load()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - user code may raise anything
            self._tell_failure(link, error)
            return ExitCode.MODEL_FAILED
        gc.freeze()  # torch alone is 165,000 objects; one look at them all takes 0.2 s
        os.write(report, LOADED)
        os.close(report)
        while True:
            with suppress(ClosedError):
                ready = {
                    "batch": pipeline.batch,
                    "has_app": pipeline.handlers.app is not None,
                    "app_routes": pipeline.handlers.app_routes,
                    "has_adapters": pipeline.handlers.get("load_adapter_fn") is not None,
                    "has_redact": pipeline.redaction is not None,
                    "has_chat": pipeline.handlers.get("chat_fn") is not None,
                    "conversations": pipeline.handlers.get("bidirectional_fn") is not None,
                }
                state = {"sessions": pipeline.sessions.held(), "adapters": pipeline.adapters}
                held = Body(orjson.dumps(state))
                link.send(Frame(Kind.READY, meta=ready, body=held))
                self._serve(link, pipeline)
            link.close()
            link = self._connect()

    def _connect(self) -> Link:
        """The supervisor holds the listening socket, so this works while the front restarts."""
        while True:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            link = Link(connection)
            try:
                connection.connect(self._address)
                link.send(Frame(Kind.HELLO, meta=self._greeting()))
            except (OSError, ClosedError):
                connection.close()
                time.sleep(PAUSE)
                continue
            return link

    def _greeting(self) -> dict[str, object]:
        model = {"model": self._settings.model_name} if self._settings.model_name else {}
        return {"slot": self._slot, "pid": os.getpid(), **model}

    def _load(self) -> Pipeline:
        file = handler_file.find(self._settings)
        if self._speaks:
            for path in file.passed_over:
                log.say(f"handlers: {path} is passed over, {file.chosen} comes first")
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

    def _tell_failure(self, link: Link, error: BaseException) -> None:
        cause = str(error) if isinstance(error, PLAIN) else f"{type(error).__name__}: {error}"
        if not isinstance(error, PLAIN):
            log.say("".join(traceback.format_exception(error)))
        log.say(f"error: {self._who}: loading failed: {cause}")
        with suppress(LinkError):
            status, _ = status_of(error)
            link.send(Frame(Kind.FAILED, meta={"reason": cause[:1000], "status": status}))

    def _serve(self, link: Link, pipeline: Pipeline) -> None:
        """Until the front is gone; requests that it waited for then have no one to go to."""
        talks = pipeline.handlers.get("bidirectional_fn")
        source: Requests | Exchange = Requests(link)
        if talks is not None:
            source = Exchange(link, talks, pipeline.model, pipeline.context_of)
        while True:
            requests = source.receive()
            for replies in pipeline.answer(requests, source.has_come):
                sys.stdout.flush()
                link.send(*replies, wait=True)


class Requests:
    """What the front sends, read by the one thread that answers it. While a reply is streamed, the
    only thing that the front has to say is that it may end."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._poll = select.poll()
        self._poll.register(link.fileno(), select.POLLIN)

    def receive(self) -> list[Frame]:
        frames = self._link.receive()
        for frame in frames:
            if frame.kind is not Kind.REQUEST and frame.kind is not Kind.CANCEL:
                raise LinkError(f"the front must not send {frame.kind.name}")
        return [frame for frame in frames if frame.kind is Kind.REQUEST]

    def has_come(self, ident: int) -> bool:
        return bool(self._poll.poll(0)) and any(
            frame.kind is Kind.CANCEL and frame.id == ident for frame in self._link.receive()
        )
