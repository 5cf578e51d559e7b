"""A DNS server on another machine, as good or as bad as a test wants it."""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rrset

from .networking import PATIENCE, Machine

Answerer = Callable[[dns.message.Message, bool], "bytes | list[bytes] | None"]


def answers(query: dns.message.Message, *records: str, rcode: int = 0, flags: int = 0) -> bytes:
    """A whole answer; a record: "name TTL TYPE data"."""
    made = dns.message.make_response(query, recursion_available=True)
    made.set_rcode(dns.rcode.Rcode(rcode))
    made.flags |= flags
    for record in records:
        name, ttl, kind, data = record.split(" ", 3)
        made.answer.append(dns.rrset.from_text(name, int(ttl), "IN", kind, data))
    return made.to_wire(max_size=65535)


class Nameserver:
    """Port 53, UDP and TCP, of one address of a machine. asked: all questions, (name, type, whether by TCP)."""

    def __init__(self, machine: Machine, address: str, answerer: Answerer) -> None:
        self.answerer = answerer
        self.asked: list[tuple[str, str, bool]] = []
        self.ports: list[int] = []  # from which questions came
        self.ids: list[int] = []
        self.udp, self.tcp = (machine.serve(53, kind, address) for kind in ("udp", "tcp"))
        self._stop = os.eventfd(0)
        self._thread = threading.Thread(target=self._run, name="nameserver", daemon=True)
        self._thread.start()

    def close(self) -> None:
        os.eventfd_write(self._stop, 1)
        self._thread.join()
        for sock in (self.udp, self.tcp):
            sock.close()
        os.close(self._stop)

    def _run(self) -> None:
        while True:
            ready, _, _ = select.select([self.udp, self.tcp, self._stop], [], [])
            if self._stop in ready:
                return
            if self.udp in ready:
                wire, client = self.udp.recvfrom(65535)
                self.ports.append(client[1])
                for answer in self._answers(wire, False):
                    self.udp.sendto(answer, client)
            if self.tcp in ready:
                connection, _ = self.tcp.accept()
                with connection:
                    connection.settimeout(PATIENCE)
                    size = int.from_bytes(connection.recv(2, socket.MSG_WAITALL), "big")
                    wire = connection.recv(size, socket.MSG_WAITALL)
                    for answer in self._answers(wire, True):
                        connection.sendall(len(answer).to_bytes(2, "big") + answer)

    def _answers(self, wire: bytes, stream: bool) -> list[bytes]:
        query = dns.message.from_wire(wire)
        question = query.question[0]
        self.asked.append((question.name.to_text(), question.rdtype.name, stream))
        self.ids.append(query.id)
        said = self.answerer(query, stream)
        return [said] if isinstance(said, bytes) else said or []


@contextmanager
def nameserver(machine: Machine, address: str, answerer: Answerer) -> Iterator[Nameserver]:
    server = Nameserver(machine, address, answerer)
    try:
        yield server
    finally:
        server.close()


def ask(
    machine: Machine, server: str, name: str, kind: str = "A", *, tcp: bool = False, payload: int = 0,
    timeout: float = PATIENCE,
) -> dns.message.Message:  # fmt: skip
    """Ask a server from a machine; TimeoutError where it says nothing. payload: EDNS's, 0 for none."""
    query = dns.message.make_query(name, kind, use_edns=0 if payload else -1, payload=payload or 1232)
    with machine.inside():
        family = socket.AF_INET6 if ":" in server else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM)
    with sock:
        sock.settimeout(timeout)
        sock.connect((server, 53))
        wire = query.to_wire()
        if tcp:
            sock.sendall(len(wire).to_bytes(2, "big") + wire)
            size = int.from_bytes(sock.recv(2, socket.MSG_WAITALL), "big")
            return dns.message.from_wire(sock.recv(size, socket.MSG_WAITALL))
        sock.send(wire)
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            answer = dns.message.from_wire(sock.recv(65535))
            if query.is_response(answer):
                return answer
    raise TimeoutError(f"{server} has not answered")


def texts(answer: dns.message.Message) -> list[str]:
    """The data of all records of an answer, in order."""
    return [record.to_text() for rrset in answer.answer for record in rrset]


def said(answer: dns.message.Message) -> str:
    """The result code in words: NOERROR, NXDOMAIN, SERVFAIL..."""
    return dns.rcode.to_text(answer.rcode())
