"""A WebSocket client for tests: what RFC 6455 asks of one, and ways to break it."""

from __future__ import annotations

import base64
import os
import socket
import struct

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
PATH = "/invocations-bidirectional-stream"


class RefusedError(Exception):
    """The handshake was answered with another status."""


class Client:
    """One connection, by `with`."""

    def __init__(self, port, path=PATH, headers="", timeout=20):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n{headers}\r\n".encode()
        )
        self.stream = self.socket.makefile("rb")
        status = int(self.stream.readline().split()[1])
        while self.stream.readline().strip():
            pass
        if status != 101:
            self.__exit__()
            raise RefusedError(status)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stream.close()
        self.socket.close()

    def frame(self, opcode, data, *, fin=True):
        mask = os.urandom(4)
        size = len(data)
        if size < 126:
            head = struct.pack("!BB", 128 * fin | opcode, 128 | size)
        elif size < 65536:
            head = struct.pack("!BBH", 128 * fin | opcode, 128 | 126, size)
        else:
            head = struct.pack("!BBQ", 128 * fin | opcode, 128 | 127, size)
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))
        self.socket.sendall(head + mask + masked)

    def say(self, message):
        if isinstance(message, str):
            self.frame(TEXT, message.encode())
        else:
            self.frame(BINARY, message)

    def leave(self, code=1000):
        self.frame(CLOSE, struct.pack("!H", code))

    def receive(self):
        """Opcode and payload."""
        first, second = self.stream.read(2)
        size = second & 127
        if size == 126:
            (size,) = struct.unpack("!H", self.stream.read(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", self.stream.read(8))
        return first & 15, self.stream.read(size)

    def message(self):
        opcode, data = self.receive()
        assert opcode in {TEXT, BINARY}, (opcode, data)
        return data.decode() if opcode == TEXT else data

    def ask(self, message):
        self.say(message)
        return self.message()

    def closed(self):
        """Code and reason of the server's close."""
        while True:
            opcode, data = self.receive()
            if opcode == CLOSE:
                return struct.unpack("!H", data[:2])[0], data[2:].decode()
