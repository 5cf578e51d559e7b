"""From a question to an answer: names of the asker's networks, what is not ours, and what hostile clients send."""

from __future__ import annotations

from ipaddress import ip_network

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.reversename
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanocontainer.network import resolver_answering as answering
from nanocontainer.network.registration import Registration, names_of
from nanocontainer.network.resolver_view import Asker, Zone

IDS = [f"{number:02x}" * 32 for number in range(1, 9)]


def zone(name: str, *members: Registration, subnet: str, internal: bool = False) -> Zone:
    made = Zone(name, f"/networks/{name}")
    made.all = {each.id: each for each in members}
    made.subnets = (ip_network(subnet), ip_network("fd00:1::/64"))
    made.internal = internal
    made._index()
    return made


WEB = Registration(IDS[0], "alpha", names_of(IDS[0], "web", ("www", "Site.Example")), "10.1.0.2", "fd00:1::2")
OTHER = Registration(IDS[1], "alpha", names_of(IDS[1], "other", ("www",)), "10.1.0.3")
FAR = Registration(IDS[2], "beta", names_of(IDS[2], "far"), "10.2.0.2")
LONG = Registration(IDS[3], "alpha", ("l" * 100,), "10.1.0.4")
ALPHA = zone("alpha", WEB, OTHER, LONG, subnet="10.1.0.0/24")
BETA = zone("beta", FAR, WEB.replace(network="beta", ip="10.2.0.3", ip6=""), subnet="10.2.0.0/24")


def query(name: str, kind: str = "A", **more: object) -> answering.Question:
    found = answering.parse(dns.message.make_query(name, kind, **more).to_wire())  # type: ignore[arg-type]
    assert isinstance(found, answering.Question)
    return found


def answered(name: str, kind: str = "A", asker: Asker | None = None) -> tuple[str, list[str]] | None:
    wire = answering.answer(query(name, kind), asker or Asker(OTHER, (ALPHA,)))
    if wire is None:
        return None
    made = dns.message.from_wire(wire)
    return dns.rcode.to_text(made.rcode()), [record.to_text() for rrset in made.answer for record in rrset]


@pytest.mark.parametrize("name", ["web", "WEB.", "web.alpha", "Web.ALPHA", IDS[0][:12], "site.example"])
def test_all_names_of_a_container(name: str) -> None:
    assert answered(name) == ("NOERROR", ["10.1.0.2"])
    assert answered(name, "AAAA") == ("NOERROR", ["fd00:1::2"])
    assert sorted((answered(name, "ANY") or ("", []))[1]) == ["10.1.0.2", "fd00:1::2"]


@pytest.mark.parametrize(
    ("name", "kind"), [("other", "AAAA"), ("web", "MX"), ("web", "HTTPS"), ("web", "PTR"), ("www", "TXT")]
)
def test_a_name_without_such_a_record_is_a_name(name: str, kind: str) -> None:
    assert answered(name, kind) == ("NOERROR", [])


@pytest.mark.parametrize(
    "name", ["far", "far.beta", "webb", "web.example", "a.web", ".", "l" * 63, "4.3.2.1.in-addr.arpa"]
)
def test_what_is_not_ours_is_asked_elsewhere(name: str) -> None:
    assert answered(name) is None


def test_names_of_all_networks_of_the_asker() -> None:
    both = Asker(WEB, (ALPHA, BETA))
    assert answered("far", asker=both) == answered("far.beta", asker=both) == ("NOERROR", ["10.2.0.2"])
    assert answered("web", asker=both) == ("NOERROR", ["10.1.0.2"]), "on the network that it asks on"
    assert answered("web.beta", asker=both) == ("NOERROR", ["10.2.0.3"])


def test_containers_take_turns() -> None:
    ALPHA._index()
    first = [(answered("www") or ("", []))[1] for _ in range(6)]
    assert [each[0] for each in first] == ["10.1.0.2", "10.1.0.3"] * 3
    assert all(set(each) == {"10.1.0.2", "10.1.0.3"} for each in first)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("10.1.0.2", ("NOERROR", ["web.alpha."])),
        ("fd00:1::2", ("NOERROR", ["web.alpha."])),
        ("10.1.0.4", ("NOERROR", [])),  # its name is no name for DNS
        ("10.1.0.99", ("NXDOMAIN", [])),
        ("fd00:1::99", ("NXDOMAIN", [])),
        ("10.2.0.2", None),
        ("8.8.8.8", None),
        ("2001:db8::1", None),
    ],
)
def test_backwards(address: str, said: object) -> None:
    assert answered(dns.reversename.from_address(address).to_text(), "PTR") == said


@pytest.mark.parametrize(
    "name",
    ["in-addr.arpa", "300.1.1.1.in-addr.arpa", "1.1.1.in-addr.arpa", "01.1.1.1.in-addr.arpa", f"{'g.' * 32}ip6.arpa",
     f"{'a.' * 31}ip6.arpa", f"{'aa.' * 32}ip6.arpa", f"{'_.' * 32}ip6.arpa", "x.1.2.3.4.in-addr.arpa"],
)  # fmt: skip
def test_no_whole_reverse_names(name: str) -> None:
    assert answering.address_asked(name) == ""


def test_refusals_say_why_to_who_can_hear_it() -> None:
    said = dns.message.from_wire(answering.refuse(query("x.example", use_edns=0), answering.PROHIBITED, "no way out"))
    assert said.rcode() == dns.rcode.NXDOMAIN and said.flags & dns.flags.RA
    assert [option.to_text() for option in said.options] and said.options[0].otype == dns.edns.OptionType.EDE
    plain = dns.message.from_wire(answering.refuse(query("x.example"), answering.PROHIBITED, "no way out"))
    assert plain.rcode() == dns.rcode.NXDOMAIN and plain.edns < 0


@pytest.mark.parametrize(
    ("change", "rcode"),
    [
        (lambda wire: wire[:2] + bytes((wire[2] | 0x28,)) + wire[3:], 4),  # an update
        (lambda wire: wire[:4] + b"\0\2" + wire[6:], 1),
        (lambda wire: wire[:6] + b"\0\1" + wire[8:], 1),
        (lambda wire: wire[:-2] + b"\0\3", 5),  # class CHAOS
        (lambda wire: wire[:-4] + b"\0\xfc" + wire[-2:], 5),  # AXFR
        (lambda wire: wire[:12] + b"\xc0\x0c" + wire[-4:], 1),  # a name that points at itself
        (lambda wire: wire[:-1], 1),
        (lambda wire: wire + bytes(5000), 1),
    ],
)
def test_what_is_turned_down(change: object, rcode: int) -> None:
    wire = change(dns.message.make_query("web", "A").to_wire())  # type: ignore[operator]
    said = answering.parse(wire)
    assert isinstance(said, bytes)
    assert said[:2] == wire[:2] and said[2] & 0x80 and said[3] & 15 == rcode
    assert len(said) <= len(wire)


def test_an_answer_is_not_answered() -> None:
    wire = dns.message.make_response(dns.message.make_query("web", "A")).to_wire()
    assert answering.parse(wire) is None
    assert answering.parse(b"") is answering.parse(bytes(11)) is None


def test_a_newer_edns() -> None:
    wire = dns.message.make_query("web", "A", use_edns=0).to_wire()
    said = answering.parse(wire[:-5] + b"\1" + wire[-4:])  # the version, in the last record (RFC 6891)
    assert isinstance(said, bytes)
    assert dns.message.from_wire(said).rcode() == dns.rcode.BADVERS


MANY = zone(
    "alpha", *(Registration(f"{n:064x}", "alpha", ("all",), f"10.1.1.{n}") for n in range(1, 201)), subnet="10.1.0.0/16"
)


@pytest.mark.parametrize(("payload", "most"), [(0, 512), (600, 600), (1232, 1232), (65535, 4096)])
def test_an_answer_is_as_large_as_the_client_takes(payload: int, most: int) -> None:
    asked = query("all", **({"use_edns": 0, "payload": payload} if payload else {}))
    wire = answering.answer(asked, Asker(OTHER, (MANY,)))
    assert wire is not None and len(wire) <= most == asked.limit
    said = dns.message.from_wire(wire)
    assert bool(said.flags & dns.flags.TC) == (len(said.answer[0]) < 200)
    asked.limit = 65535
    assert len(dns.message.from_wire(answering.answer(asked, Asker(OTHER, (MANY,))) or b"").answer[0]) == 200


def test_answers_of_others_are_cut() -> None:
    asked = dns.message.make_query("x.example", "TXT")
    made = dns.message.make_response(asked)
    made.answer = [dns.rrset.from_text("x.example.", 60, "IN", "TXT", "y" * 250, "z" * 250, "w" * 250)]
    wire = made.to_wire()
    assert answering.fit(wire, 4096) == wire
    cut = dns.message.from_wire(answering.fit(wire, 512))
    assert cut.flags & dns.flags.TC and cut.question == asked.question and not cut.answer and cut.id == asked.id


def test_addresses_of_the_name_that_was_asked() -> None:
    made = dns.message.make_response(dns.message.make_query("a.example", "A"))
    for line in ("c.example. 50 IN A 192.0.2.1", "a.example. 5 IN CNAME b.example.", "b.example. 5 IN CNAME c.example.",
                 "evil.example. 50 IN A 6.6.6.6", "c.example. 40 IN AAAA 2001:db8::1"):  # fmt: skip
        made.answer.append(dns.rrset.from_text(*line.split()))
    assert sorted(answering.addresses_in(made.to_wire())) == [("192.0.2.1", 50), ("2001:db8::1", 40)]
    with pytest.raises(ValueError):
        answering.addresses_in(made.to_wire()[:-3])


@given(st.binary(max_size=600))
def test_any_packet(wire: bytes) -> None:
    """Nothing that a client sends does harm, or makes an answer larger than what it may be."""
    said = answering.parse(wire)
    if isinstance(said, answering.Question):
        known = answering.answer(said, Asker(OTHER, (ALPHA,)))
        for made in (known, answering.fail(said), answering.refuse(said, 18, "x")):
            assert made is None or len(made) <= said.limit
    answering.fit(wire.ljust(12, b"\0"), 512)
    answering.question_end(wire)
    try:
        answering.addresses_in(wire)
    except ValueError:
        pass


@given(st.lists(st.binary(min_size=1, max_size=63), max_size=3), st.integers(0, 65535), st.binary(max_size=40))
def test_any_question(labels: list[bytes], kind: int, rest: bytes) -> None:
    name = b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
    wire = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00" + name + kind.to_bytes(2, "big") + b"\0\1" + rest
    said = answering.parse(wire)
    assert said is not None
    if isinstance(said, answering.Question):
        made = answering.answer(said, Asker(OTHER, (ALPHA,)))
        assert made is None or made[:2] == b"\x12\x34"
        assert answering.question_end(wire) == 12 + len(name) + 4


@given(st.text(max_size=300))
def test_any_name_backwards(name: str) -> None:
    answering.address_asked(name)
