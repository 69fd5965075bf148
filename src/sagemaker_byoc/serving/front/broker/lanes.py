"""The front's end of the links: accepts model workers and passes their messages to the broker."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeAlias

import orjson

from sagemaker_byoc.serving import log
from sagemaker_byoc.serving.bodies import Body
from sagemaker_byoc.serving.front.broker.broker import Broker
from sagemaker_byoc.serving.front.broker.tickets import Ticket
from sagemaker_byoc.serving.link import (
    ClosedError,
    Frame,
    Kind,
    Link,
    LinkError,
    begun_of,
    connected_by,
)

_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid, as the kernel saw them at connect()


TALK = frozenset({Kind.MESSAGE, Kind.TAKEN, Kind.FINISH})
Find: TypeAlias = "Callable[[str], Broker]"
"""Return the broker of the model of that name; raise LinkError for an unknown one."""


class Lanes:
    """All connected workers. Everything happens on the event loop when a socket is readable."""

    def __init__(self, listener: socket.socket, find: Find) -> None:
        self._listener = listener
        self._find = find
        self._lanes: dict[int, WorkerLane] = {}
        """Lanes by pid; some may be closed by now."""

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._listener.setblocking(False)  # noqa: FBT003 - positional only
        loop.add_reader(self._listener.fileno(), self._accept)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return  # it has left already
        pid, uid, _ = _CREDENTIALS.unpack(
            connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        )
        # Abstract names can be reached from the whole network namespace; a pid of 0 is a process
        # that this container can't even see.
        if uid != os.geteuid() or pid == 0:
            log.say(f"refused process {pid} of user {uid} on the worker link")
            connection.close()
            return
        connection.setblocking(False)  # noqa: FBT003 - positional only
        try:
            lane = WorkerLane(connection, pid, self._loop, self._find)
        except OSError:
            connection.close()  # its process has ended already
            return
        self._replace(pid, lane)
        lane.resume()

    def _replace(self, pid: int, lane: WorkerLane) -> None:
        """Close the former lane of a worker that reconnects: it may have seen a disconnect that the
        front has not."""
        previous = self._lanes.pop(pid, None)
        if previous is not None:
            previous.close()
        self._lanes = {number: other for number, other in self._lanes.items() if other.is_open}
        self._lanes[pid] = lane


class WorkerLane:
    """One connected worker. Its process is held by a descriptor, so a reused pid is never
    signalled."""

    def __init__(
        self,
        connection: socket.socket,
        pid: int,
        loop: asyncio.AbstractEventLoop,
        find: Find,
    ) -> None:
        self.pid = pid
        self.slot = -1
        self.is_open = True
        self._link = Link(connection)
        self._requests: Link | None = None
        """The sending end for requests; the lane has a slot once it is there."""
        self._inbox: Link | None = None
        """The worker's own receiving end."""
        self._begun = Body()
        self._loop = loop
        self._find = find
        self._broker: Broker | None = None
        self._process = os.pidfd_open(pid)

    # ── to the worker ──

    def send(self, tickets: Sequence[Ticket]) -> None:
        if self._requests is None:
            raise ClosedError("the lane is closed")
        self._requests.send(*(Frame(Kind.REQUEST, t.id, t.meta, t.body) for t in tickets))

    def take_back(self, most: int) -> list[int]:
        found: list[int] = []
        if self._inbox is None:
            return found
        with suppress(OSError):  # there are no more
            for _ in range(most):
                found += self._inbox.take_ids()
        return found

    def talk(self, frame: Frame) -> None:
        self._link.send(frame)

    def begun(self) -> int:
        return 0 if self._begun.descriptor is None else begun_of(self._begun)

    def cancel(self, ident: int) -> None:
        with suppress(LinkError):  # a worker that cannot receive it is about to end
            self._link.send(Frame(Kind.CANCEL, ident))

    def hold(self) -> None:
        self._loop.remove_reader(self._link.fileno())

    def resume(self) -> None:
        if self.is_open:
            self._loop.add_reader(self._link.fileno(), self._on_readable)

    def abort(self) -> None:
        log.say(
            f"slot {self.slot}: stuck long past the deadline; its stacks follow, then it is ended"
        )
        self._signal(signal.SIGABRT)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._process, number)

    # ── from the worker ──

    def _on_readable(self) -> None:
        try:
            self._handle(self._link.receive())
        except BlockingIOError:
            return
        except ClosedError:
            self.close()
        except LinkError as error:
            log.say(f"worker {self.pid} broke the link protocol and is ended: {error}")
            self.kill()
            self.close()

    def close(self) -> None:
        """Close the lane once; the requests that its worker ran end with it."""
        if not self.is_open:
            return
        self.is_open = False
        self._loop.remove_reader(self._link.fileno())
        if self._broker is not None:
            self._broker.lose(self)
        for link in (self._link, self._requests, self._inbox):
            if link is not None:
                link.close()
        self._requests = self._inbox = None
        self._begun.close()
        os.close(self._process)

    def _handle(self, frames: Sequence[Frame]) -> None:
        broker = self._broker
        if broker is None:
            self._greeted(frames)
            return
        if frames and frames[0].kind is Kind.REPLY:
            broker.answer(self, [(f.id, f.meta, f.body) for f in frames])
            return
        for frame in frames:
            self._handle_one(frame, broker)

    def _handle_one(self, frame: Frame, broker: Broker) -> None:
        if frame.kind is Kind.PART:
            broker.part(self, frame.id, frame.meta, frame.body)
        elif frame.kind is Kind.RETURN:
            idents = frame.meta.get("ids")
            if not isinstance(idents, list) or not all(isinstance(i, int) for i in idents):
                raise LinkError("a worker returns requests by their ids")
            broker.returned(self, idents)
        elif frame.kind in TALK:
            broker.on_talk(self, frame)
        elif frame.kind is Kind.CAPTURED:
            broker.on_captured(frame.meta, frame.body)
        elif frame.kind is Kind.READY:
            batch = frame.meta.get("batch", 1)
            has_app = bool(frame.meta.get("has_app"))
            held = orjson.loads(frame.body.data)
            broker.app_routes = frozenset(frame.meta.get("app_routes", ()))
            broker.has_adapters = bool(frame.meta.get("has_adapters"))
            broker.on_sessions(self.slot, held["sessions"])
            broker.on_adapters(self.slot, held["adapters"])
            broker.has_redact |= bool(frame.meta.get("has_redact"))
            broker.has_chat = bool(frame.meta.get("has_chat"))
            broker.conversations = bool(frame.meta.get("conversations"))
            broker.ready(self, batch=batch if isinstance(batch, int) else 1, has_app=has_app)
        elif frame.kind is Kind.FAILED:
            status = 507 if frame.meta.get("status") == 507 else 500
            broker.fail(self, str(frame.meta.get("reason", "")), status)
        else:
            raise LinkError(f"a worker must not send {frame.kind.name}")

    def _greeted(self, frames: Sequence[Frame]) -> None:
        """Register a new worker. Its first packet names the slot or the model, and brings both ends
        for its requests."""
        if [frame.kind for frame in frames] != [Kind.HELLO, Kind.INBOX, Kind.BEGUN]:
            raise LinkError("it does not begin with a greeting")
        hello, inbox, begun = frames
        slot, model = hello.meta.get("slot"), hello.meta.get("model", "")
        if not isinstance(slot, int) or None in {frame.body.descriptor for frame in frames}:
            raise LinkError("its greeting lacks the slot or a descriptor")
        broker = self._find(str(model))
        self._requests, self._inbox = connected_by(hello.body), connected_by(inbox.body)
        self._begun = begun.body
        self.slot = 0 if model else slot
        of = hello.meta.get("of")
        if isinstance(of, int) and of > self.slot:
            broker.resize(of)
        broker.join(self)
        self._broker = broker
