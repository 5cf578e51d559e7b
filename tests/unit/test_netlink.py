"""The netlink client: what it understands of an answer, with the kernel's own answers and pyroute2 as the oracle."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator

import pytest
from pyroute2 import IPRoute

from nanocontainer.kernel import netlink
from nanocontainer.kernel.netlink import Links, address_bytes, mac_bytes


class Scripted:
    """A socket whose answers are given: each a list of datagrams, made from the request's sequence number."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.sent: list[bytes] = []
        self.waiting: list[bytes] = []

    def send(self, data: bytes) -> int:
        self.sent.append(data)
        make = self.answers.pop(0)
        self.waiting = make(struct.unpack_from("=I", data, 8)[0])  # type: ignore[operator]
        return len(data)

    def recv(self, _: int) -> bytes:
        return self.waiting.pop(0)

    def close(self) -> None: ...


def message(kind: int, sequence: int, body: bytes, flags: int = 0) -> bytes:
    data = struct.pack("=IHHII", 16 + len(body), kind, flags, sequence, 0) + body
    return data + bytes(-len(data) % 4)


def ack(sequence: int) -> bytes:
    return message(2, sequence, struct.pack("=i", 0) + bytes(16), 0x100)


def scripted(monkeypatch: pytest.MonkeyPatch, *answers: object) -> tuple[Links, Scripted]:
    sock = Scripted(*answers)
    monkeypatch.setattr(Links, "_open", lambda self, protocol: sock)
    return Links(), sock


@pytest.fixture
def oracle() -> Iterator[IPRoute]:
    with IPRoute() as ipr:
        yield ipr


def test_an_error_has_the_operation_and_the_kernels_words(monkeypatch: pytest.MonkeyPatch) -> None:
    text = b"Address already assigned\0"
    tlv = struct.pack("=HH", 4 + len(text), 1) + text
    body = struct.pack("=i", -errno.EEXIST) + bytes(16) + tlv
    links, _ = scripted(monkeypatch, lambda n: [message(2, n, body, 0x100 | 0x200)])
    with pytest.raises(OSError, match=r"^\[Errno 17\] add address 10.0.0.1/8 to 3: File exists \(Address already ass"):
        links.add_address(3, "10.0.0.1", 8)


def test_an_error_that_repeats_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    request = struct.pack("=IHHII", 22, 20, 0, 1, 0) + b"123456"
    tlv = struct.pack("=HH", 6, 1) + b"x\0"
    body = struct.pack("=i", -errno.EINVAL) + request + bytes(2) + tlv
    links, _ = scripted(monkeypatch, lambda n: [message(2, n, body, 0x200)])
    with pytest.raises(OSError, match=r"Invalid argument \(x\)"):
        links.add_address(3, "10.0.0.1", 8)


def test_answers_to_older_requests_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    old = message(2, 0, struct.pack("=i", -errno.EPERM) + bytes(16))
    links, sock = scripted(monkeypatch, lambda n: [old + old, old + ack(n)])
    links.set_link(5, up=True)
    assert sock.waiting == []


def test_an_overtaken_dump_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def address(last: int) -> bytes:
        return struct.pack("=BBBBI", 2, 8, 0, 0, 7) + struct.pack("=HH", 8, 2) + bytes([10, 0, 0, last])

    done = struct.pack("=i", 0)
    links, sock = scripted(
        monkeypatch,
        lambda n: [message(20, n, address(1), 0x10), message(3, n, done, 0x10)],
        lambda n: [message(20, n, address(2)) + message(20, n, address(3)), message(3, n, done)],
    )
    assert [found.address for found in links.addresses()] == ["10.0.0.2", "10.0.0.3"]
    assert len(sock.sent) == 2


def test_a_dump_that_fails_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    links, _ = scripted(monkeypatch, lambda n: [message(3, n, struct.pack("=i", -errno.ENOMEM))])
    with pytest.raises(OSError, match="list routes: Cannot allocate memory"):
        links.routes()


def test_a_missing_link_is_none_and_its_index_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(sequence: int) -> list[bytes]:
        return [message(2, sequence, struct.pack("=i", -errno.ENODEV) + bytes(16), 0x100)]

    links, _ = scripted(monkeypatch, gone, gone, gone)
    assert links.link("nothing") is None
    links.delete_link("nothing")
    with pytest.raises(OSError, match="look up nothing: No such device"):
        links.index("nothing")


def test_links_as_the_oracle_sees_them(oracle: IPRoute) -> None:
    with Links() as links:
        found = {link.index: link for link in links.links()}
        assert links.link("lo") == found[netlink.LOOPBACK]
        assert links.index("lo") == netlink.LOOPBACK
    for link in oracle.get_links():
        ours = found[link["index"]]
        assert ours.name == link.get_attr("IFLA_IFNAME")
        assert ours.up == bool(link["flags"] & 1)
        assert ours.mtu == link.get_attr("IFLA_MTU")
        assert ours.master == (link.get_attr("IFLA_MASTER") or 0)
        assert ours.mac == (link.get_attr("IFLA_ADDRESS") or "")


def test_addresses_and_routes_as_the_oracle_sees_them(oracle: IPRoute) -> None:
    for _ in range(20):  # others may be changing this host's network just now
        with Links() as links:
            addresses, routes = links.addresses(), links.routes()
            theirs = {
                (each["index"], each.get_attr("IFA_LOCAL") or each.get_attr("IFA_ADDRESS"), each["prefixlen"])
                for each in oracle.get_addr()
            }
            expected = {
                (
                    each.get_attr("RTA_DST") or "",
                    each["dst_len"],
                    each.get_attr("RTA_GATEWAY") or "",
                    each.get_attr("RTA_OIF") or 0,
                )
                for family in (2, 10)
                for table in (254, 255)
                for each in oracle.get_routes(family=family, table=table)
            }
            if (addresses, routes) == (links.addresses(), links.routes()):
                break
    assert {(each.index, each.address, each.prefix) for each in addresses} == theirs
    assert expected
    assert {(each.destination, each.prefix, each.gateway, each.index) for each in routes} == expected


def test_the_route_to_ourselves() -> None:
    with Links() as links:
        route = links.route_to("127.0.0.1")
        assert route is not None
        assert (route.destination, route.kind, route.index) == ("127.0.0.1", "local", netlink.LOOPBACK)


def test_addresses_as_bytes() -> None:
    assert mac_bytes("02:42:ac:1e:00:02") == bytes.fromhex("0242ac1e0002")
    for bad in ("", "02:42:ac:1e:00", "02-42-ac-1e-00-02", "02:42:ac:1e:00:0x"):
        with pytest.raises(ValueError):
            mac_bytes(bad)
    assert address_bytes("10.0.0.1") == (2, bytes([10, 0, 0, 1]))
    assert address_bytes("::1") == (10, bytes(15) + b"\x01")
    with pytest.raises(OSError):
        address_bytes("10.0.0")
