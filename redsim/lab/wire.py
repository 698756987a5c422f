"""A raw connection for measuring commands: packed requests in, replies counted or thrown away.

To a server of our own it is a plain socket that drops what it reads until a marker comes back, so that a reply of a million
elements costs Python nothing. To somebody else's server (TLS, ACL users) it is a connection of redis-py's own.
Not modelled: RESP3, pushes.
"""

import socket
from collections.abc import Iterable
from typing import Any, Protocol

from redsim.lab.rig import RealServer
from redsim.scenario.errors import ScenarioError

MARKER = b"redsim-marker-redsim"
ANSWER = b"$%d\r\n%s\r\n" % (len(MARKER), MARKER)
TIMEOUT_S = 120


def pack(*words: bytes | str | int) -> bytes:
    """One RESP request."""
    raw = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(raw) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in raw)


class Wire(Protocol):
    """`ask` sends whole requests in one go and returns when all of their `replies` are in."""

    def ask(self, requests: bytes, replies: int) -> None:
        """Send, wait, throw the answers away. ScenarioError if the connection breaks."""

    def close(self) -> None:
        """End the connection."""


class OwnWire:
    """To a server on loopback."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray(1 << 20)
        self._end = pack("ECHO", MARKER)

    def ask(self, requests: bytes, replies: int) -> None:
        """The marker's echo is the last reply; nothing we store contains it."""
        self._socket.sendall(requests + self._end)
        tail = b""
        while not tail.endswith(ANSWER):
            got = self._socket.recv_into(self._buffer)
            if got == 0:
                raise ScenarioError("the redis-server being measured closed the connection")
            tail = (tail + bytes(self._buffer[max(0, got - len(ANSWER)) : got]))[-len(ANSWER) :]

    def close(self) -> None:
        self._socket.close()


class TheirWire:
    """To any server redis-py reaches."""

    def __init__(self, server: RealServer) -> None:
        from redis import RedisError

        self._error = RedisError
        self._pool = server.redis.connection_pool
        self._connection: Any = self._pool.get_connection()

    def ask(self, requests: bytes, replies: int) -> None:
        """Replies are parsed by redis-py; an error reply rises as ScenarioError."""
        self._connection.send_packed_command([requests])
        for _ in range(replies):
            try:
                self._connection.read_response()
            except self._error as error:
                raise ScenarioError(f"the server being measured answered {type(error).__name__}: {error}") from None

    def close(self) -> None:
        self._pool.release(self._connection)


def joined(requests: Iterable[bytes]) -> bytes:
    """Several requests as one write."""
    return b"".join(requests)
