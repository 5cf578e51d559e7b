"""Asking other servers: one question on its way, and who may be asked.

The query goes out as the client sent it, with all its flags and options (EDNS, RFC 6891; DNSSEC bits), and the answer
comes back so: only the number in its first two bytes is ours. What is asked by UDP is asked on by UDP, and by TCP by
TCP: a client that was told that an answer was cut comes again by TCP.

Who sends us an answer must be who we asked: each attempt has a socket of its own, connected (so that the kernel drops
what others send), from a port that the kernel has drawn, with a number drawn from the kernel's random source, and the
question must come back word for word (RFC 5452; Kaminsky, CVE-2008-1447). Who sends wrong answers to such a socket is
trying numbers: after a few the question is asked by TCP.

A server that does not answer in time, or not with an answer (SERVFAIL, REFUSED), is followed by the next one. The
sockets of earlier attempts stay open: a slow answer is an answer.
"""

from __future__ import annotations

import os

from ..lean import sockets
from ..paths import read_file
from .names import PUBLIC, RESOLV, nameservers
from .resolver_answering import question_end

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .resolver_view import Asker, View

TIMEOUT = 1.5  # seconds that a server has before another is asked too
_ROUNDS = 2
_PENALTY = 15.0  # seconds for which a server that did not answer is asked after the others
_WRONG = 8  # wrong answers to one socket
_FAILURES = (1, 2, 4, 5)  # FORMERR, SERVFAIL, NOTIMP, REFUSED: another server may know better
_LARGEST = 65535


class Servers:
    """Who is asked: the servers of the container, or those of the host's resolv.conf, which is read when it changed."""

    def __init__(self) -> None:
        self._stamp: object = ()
        self._host: tuple[str, ...] = ()
        self._late: dict[str, float] = {}  # server → until when it comes after the others

    def for_asker(self, asker: Asker, view: View, now: float) -> list[str]:
        """Whom this container may ask, best first. Empty: nobody."""
        chosen = [each for each in asker.registration.servers or self._of_host() if not view.is_gateway(each)]
        if asker.internal:
            chosen = [each for each in chosen if asker.is_near(each)]
        return sorted(chosen, key=lambda server: self._late.get(server, 0) > now)

    def was_late(self, server: str, now: float) -> None:
        if len(self._late) > 1000:
            self._late.clear()
        self._late[server] = now + _PENALTY

    def was_in_time(self, server: str) -> None:
        self._late.pop(server, None)

    def _of_host(self) -> tuple[str, ...]:
        """A resolver on the host's loopback is as good as any: we ask from the host's network. Where none is named
        public ones are, as docker does."""
        try:
            found = os.stat(RESOLV)
            stamp: object = (found.st_ino, found.st_mtime_ns, found.st_size)
        except OSError:
            stamp = None
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._host = tuple(filter(usable, nameservers(read_file(RESOLV)))) if stamp else ()
            except (OSError, ValueError):
                self._host = ()
        return self._host or PUBLIC


def usable(server: str) -> bool:
    """Whether it is an address, perhaps with the name of an interface behind it ("fe80::1%eth0")."""
    try:
        family_of(server)
    except (OSError, ValueError):
        return False
    return True


def family_of(server: str) -> tuple[int, tuple[object, ...]]:
    """(address family, address) of a server's port 53. OSError where it is none."""
    address, _, interface = server.partition("%")
    if ":" in address:
        sockets.inet_pton(sockets.AF_INET6, address)
        return sockets.AF_INET6, (address, 53, 0, sockets.if_nametoindex(interface) if interface else 0)
    sockets.inet_pton(sockets.AF_INET, address)
    return sockets.AF_INET, (address, 53)


class Attempt:
    """One server asked once: a connected socket. number: the query's on this socket, in two bytes."""

    def __init__(self, server: str, wire: bytes, stream: bool) -> None:
        self.server, self.stream = server, stream
        self.number = os.urandom(2)
        self.wrong = 0
        query = self.number + wire[2:]
        self.unsent = len(query).to_bytes(2, "big") + query if stream else b""
        self.received = b""
        family, address = family_of(server)
        kind = sockets.SOCK_STREAM if stream else sockets.SOCK_DGRAM
        self.sock = sockets.socket(family, kind | sockets.SOCK_CLOEXEC | sockets.SOCK_NONBLOCK)
        try:
            try:
                self.sock.connect(address)
            except BlockingIOError:
                pass  # it is on its way
            if not stream:
                self.sock.send(query)
        except OSError:
            self.sock.close()
            raise

    def send(self) -> None:
        """More of a query by TCP, as there is room. OSError: the connection is lost."""
        try:
            self.unsent = self.unsent[self.sock.send(self.unsent) :]
        except BlockingIOError:
            pass

    def receive(self) -> bytes | None:
        """A whole answer, or None where there is none yet. OSError: nobody is there (ECONNREFUSED), or not any more."""
        try:
            data = self.sock.recv(_LARGEST)
        except BlockingIOError:
            return None
        if not self.stream:
            return data
        if not data:
            raise ConnectionResetError(104, "the server has closed the connection")
        self.received += data
        size = int.from_bytes(self.received[:2], "big")
        if len(self.received) < 2 or len(self.received) < size + 2:
            return None
        whole, self.received = self.received[2 : size + 2], b""
        return whole


class Exchange:
    """A question on its way, with all its attempts.

    client: whose it is, told from all others by this. reply: called once, with the answer, numbered as the client's, or
    with None where nobody had one.
    """

    def __init__(
        self, wire: bytes, servers: list[str], stream: bool, client: object, reply: Callable[[bytes | None], None]
    ) -> None:
        self.wire, self.stream, self.client, self.reply = wire, stream, client, reply
        self.end = question_end(wire)
        self.coming = servers * _ROUNDS
        self.attempts: list[Attempt] = []
        self.fallback: bytes | None = None  # what a server said that had no answer
        self.due = 0.0  # when the next server is asked
        self.patient = False  # whether all have been asked, and it waits for those that are slow

    @property
    def waits(self) -> bool:
        """Whether somebody may still answer."""
        return any(attempt.sock.fileno() >= 0 for attempt in self.attempts)

    def next_attempt(self) -> Attempt | None:
        """Ask the next server; None where all have been asked. One that cannot be reached is passed over."""
        while self.coming:
            server = self.coming.pop(0)
            try:
                attempt = Attempt(server, self.wire, self.stream)
            except OSError:
                self.give_up(server)
                continue
            self.attempts.append(attempt)
            return attempt
        return None

    def give_up(self, server: str) -> None:
        """Do not ask this one again."""
        self.coming = [each for each in self.coming if each != server]

    def judge(self, attempt: Attempt, answer: bytes) -> bytes | bool:
        """The answer as it goes to the client; True: the server has none, go on; False: this is not from whom we asked,
        wait on."""
        if not matches(self.wire, self.end, attempt.number, answer):
            attempt.wrong += 1
            if attempt.wrong < _WRONG:
                return False
            self.stream = True  # nobody can put words into a connection without seeing it
            self.coming.insert(0, attempt.server)
            return True
        mine = self.wire[:2] + answer[2:]
        if answer[3] & 15 in _FAILURES:
            self.fallback = self.fallback or mine
            self.give_up(attempt.server)
            return True
        return mine

    def close(self) -> None:
        for attempt in self.attempts:
            attempt.sock.close()


def matches(query: bytes, end: int, number: bytes, answer: bytes) -> bool:
    """Whether this is an answer to a query that was sent with such a number: a response of the same kind with the same
    question. A server that did not understand the query may leave the question out."""
    if len(answer) < 12 or answer[:2] != number or not answer[2] & 0x80 or (answer[2] ^ query[2]) & 0x78:
        return False
    if answer[4:6] == bytes(2):
        return answer[3] & 15 in _FAILURES
    return answer[4:6] == b"\0\1" and answer[12:end].lower() == query[12:end].lower()
