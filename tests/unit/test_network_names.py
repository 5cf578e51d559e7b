"""hosts, resolv.conf and hostname as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanocontainer.container.spec import Spec
from nanocontainer.errors import InvalidInput
from nanocontainer.network import names
from nanocontainer.network.allot import Allotment, Endpoint
from nanocontainer.network.model import Network

NETWORK = Network("bridge", "1" * 64, "nano0", "172.30.0.0/16", "172.30.0.1")
ENDPOINT = Endpoint(NETWORK, "eth0", "veth0", "02:42:ac:1e:00:02", "172.30.0.2")
ENDPOINT6 = ENDPOINT.replace(network=NETWORK.replace(subnet6="fd00:1::/64", gateway6="fd00:1::1"), ip6="fd00:1::2")
BRIDGE = Allotment("bridge", endpoints=(ENDPOINT,))


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The host's files, as a table."""
    table: dict[str, str] = {}
    monkeypatch.setattr(names, "_read", lambda path: table.get(path, ""))
    return table


def test_hosts_of_a_container() -> None:
    text = names.container_hosts("web", "", ["172.30.0.2", "fd00::2"], [("db", "10.0.0.9")])
    lines = text.splitlines()
    assert lines[0] == "127.0.0.1\tlocalhost"
    assert lines[-3:] == ["10.0.0.9\tdb", "172.30.0.2\tweb", "fd00::2\tweb"]
    assert text.endswith("\n")


def test_a_domain_comes_before_the_short_name() -> None:
    assert names.container_hosts("web", "example.org", ["172.30.0.2"]).endswith("172.30.0.2\tweb.example.org web\n")


def test_without_an_address_the_name_is_still_found() -> None:
    assert names.container_hosts("web", "", ()).endswith("127.0.1.1\tweb\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("db:10.0.0.9", ("db", "10.0.0.9")),
        ("db=10.0.0.9", ("db", "10.0.0.9")),
        ("db:::1", ("db", "::1")),
        ("db:[fe80::1]", ("db", "fe80::1")),
        ("db=fd00::5", ("db", "fd00::5")),
        ("host.docker.internal:host-gateway", ("host.docker.internal", "172.30.0.1")),
    ],
)
def test_added_hosts(text: str, expected: tuple[str, str]) -> None:
    assert names.extra_host(text, ["172.30.0.1"]) == [expected]


def test_the_host_is_named_by_both_families() -> None:
    assert names.extra_host("up:host-gateway", ["172.30.0.1", "fd00::1"]) == [("up", "172.30.0.1"), ("up", "fd00::1")]
    assert names.extra_host("up:host-gateway") == [("up", "127.0.0.1")]


@pytest.mark.parametrize("text", ["", "db", "db:", ":10.0.0.1", "db:10.0.0", "db:nowhere", "d b:10.0.0.1", "=1.2.3.4"])
def test_bad_added_hosts(text: str) -> None:
    with pytest.raises(InvalidInput):
        names.extra_host(text, ["172.30.0.1"])


def test_resolvers_on_loopback_are_left_out() -> None:
    text = "# a comment\nnameserver 127.0.0.1\nnameserver 10.1.1.1\nnameserver ::1\nnameserver fd00::1\n"
    assert names.resolv_conf(text) == "nameserver 10.1.1.1\n"
    assert names.resolv_conf(text, ipv6=True) == "nameserver 10.1.1.1\nnameserver fd00::1\n"
    near = "nameserver fe80::1%eth0\nnameserver 10.1.1.1\n"
    assert names.resolv_conf(near, ipv6=True) == "nameserver 10.1.1.1\n"


def test_all_networks_and_families_are_in_hosts(host: dict[str, str]) -> None:
    back = ENDPOINT.replace(interface="eth1", ip="10.8.0.2")
    found = names.files(Spec(image="x", hostname="h"), Allotment("bridge", endpoints=(ENDPOINT6, back)))
    assert found["hosts"].endswith("172.30.0.2\th\nfd00:1::2\th\n10.8.0.2\th\n")
    shared = Allotment("container", address="10.9.0.7")
    assert names.files(Spec(image="x", hostname="h"), shared)["hosts"].endswith("10.9.0.7\th\n")


def test_public_resolvers_where_none_is_left() -> None:
    assert names.resolv_conf("nameserver 127.0.0.1\n") == "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"
    assert names.resolv_conf("") == "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"


def test_search_and_options_are_kept_and_the_last_search_counts() -> None:
    text = "domain old.example\nsearch a.example b.example\noptions ndots:2\noptions edns0\nnameserver 10.1.1.1\n"
    assert names.resolv_conf(text).splitlines() == [
        "nameserver 10.1.1.1",
        "search a.example b.example",
        "options ndots:2 edns0",
    ]


def test_what_was_asked_for_replaces_the_hosts() -> None:
    text = "search a.example\noptions ndots:2\nnameserver 10.1.1.1\n"
    given = names.resolv_conf(text, servers=["9.9.9.9", "127.0.0.1"], search=["x.example"], options=["timeout:1"])
    assert given.splitlines() == [
        "nameserver 9.9.9.9",
        "nameserver 127.0.0.1",
        "search x.example",
        "options timeout:1",
    ]
    assert names.resolv_conf(text, search=["."]).splitlines() == ["nameserver 10.1.1.1", "options ndots:2"]


def test_bad_resolvers_and_domains() -> None:
    with pytest.raises(InvalidInput, match="--dns"):
        names.resolv_conf("", servers=["one.one.one.one"])
    with pytest.raises(InvalidInput):
        names.resolv_conf("", search=["a\nnameserver 6.6.6.6"])


def test_with_the_hosts_network_all_is_the_hosts(host: dict[str, str]) -> None:
    host["/etc/hosts"] = "127.0.0.1 localhost\n10.2.2.2 printer"
    host["/etc/resolv.conf"] = "# stub\nnameserver 127.0.0.53\n"
    found = names.files(Spec(image="x", hostname="pc", extra_hosts=("db:10.0.0.9",)), Allotment("host"))
    assert found == {
        "hostname": "pc\n",
        "hosts": "127.0.0.1 localhost\n10.2.2.2 printer\n10.0.0.9\tdb\n",
        "resolv.conf": "# stub\nnameserver 127.0.0.53\n",
    }


def test_the_servers_behind_systemds_stub(host: dict[str, str]) -> None:
    host["/etc/resolv.conf"] = "nameserver 127.0.0.53\noptions edns0 trust-ad\n"
    host["/run/systemd/resolve/resolv.conf"] = "nameserver 192.0.2.53\nsearch lan\n"
    found = names.files(Spec(image="x", hostname="h", extra_hosts=("up:host-gateway",)), BRIDGE)
    assert found["resolv.conf"] == "nameserver 192.0.2.53\nsearch lan\n"
    assert "172.30.0.1\tup\n172.30.0.2\th\n" in found["hosts"]


@given(st.text(), st.booleans())
def test_any_resolv_conf_is_made_usable(text: str, shared: bool) -> None:
    found = names.nameservers(names.resolv_conf(text, shared=shared))
    assert shared or found
    assert shared or not any(server.startswith("127.") or ":" in server for server in found)
