"""gunicorn's WebSocket, with the one loop over all bytes taken out of Python."""

from __future__ import annotations

from gunicorn.asgi import websocket

WAITING = 2
"""Messages that wait to be received, before a conversation's own window; gunicorn lets 32 wait."""


class FrontWebSocket(websocket.WebSocketProtocol):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn takes the mask off byte by byte: seconds for a large message, in which nobody else,
    /ping included, would be answered."""

    def _unmask(self, payload: bytes, masking_key: bytes) -> bytes:
        size = len(payload)
        key = (masking_key * (size // 4 + 1))[:size]
        plain = int.from_bytes(payload, "little") ^ int.from_bytes(key, "little")
        return plain.to_bytes(size, "little")


def install_websocket() -> None:
    """gunicorn looks both up by their names for each connection."""
    websocket.WebSocketProtocol = FrontWebSocket
    websocket.RECEIVE_QUEUE_HIGH_WATER = WAITING
