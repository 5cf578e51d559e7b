"""Asking other servers: whom, and whose answer counts."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanocontainer.network import resolver_forwarding as forwarding
from nanocontainer.network.registration import Registration
from nanocontainer.network.resolver_answering import question_end
from nanocontainer.network.resolver_view import Asker, View, Zone

ID = "ab" * 32
QUERY = dns.message.make_query("Www.Example.com", "A", id=0x1234).to_wire()
END = question_end(QUERY)
NUMBER = b"\xaa\xbb"


def answer(change: dict[int, bytes] | None = None, rcode: int = 0) -> bytes:
    made = dns.message.make_response(dns.message.from_wire(QUERY))
    made.set_rcode(dns.rcode.Rcode(rcode))
    wire = bytearray(NUMBER + made.to_wire()[2:])
    for at, data in (change or {}).items():
        wire[at : at + len(data)] = data
    return bytes(wire)


def test_an_answer_to_this_question_counts() -> None:
    assert forwarding.matches(QUERY, END, NUMBER, answer())
    assert forwarding.matches(QUERY, END, NUMBER, answer({13: b"WWW"})), "without case"
    assert forwarding.matches(QUERY, END, NUMBER, answer({4: b"\0\0"}, rcode=1)[:12]), "it did not understand"


@pytest.mark.parametrize(
    "wire",
    [answer({0: b"\xaa\xbc"}), answer({13: b"wwx"}), answer({2: b"\x01"}), answer({2: b"\xa9"}), answer()[:11], b"",
     answer({4: b"\0\2"}), answer({4: b"\0\0"}), answer({END - 3: b"\x1c"})],
)  # fmt: skip
def test_any_other_does_not(wire: bytes) -> None:
    assert not forwarding.matches(QUERY, END, NUMBER, wire)


@given(st.binary(max_size=100))
def test_guesses(wire: bytes) -> None:
    assert not forwarding.matches(QUERY, END, NUMBER, wire) or wire[:2] == NUMBER


def exchange(*servers: str) -> tuple[forwarding.Exchange, forwarding.Attempt]:
    made = forwarding.Exchange(QUERY, list(servers), False, None, lambda _: None)
    attempt = object.__new__(forwarding.Attempt)
    attempt.server, attempt.number, attempt.wrong = servers[0], NUMBER, 0
    return made, attempt


def test_an_answer_gets_the_clients_number_back() -> None:
    made, attempt = exchange("192.0.2.1")
    said = made.judge(attempt, answer())
    assert isinstance(said, bytes) and said[:2] == QUERY[:2] and said[2:] == answer()[2:]


def test_a_server_that_fails_is_not_asked_again() -> None:
    made, attempt = exchange("192.0.2.1", "192.0.2.2")
    assert made.judge(attempt, answer(rcode=2)) is True
    assert made.coming == ["192.0.2.2"] * 2 and made.fallback
    assert isinstance(made.judge(attempt, answer(rcode=3)), bytes), "no such name is an answer"


def test_who_guesses_too_often_is_asked_by_tcp() -> None:
    made, attempt = exchange("192.0.2.1")
    said = [made.judge(attempt, answer({0: bytes((0, number))})) for number in range(8)]
    assert said == [False] * 7 + [True]
    assert made.stream and made.coming[0] == "192.0.2.1"


def zone(name: str, subnet: str, *, internal: bool) -> Zone:
    made = Zone(name, "/nowhere")
    made.subnets, made.internal = (ip_network(subnet),), internal
    made.gateways = (str(made.subnets[0][1]),)
    return made


def test_whom_a_container_may_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = tmp_path / "resolv.conf"
    host.write_text("nameserver 127.0.0.53\nnameserver fe80::1%lo\nnameserver bad\nnameserver 10.2.0.1\n")
    monkeypatch.setattr(forwarding, "RESOLV", str(host))
    servers, view = forwarding.Servers(), View("/nowhere")
    open_, shut = zone("open", "10.1.0.0/24", internal=False), zone("shut", "10.2.0.0/24", internal=True)
    view.zones = {"open": open_, "shut": shut}
    plain = Registration(ID, "open", ("x",), "10.1.0.2")
    assert servers.for_asker(Asker(plain, (open_,)), view, 0.0) == ["127.0.0.53", "fe80::1%lo"], "not ourselves"
    # nothing outside for who has no way out, whoever it names; on its own network yes
    named = plain.replace(servers=("10.2.0.9", "192.0.2.1", "127.0.0.1"))
    assert servers.for_asker(Asker(plain, (shut,)), view, 0.0) == []
    assert servers.for_asker(Asker(named, (shut,)), view, 0.0) == ["10.2.0.9"]
    assert servers.for_asker(Asker(named, (shut, open_)), view, 0.0) == list(named.servers)
    # who was late comes last, for a while
    servers.was_late("10.2.0.9", 0.0)
    assert servers.for_asker(Asker(named, (open_,)), view, 1.0)[-1] == "10.2.0.9"
    assert servers.for_asker(Asker(named, (open_,)), view, 1000.0)[0] == "10.2.0.9"
    host.write_text("# none\n#" + "x" * 100)
    assert servers.for_asker(Asker(plain, (open_,)), view, 0.0) == list(forwarding.PUBLIC)
