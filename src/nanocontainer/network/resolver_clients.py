"""A container's TCP connection to the resolver: questions in a row, answers in any order (RFC 7766).

What one connection can make us keep is bounded: nothing more is read from a client that does not take its answers, and
one that says nothing for a while is closed.
"""

from __future__ import annotations

import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..lean import sockets
    from .resolver import Resolver

IDLE = 10.0  # seconds that a client's connection may say nothing
_UNSENT = 1 << 17  # bytes of answers that a client has not taken, from which on nothing more is read from it


class Client:
    """A container's TCP connection: messages with their length in two bytes before them (RFC 1035, 7766)."""

    def __init__(self, resolver: Resolver, sock: sockets.socket, address: str) -> None:
        self.resolver, self.sock, self.address = resolver, sock, address
        self.received, self.unsent = b"", b""
        self.last = 0.0
        self._alive()
        resolver.watch(sock.fileno(), select.EPOLLIN, self._ready)

    def close(self) -> None:
        self.resolver.clients.pop(self, None)
        if self.sock.fileno() >= 0:
            self.resolver.forget(self.sock.fileno())
            self.sock.close()

    def _alive(self) -> None:
        self.last = time.monotonic()
        self.resolver.clients.pop(self, None)
        self.resolver.clients[self] = None

    def _ready(self, events: int) -> None:
        try:
            if events & select.EPOLLOUT:
                self._send()
                self._work_off()
            elif events & ~select.EPOLLOUT:
                self._receive()
        except BlockingIOError:
            pass
        except OSError:
            self.close()

    def _receive(self) -> None:
        data = self.sock.recv(65537)
        if not data:
            self.close()
            return
        self.received += data
        self._work_off()

    def _work_off(self) -> None:
        """Answer what has come, as long as the client takes the answers."""
        self.resolver.view.refresh()
        asker = self.resolver.view.asker(self.address)
        while asker and len(self.received) >= 2 and len(self.unsent) < _UNSENT:
            size = int.from_bytes(self.received[:2], "big")
            if len(self.received) < size + 2:
                return
            wire, self.received = self.received[2 : size + 2], self.received[size + 2 :]
            self._alive()
            if not self.resolver.answer(wire, asker, True, (self, wire[:2]), self._reply):
                asker = None
        if asker is None:
            self.close()

    def _reply(self, answer: bytes) -> None:
        if self.sock.fileno() < 0:
            return  # gone meanwhile
        self.unsent += len(answer).to_bytes(2, "big") + answer
        try:
            self._send()
        except BlockingIOError:
            pass
        except OSError:
            self.close()

    def _send(self) -> None:
        if self.unsent:
            try:
                self.unsent = self.unsent[self.sock.send(self.unsent) :]
                self._alive()
            except BlockingIOError:
                pass
        events = (select.EPOLLIN if len(self.unsent) < _UNSENT else 0) | (select.EPOLLOUT if self.unsent else 0)
        self.resolver.watch(self.sock.fileno(), events, self._ready)
