"""The resolver: one process for all networks of an engine, that tells containers each other's names.

    container ──UDP, TCP──▶ port 53 of its network's gateway ──▶ nanoc:dns ──▶ answers, or asks the container's servers
                                                                   ▲
    a start ──"serve network N"──▶ dns.sock ───────────────────────┘     names: files (registration.py)

Why on the gateway, and not inside of each container's namespace as docker's 127.0.0.11: one process and a few sockets
for all, nothing in the container that it could touch or see, and a question's sender is told by its address, which the
bridge vouches for. It asks others from the host's network, so a resolver on the host's own loopback can be asked.

One thread and a loop of epoll(7): nothing in it waits. What clients and servers can make it keep is bounded: questions
on their way in all and per container, connections, bytes per connection. Where a bound is reached the client is told
so (SERVFAIL); no packet can end the process.

It starts as a child of the command that needs it, with its lock and sockets, and executes itself anew (execve(2)), so
that nothing of the engine stays in its memory (resolver_steps.py). Questions that come before it is ready wait in their
sockets; the library for the wire format, 0.15 s to load, is loaded when nobody waits for anything else. It ends when no
container is on any network with names, after some seconds as the bridges do.
"""

from __future__ import annotations

import gc
import select
import time
from functools import partial

from .resolver_clients import IDLE, Client

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..kernel.calls import Kernel
    from ..lean import sockets
    from ..paths import Paths
    from . import resolver_answering, resolver_forwarding
    from .resolver_sockets import Place
    from .resolver_view import Asker

    Handler = Callable[[int], None]

MOST_QUESTIONS = 1000  # on their way to other servers, if there may be so many open files
MOST_OF_ONE = 200  # of one container
MOST_CONNECTIONS = 250
MOST_CONNECTIONS_OF_ONE = 30
_AT_ONCE = 50  # datagrams taken from one socket before others have their turn
_LOOK = 60.0  # seconds after which it looks by itself whether it is needed
_SETTLE = 0.03  # seconds without a word, after which the library is loaded
_LIBRARY = "dns.message"


class Resolver:
    """The loop and all that it holds. listener: of dns.sock. adopted: sockets that were bound by who started us."""

    def __init__(
        self, paths: Paths, listener: sockets.socket, adopted: list[tuple[sockets.socket, Place]], linger: float
    ) -> None:
        from .resolver_view import View

        self.paths, self.listener, self.linger = paths, listener, linger
        self.view = View(paths.networks)
        self.poll = select.epoll()
        self.handlers: dict[int, Handler] = {}
        self.served: dict[tuple[str, str], tuple[sockets.socket, Place]] = {}
        self.exchanges: dict[resolver_forwarding.Exchange, None] = {}  # by the time at which they are due
        self.same: set[tuple[object, bytes]] = set()  # who asked what: a client asks again when it is not answered
        self.asking: dict[str, int] = {}  # container → its questions on their way
        self.clients: dict[Client, None] = {}  # by the time at which they last said something
        self.most = MOST_QUESTIONS
        self.unneeded_since = 0.0
        self.callers: list[sockets.socket] = []  # who wait for our end
        self.trouble = ""  # what went wrong that should never
        self.words: Any = None  # resolver_answering, once it is loaded
        self.onward: Any = None  # resolver_forwarding
        self._servers: Any = None
        self._gate: Any = None
        self._flushes: Any = None  # resolver_flush.Flushes, once somebody has a policy
        self._kernel: Kernel | None = None
        self.watch(listener.fileno(), select.EPOLLIN, self._called)
        for sock, place in adopted:
            self._take(sock, place)

    # --- the loop

    def run(self) -> None:
        """Until nobody needs it."""
        self.look()
        while True:
            fired = self.poll.poll(_SETTLE if self.words is None else self._wait(), 256)
            for fd, events in fired:
                handler = self.handlers.get(fd)
                try:
                    if handler:
                        handler(events)
                except Exception as error:  # a bug of ours, which must not cost the others their names
                    self._stumbled(fd, error)
            if not fired:
                self.load()
                self.look()  # who should have told us of an end may have been killed
            now = time.monotonic()
            self._hurry(now)
            self._drop_silent(now)
            if self._gate is not None:
                self._gate.flush()
            if self._over(now):
                return

    def _stumbled(self, fd: int, error: Exception) -> None:
        """Drop whom it happened with; what it was is told to who asks (doctor)."""
        self.trouble = f"{type(error).__name__}: {error}"
        kept = [self.listener.fileno(), self._flushes.sock.fileno() if self._flushes else -1]
        if fd not in kept and all(fd != sock.fileno() for sock, _ in self.served.values()):
            self.forget(fd)

    def load(self) -> None:
        """The library for the wire format, and what is made of it."""
        from .. import library

        if self.words is None:
            if library.borrow(_LIBRARY, f"{self.paths.state}/lib") is None:
                raise SystemExit(f"the Python library dnspython is gone, or broken ({_LIBRARY})")
            from . import resolver_answering, resolver_forwarding

            self.words, self.onward = resolver_answering, resolver_forwarding
            self._servers = resolver_forwarding.Servers()
            gc.collect()
            gc.freeze()  # what is there stays: nothing of it is looked at again
            self.kernel.give_memory_back()

    def watch(self, fd: int, events: int, handler: Handler) -> None:
        if fd in self.handlers:
            self.poll.modify(fd, events)
        else:
            self.poll.register(fd, events)
        self.handlers[fd] = handler

    def forget(self, fd: int) -> None:
        """Before it is closed."""
        if self.handlers.pop(fd, None):
            self.poll.unregister(fd)

    def _wait(self) -> float:
        now = time.monotonic()
        times = [_LOOK]
        if self.exchanges:
            times.append(next(iter(self.exchanges)).due - now)
        if self.clients:
            times.append(next(iter(self.clients)).last + IDLE - now)
        if self.unneeded_since and self.linger >= 0:
            times.append(self.unneeded_since + self.linger - now)
        return max(min(times), 0.001)

    def _over(self, now: float) -> bool:
        """Whether it is not needed any more, and was not for long enough."""
        if self.unneeded_since and 0 <= self.linger <= now - self.unneeded_since:
            self.look()  # a name may have come that nobody told us of
            return bool(self.unneeded_since)
        return False

    # --- what is served

    def look(self) -> list[str]:
        """Serve the networks that have names, and no others; what could not be done, in words."""
        from ..errors import NanoError
        from .resolver_sockets import listen, places

        self.view.refresh()
        wanted = [pair for zone in self.view.needed for pair in places(*zone.gateways)]
        for pair in self.served.keys() - set(wanted):
            self._leave(pair)
        failures = []
        for pair in wanted:
            if pair not in self.served:
                try:
                    self._take(*listen(*pair))
                except NanoError as error:
                    failures.append(str(error))
        if self._flushes is None and any(each.egress for zone in self.view.needed for each in zone.all.values()):
            self._watch_rules()
        if self.view.needed:
            self.unneeded_since = 0.0
        elif not self.unneeded_since:
            self.unneeded_since = time.monotonic()
        return failures + self._redirect()

    def _watch_rules(self) -> None:
        """From now on, policies that somebody flushes come back at once."""
        from . import resolver_flush

        self._flushes = resolver_flush.Flushes()

        def changed(_: int) -> None:
            if self._flushes.table_gone():
                resolver_flush.put_back(self.paths, self.kernel, self.view)
                self._redirect()

        self.watch(self._flushes.sock.fileno(), select.EPOLLIN, changed)

    def _take(self, sock: sockets.socket, place: Place) -> None:
        self.served[place.address, place.kind] = sock, place
        handler = self._asked if place.kind == "udp" else self._connected
        self.watch(sock.fileno(), select.EPOLLIN, lambda _: handler(sock))

    def _leave(self, pair: tuple[str, str]) -> None:
        sock, _ = self.served.pop(pair)
        self.forget(sock.fileno())
        sock.close()

    def leave_all(self) -> None:
        """Before the end."""
        for pair in list(self.served):
            self._leave(pair)
        self._redirect()

    def _redirect(self) -> list[str]:
        """Lead port 53 to where we are, where another program has that; again when we are told that somebody has
        flushed all tables. What a resolver that was killed has left of that goes."""
        from ..errors import NanoError
        from .resolver_sockets import PORT, lead, withdraw

        elsewhere = [place for _, place in self.served.values() if place.port != PORT]
        try:
            if elsewhere:
                lead(self.kernel, self._table, elsewhere)
            else:
                withdraw(self.kernel, self._table)
        except NanoError as error:
            return [str(error)]
        return []

    @property
    def kernel(self) -> Kernel:
        if self._kernel is None:
            from ..kernel.calls import Kernel

            self._kernel = Kernel()
        return self._kernel

    @property
    def _table(self) -> str:
        from .model import table_name

        return table_name(self.paths)

    # --- dns.sock

    def _called(self, _: int) -> None:
        from ..lean import sockets

        try:
            fd, _address = self.listener._accept()  # type: ignore[attr-defined]
        except OSError:
            return
        caller = sockets.socket(fileno=fd)
        caller.setblocking(False)
        self.watch(fd, select.EPOLLIN, lambda _: self._told(caller))

    def _told(self, caller: sockets.socket) -> None:
        """One word of a command. Who learns that we end hears nothing more: the end of the file, when we have ended."""
        from ..lean import dumps, loads

        self.forget(caller.fileno())
        answer = {"trouble": self.trouble} if self.trouble else {}
        try:
            word = loads(caller.recv(4096).decode())
            networks, linger = [str(network) for network in word["networks"]], float(word["linger"])
        except (OSError, ValueError, TypeError, KeyError):
            caller.close()
            return
        if networks:
            self.linger = linger
        failures = self.look()
        failures += [f"nothing of {network} is on the disk" for network in networks if network not in self.view.zones]
        if networks and failures:
            answer = {"what": "the resolver cannot listen there", "why": "; ".join(failures), "hint": ""}
        if self._over(time.monotonic()):
            self.callers.append(caller)
            return
        try:
            caller.send(dumps(answer).encode())
        except OSError:
            pass
        caller.close()

    # --- questions

    def _asked(self, sock: sockets.socket) -> None:
        """Datagrams. Who is no container of ours hears nothing: neither is this an open resolver, nor can it be made to
        send to others what they did not ask for."""
        self.load()
        for _ in range(_AT_ONCE):
            try:
                wire, sender = sock.recvfrom(65535)
            except OSError:  # BlockingIOError: that was all
                return
            self.view.refresh()  # for each, and after it has come: what was written before it was sent must count
            asker = self.view.asker(sender[0])
            if asker:
                self.answer(wire, asker, False, (sender, wire[:2]), partial(_post, sock, sender))

    def _connected(self, sock: sockets.socket) -> None:
        from ..lean import sockets

        self.load()
        self.view.refresh()
        try:
            fd, sender = sock._accept()  # type: ignore[attr-defined]
        except OSError:
            return
        connection = sockets.socket(fileno=fd)
        asker = self.view.asker(sender[0])
        mine = sum(each.address == sender[0] for each in self.clients)
        if asker is None or len(self.clients) >= MOST_CONNECTIONS or mine >= MOST_CONNECTIONS_OF_ONE:
            connection.close()
            return
        connection.setblocking(False)
        Client(self, connection, sender[0])

    def answer(self, wire: bytes, asker: Asker, stream: bool, client: object, reply: Callable[[bytes], None]) -> bool:
        """Answer a query, now or when others have answered. Whether it will be."""
        words = self.words
        question = words.parse(wire)
        if question is None:
            return False
        if isinstance(question, bytes):
            reply(question)
            return True
        if stream:
            question.limit = 65535
        known = words.answer(question, asker)
        if known is not None:
            reply(known)
            return True
        policy = asker.egress
        if policy:
            if not self._may_ask(policy, question.name):
                reply(words.refuse(question, words.FILTERED, "this container may not look up this name (--allow-out)"))
                return True
            if words.hides_addresses(question):
                reply(words.empty(question))
                return True
        return self._ask_on(question, asker, stream, client, reply)

    def _ask_on(
        self, question: resolver_answering.Question, asker: Asker, stream: bool, client: object,
        reply: Callable[[bytes], None],
    ) -> bool:  # fmt: skip
        words, id = self.words, asker.registration.id
        servers = self._servers.for_asker(asker, self.view, time.monotonic())
        if not servers:
            if asker.internal:
                reply(words.refuse(question, words.PROHIBITED, "the network is internal: nothing outside is asked"))
            else:
                reply(words.fail(question, "no server is known that could be asked"))
            return True
        if (client, question.wire) in self.same:
            return True  # the client repeats itself; it will be answered once
        if len(self.exchanges) >= self.most or self.asking.get(id, 0) >= MOST_OF_ONE:
            reply(words.fail(question, "too many questions at once"))
            return True

        def done(answer: bytes | None) -> None:
            self.same.discard((client, question.wire))
            left = self.asking.pop(id) - 1
            if left:
                self.asking[id] = left
            if answer is not None and not self._admit(asker, question, answer):
                answer = words.fail(question, "the firewall could not be told of the addresses")
            reply(words.fit(answer or words.fail(question, "no server has answered"), question.limit))

        self.asking[id] = self.asking.get(id, 0) + 1
        self.same.add((client, question.wire))
        exchange = self.onward.Exchange(question.wire, servers, stream, client, done)
        self._go_on(exchange)
        return True

    def _load_gate(self) -> Any:
        """Who says what may go out: loaded with the first container that has a policy."""
        if self._gate is None:
            from importlib import import_module

            if self._flushes is None:
                self._watch_rules()
            self._gate = import_module(f"{__package__}.gate")
        return self._gate

    def _may_ask(self, policy: dict[str, Any], name: str) -> bool:
        try:
            return bool(self._load_gate().may_ask(policy, name))
        except Exception as error:  # where we cannot tell, nothing goes out
            self.trouble = f"egress: {type(error).__name__}: {error}"
            return False

    def _admit(self, asker: Asker, question: resolver_answering.Question, answer: bytes) -> bool:
        """Before a container learns an address, the firewall lets it reach it."""
        policy = asker.egress
        if not policy:
            return True
        try:
            found = self.words.addresses_in(answer)
            return not found or self._load_gate().admit(
                self.kernel, policy, asker.registration.id, question.name, found
            )
        except Exception as error:  # a firewall that says no, an answer that is broken: then it gets none
            self.trouble = f"egress: {type(error).__name__}: {error}"
            return False

    # --- questions on their way

    def _go_on(self, exchange: resolver_forwarding.Exchange) -> None:
        """Ask the next server. After the last one a while is left for those that are slow."""
        attempt = exchange.next_attempt()
        if attempt is None and (exchange.patient or not exchange.waits):
            self._finish(exchange, exchange.fallback)
            return
        exchange.patient = attempt is None
        self.exchanges.pop(exchange, None)
        self.exchanges[exchange] = None  # last: all have the same time
        exchange.due = time.monotonic() + self.onward.TIMEOUT
        if attempt:
            events = select.EPOLLIN | (select.EPOLLOUT if attempt.unsent else 0)
            self.watch(attempt.sock.fileno(), events, lambda which: self._heard(exchange, attempt, which))

    def _heard(self, exchange: resolver_forwarding.Exchange, attempt: resolver_forwarding.Attempt, events: int) -> None:
        fd = attempt.sock.fileno()
        try:
            if attempt.unsent and events & select.EPOLLOUT:
                attempt.send()
                if not attempt.unsent:
                    self.watch(fd, select.EPOLLIN, self.handlers[fd])
            answer = attempt.receive()
        except OSError:  # nobody is there
            exchange.give_up(attempt.server)
            self._lost(exchange, attempt)
            return
        if answer is None:
            return
        verdict = exchange.judge(attempt, answer)
        if isinstance(verdict, bytes):
            self._servers.was_in_time(attempt.server)
            self._finish(exchange, verdict)
        elif verdict:
            self._lost(exchange, attempt)

    def _lost(self, exchange: resolver_forwarding.Exchange, attempt: resolver_forwarding.Attempt) -> None:
        """This attempt has no answer. The next server is asked at once; if there is none, others may still answer."""
        self.forget(attempt.sock.fileno())
        attempt.sock.close()
        if exchange.coming or not exchange.waits:
            self._go_on(exchange)

    def _hurry(self, now: float) -> None:
        """Whose server is late asks the next one."""
        for exchange in list(self.exchanges):
            if exchange.due > now:
                return
            for attempt in exchange.attempts:
                self._servers.was_late(attempt.server, now)
            self._go_on(exchange)

    def _finish(self, exchange: resolver_forwarding.Exchange, answer: bytes | None) -> None:
        self.exchanges.pop(exchange, None)
        for attempt in exchange.attempts:
            if attempt.sock.fileno() >= 0:
                self.forget(attempt.sock.fileno())
        exchange.close()
        exchange.reply(answer)

    def _drop_silent(self, now: float) -> None:
        for client in list(self.clients):
            if client.last + IDLE > now:
                return
            client.close()


def _post(sock: sockets.socket, to: Any, answer: bytes) -> None:
    try:
        sock.sendto(answer, to)
    except OSError:
        pass  # the container is gone, or its queue is full: it asks again
