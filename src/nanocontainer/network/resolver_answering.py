"""From a question to an answer. Pure: bytes and a view of names go in, bytes or "ask somebody else" come out.

Rules
 1. A name of a container on a network of the asker is answered here, whatever is asked of it, and never outside. Where
    it has no address of that family the answer is empty (NODATA), which is not "no such name" (NXDOMAIN): a client that
    hears NXDOMAIN for AAAA would not ask for A (RFC 4074).
 2. An address in a network of the asker is nobody's business outside either: its name, or NXDOMAIN.
 3. All else goes on to other servers (resolver_forwarding.py): to those that the asker may ask. A container without a
    way out must not get a word out through us: names make a channel (CVE-2024-29018). It may ask servers of its own
    network, as ours asks them for it.
 4. What may not be asked is answered at once, with NXDOMAIN and the reason as an extended error (RFC 8914). Not with
    REFUSED: musl takes that for no answer at all, and waits five seconds for a better one.
 5. Names are compared without case (RFC 4343), and given back as they were asked.
 6. Containers take turns in being the first of several (round robin). A time to live of 0: a container that was
    replaced is found at once.
 7. Nothing is larger than the client said it takes (RFC 6891), 512 bytes where it said nothing (RFC 1035); what is
    larger is cut and says so (TC), and the client asks again by TCP.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .resolver_view import Asker

_HEAD = 12  # bytes of a message's header
_LARGEST_QUERY = 4096
_SMALLEST, _LARGEST = 512, 4096  # of an answer by UDP, whatever the client says
_NO_ADDRESS = frozenset(int(kind) for kind in (dns.rdatatype.HTTPS, dns.rdatatype.SVCB))
_TRANSFERS = frozenset(int(kind) for kind in (dns.rdatatype.AXFR, dns.rdatatype.IXFR))
PROHIBITED, FILTERED, NO_SERVER = 18, 17, 23  # RFC 8914


class Question:
    """A query that can be understood. limit: bytes of an answer by UDP."""

    def __init__(self, message: dns.message.Message, wire: bytes) -> None:
        self.message, self.wire = message, wire
        self.asked = message.question[0]
        self.name = self.asked.name.to_text(omit_final_dot=True).lower()
        self.kind = int(self.asked.rdtype)
        self.limit = min(max(message.payload if message.edns >= 0 else 0, _SMALLEST), _LARGEST)


def parse(wire: bytes) -> Question | bytes | None:
    """A query as a Question; an answer where it is one that must be turned down; None where nothing must be said:
    to what is no query, and perhaps an answer itself, or two resolvers could keep each other busy for ever."""
    if len(wire) < _HEAD or wire[2] & 0x80:
        return None
    if wire[2] >> 3 & 15:
        return _bare(wire, dns.rcode.NOTIMP)
    counts = [int.from_bytes(wire[at : at + 2], "big") for at in (4, 6, 8, 10)]
    if counts[0] != 1 or counts[1] or counts[2] or counts[3] > 2 or len(wire) > _LARGEST_QUERY:
        return _bare(wire, dns.rcode.FORMERR)
    try:
        message = dns.message.from_wire(wire)
        question = Question(message, wire)
    except Exception:  # whatever a library makes of what a hostile client sends
        return _bare(wire, dns.rcode.FORMERR)
    if question.asked.rdclass != dns.rdataclass.IN or question.kind in _TRANSFERS:
        return _bare(wire, dns.rcode.REFUSED)
    if message.edns > 0:
        return _encoded(_response(question, dns.rcode.BADVERS), question.limit)
    return question


def answer(question: Question, asker: Asker) -> bytes | None:
    """What we know by ourselves, encoded; None where others must be asked."""
    group = asker.group(question.name)
    if group:
        family = {int(dns.rdatatype.A): "ip", int(dns.rdatatype.AAAA): "ip6"}.get(question.kind)
        families = [family] if family else ["ip", "ip6"] if question.kind == dns.rdatatype.ANY else []
        found = [address for each in families for address in group.addresses(each)]
        return _of_ours(question, [_address_record(address) for address in found])
    address = address_asked(question.name)
    if not address:
        return None
    owner = asker.owner(address)
    if owner is None:
        return _encoded(_response(question, dns.rcode.NXDOMAIN), question.limit) if asker.is_near(address) else None
    wanted = question.kind in (int(dns.rdatatype.PTR), int(dns.rdatatype.ANY))
    named = _pointer_records(owner.names[:1], owner.network) if wanted else []
    return _of_ours(question, named)


def refuse(question: Question, why: int, words: str) -> bytes:
    """NXDOMAIN, and why it is not even asked (rule 4)."""
    return _encoded(_response(question, dns.rcode.NXDOMAIN, why, words), question.limit)


def empty(question: Question) -> bytes:
    """That there is nothing of the kind that was asked for."""
    return _encoded(_response(question, dns.rcode.NOERROR), question.limit)


def fail(question: Question, words: str = "") -> bytes:
    """SERVFAIL: it could not be found out."""
    return _encoded(_response(question, dns.rcode.SERVFAIL, NO_SERVER, words), question.limit)


def hides_addresses(question: Question) -> bool:
    """Whether the answer may hold addresses where nobody looks for them: hints of HTTPS and SVCB (RFC 9460)."""
    return question.kind in _NO_ADDRESS


def fit(wire: bytes, limit: int) -> bytes:
    """An answer of others as it is, or, where it is too large, its header and question, marked as cut."""
    if len(wire) <= limit:
        return wire
    end = question_end(wire)
    counts = (1).to_bytes(2, "big") if end > _HEAD else bytes(2)
    return wire[:2] + bytes((wire[2] | 0x02,)) + wire[3:4] + counts + bytes(6) + wire[_HEAD:end]


def question_end(wire: bytes) -> int:
    """Where the first question of a message ends; where none begins if it has none, or is broken."""
    at = _HEAD
    while at < len(wire) and 0 < wire[at] < 64:
        at += wire[at] + 1
    return at + 5 if at + 5 <= len(wire) and wire[at] == 0 and wire[4:6] == b"\0\1" else _HEAD


def address_asked(name: str) -> str:
    """The address that a reverse name stands for: "1.0.30.172.in-addr.arpa", and the same of ip6.arpa (RFC 3596).
    Empty where it is no whole one."""
    labels = name.split(".")
    try:
        if labels[-2:] == ["in-addr", "arpa"] and len(labels) == 6:
            return str(ip_address(".".join(reversed(labels[:4]))))
        if labels[-2:] == ["ip6", "arpa"] and len(labels) == 34 and all(len(each) == 1 for each in labels[:32]):
            return str(ip_address(int("".join(reversed(labels[:32])), 16).to_bytes(16, "big")))
    except ValueError:
        pass
    return ""


def addresses_in(wire: bytes) -> list[tuple[str, int]]:
    """The (address, time to live in seconds) that an answer of others gives for the name that was asked: its own, and
    those of the names it is an alias of (CNAME). Addresses of anything else in it are nobody's. ValueError: broken."""
    try:
        message = dns.message.from_wire(wire, ignore_trailing=True)
    except Exception as error:
        raise ValueError(str(error)) from None
    if not message.question:
        return []
    names = {message.question[0].name}
    for _ in range(len(message.answer)):  # a chain may come in any order
        before = len(names)
        names |= {
            rdata.target
            for rrset in message.answer
            if rrset.rdtype == dns.rdatatype.CNAME and rrset.name in names
            for rdata in rrset
        }
        if len(names) == before:
            break
    return [
        (rdata.address, rrset.ttl)
        for rrset in message.answer
        if rrset.rdtype in (dns.rdatatype.A, dns.rdatatype.AAAA) and rrset.name in names
        for rdata in rrset
    ]


def _response(question: Question, rcode: int, why: int = 0, words: str = "") -> dns.message.Message:
    made = dns.message.make_response(question.message, recursion_available=True, our_payload=_LARGEST)
    made.set_rcode(dns.rcode.Rcode(rcode))
    if why and question.message.edns >= 0:
        option = dns.edns.EDEOption(dns.edns.EDECode.make(why), words or None)
        made.use_edns(0, 0, _LARGEST, options=[option])
        made.set_rcode(dns.rcode.Rcode(rcode))
    return made


def _of_ours(question: Question, records: list[dns.rdata.Rdata]) -> bytes:
    made = _response(question, dns.rcode.NOERROR)
    made.flags |= dns.flags.AA
    # One set for each record: the library shuffles what is in one, and turns are kept in order (rule 6)
    made.answer = [dns.rrset.from_rdata(question.asked.name, 0, record) for record in records]
    return _encoded(made, question.limit)


@lru_cache(4096)  # to parse the text takes as long as all the rest
def _address_record(address: str) -> dns.rdata.Rdata:
    kind = dns.rdatatype.AAAA if ":" in address else dns.rdatatype.A
    return dns.rdata.from_text(dns.rdataclass.IN, kind, address)


def _pointer_records(names: tuple[str, ...], network: str) -> list[dns.rdata.Rdata]:
    """Names that are too long for a label of 63 bytes are none."""
    try:
        targets = [dns.name.Name((name.encode(), network.encode(), b"")) for name in names]
    except (dns.exception.DNSException, ValueError):
        return []
    return [dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.PTR, target.to_text()) for target in targets]


def _encoded(message: dns.message.Message, limit: int) -> bytes:
    """As bytes, cut to what there is room for; by TCP the caller gives all the room there is."""
    while True:
        try:
            return message.to_wire(max_size=limit)
        except dns.exception.TooBig:
            message.flags |= dns.flags.TC
            message.answer = message.answer[: len(message.answer) // 2]


def _bare(wire: bytes, rcode: int) -> bytes:
    """A header alone, for a query that could not be read to its end."""
    return wire[:2] + bytes((0x80 | wire[2] & 0x79, 0x80 | rcode)) + bytes(8)
