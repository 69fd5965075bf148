"""The front's end of the links: accepts model workers and tells the broker what they say."""

from __future__ import annotations

import os
import signal
import socket
import struct
import threading
from collections.abc import Mapping
from contextlib import suppress

from sagemaker_byoc.serving import log
from sagemaker_byoc.serving.front.broker import Broker
from sagemaker_byoc.serving.link import Body, ClosedError, Frame, Kind, Link, LinkError

_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid, as the kernel saw them at connect()


class WorkerLane:
    """One connected worker; its process is held by a descriptor, so a reused pid is never hit."""

    def __init__(self, connection: socket.socket, pid: int) -> None:
        self.pid = pid
        self.link = Link(connection)
        self._process = os.pidfd_open(pid)
        self._slot = -1

    @property
    def slot(self) -> int:
        return self._slot

    def greet(self) -> None:
        """The first frame names the slot."""
        frame = self.link.receive()
        slot = frame.meta.get("slot")
        if frame.kind is not Kind.HELLO or not isinstance(slot, int):
            raise LinkError("the first frame is not a greeting")
        self._slot = slot

    def send(self, ident: int, meta: Mapping[str, object], body: Body) -> None:
        self.link.send(Frame(Kind.REQUEST, ident, dict(meta), body))

    def abort(self) -> None:
        log.say(f"slot {self.slot}: stuck long past the deadline; its stacks follow, then it ends")
        self._signal(signal.SIGABRT)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._process, number)

    def close(self) -> None:
        self.link.close()
        os.close(self._process)


def accept_workers(listener: socket.socket, broker: Broker) -> None:
    """For ever, one thread a worker; for a thread of its own."""
    while True:
        connection, _ = listener.accept()
        pid, uid, _ = _CREDENTIALS.unpack(
            connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        )
        # Abstract names can be reached from the whole network namespace; a pid of 0 is a process
        # that this container can't even see.
        if uid != os.geteuid() or pid == 0:
            log.say(f"refused process {pid} of user {uid} on the worker link")
            connection.close()
            continue
        start_thread(f"worker-{pid}", serve_worker, connection, pid, broker)


def start_thread(name: str, target: object, *arguments: object) -> None:
    assert callable(target)
    threading.Thread(target=target, name=name, args=arguments, daemon=True).start()


def serve_worker(connection: socket.socket, pid: int, broker: Broker) -> None:
    """Until the worker goes away, however it does."""
    try:
        lane = WorkerLane(connection, pid)
    except OSError:
        connection.close()  # it has ended already
        return
    try:
        lane.greet()
        broker.join(lane)
        while True:
            hear(lane, lane.link.receive(), broker)
    except ClosedError:
        pass
    except LinkError as error:
        log.say(f"worker {pid} broke the link protocol and is ended: {error}")
        lane.kill()
    finally:
        broker.lose(lane)
        lane.close()


def hear(lane: WorkerLane, frame: Frame, broker: Broker) -> None:
    if frame.kind is Kind.READY:
        broker.ready(lane)
    elif frame.kind is Kind.FAILED:
        broker.fail(lane, str(frame.meta.get("reason", "")))
    elif frame.kind is Kind.REPLY:
        broker.answer(lane, frame.id, frame.meta, frame.body)
    else:
        raise LinkError(f"a worker must not send {frame.kind.name}")
