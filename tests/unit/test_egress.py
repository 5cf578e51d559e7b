"""Rules of --allow-out: what is read, what is refused, and that a policy in its short form allows the same."""

from __future__ import annotations

import ipaddress

import dns.name
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanocontainer.errors import InvalidInput
from nanocontainer.network.egress import Policy, Rule, is_public, parse, rule
from nanocontainer.network.egress_rules import Leg, admit, base, enforce, keys_of, release
from nanocontainer.network.enforce import EnforceEgress, elements_of, link_local_of

READ = {
    "API.Example.com.": "api.example.com",
    "api.example.com:443": "api.example.com:443",
    "api.example.com:443/TCP": "api.example.com:443",
    "*.example.com:443/udp": "*.example.com:443/udp",
    "*": "*",
    "db": "db",
    "_sip.example.com": "_sip.example.com",
    "bücher.de:443": "xn--bcher-kva.de:443",
    "192.0.2.1": "192.0.2.1",
    "192.0.2.1/32:53/udp": "192.0.2.1:53/udp",
    "10.0.0.0/8:5432": "10.0.0.0/8:5432",
    "0.0.0.0/0": "0.0.0.0/0",
    "2001:DB8::1": "2001:db8::1",
    "[2001:db8::1]:443": "[2001:db8::1]:443",
    "[2001:db8::/32]:53/udp": "[2001:db8::/32]:53/udp",
    "2001:db8::/32": "2001:db8::/32",
}
REFUSED = (
    "", " ", ".", "a..b", "-a.com", "a b.com", "ex*.com", "*.", "*.*.com", "1.2.3", "256.1.1.1", "x:", "x:0",
    "x:65536", "x:http", "x/tcp", "x:443/icmp", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/x:1", "[::1",
    "[x]:1", "[::1]x", "[::1]:", "::1/129", "2001:db8::1/32", "::ffff:1.2.3.4", "https://example.com",
    "a" * 64 + ".com", "a.com\nflush", 'a".com', "a;b", "a{b}", "ä" * 300,
)  # fmt: skip


@pytest.mark.parametrize("text", READ)
def test_a_rule_is_read(text: str) -> None:
    assert str(rule(text)) == READ[text]
    assert rule(READ[text]) == rule(text)


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_rule(text: str) -> None:
    with pytest.raises(InvalidInput, match="invalid --allow-out"):
        parse((text,))


def test_none_stands_alone() -> None:
    assert parse(("none",)) == Policy() and parse(("none", "none")).texts == ("none",)
    with pytest.raises(InvalidInput, match="none allows nothing"):
        parse(("none,a.com",))
    with pytest.raises(InvalidInput):
        parse(())


def test_what_a_name_fits() -> None:
    policy = parse(("a.com:443, *.b.com:80", "c.com"))
    for name, fits in {
        "a.com": True, "x.a.com": False, "b.com": False, "x.b.com": True, "y.x.b.com": True, "xb.com": False, "": False,
    }.items():  # fmt: skip
        assert bool(policy.names(name)) is fits
    assert [one.port for one in policy.names("x.b.com")] == [80]
    assert parse(("*",)).names("anything.at.all")


def test_a_name_that_is_no_host_name_has_no_rules() -> None:
    """The container asks, and a wildcard record answers whatever was asked: its bytes must not become nft's words."""
    policy = parse(["*", "*.example.com"])
    for label in (b'x",0x08080808}#', b"x y", b"x\n", b"x.example", b"x;", b"x\\", b"\xff"):
        name = dns.name.Name((label, b"example", b"com", b"")).to_text(omit_final_dot=True).lower()
        assert not policy.names(name), name
    assert len(policy.names("_a-1.example.com")) == 1  # "*" covers the other one


def test_the_short_form() -> None:
    assert parse(("10.0.0.0/8,10.1.0.0/16,10.1.2.3:80,11.0.0.0/8:80",)).texts == ("10.0.0.0/8", "11.0.0.0/8:80")
    assert parse(("*.a.com,x.a.com:443,a.com:443,a.com:443",)).texts == ("*.a.com", "a.com:443")


_PORT = st.sampled_from(("", ":53", ":53/udp", ":80", ":80/udp"))
_NEAR = st.builds(
    lambda n, p: ipaddress.ip_network((0x0A000000 | n, p), strict=False), st.integers(0, 255), st.integers(24, 32)
)


@given(st.lists(st.tuples(_NEAR, _PORT), min_size=1, max_size=8), st.integers(0, 255), st.sampled_from((53, 80, 99)))
def test_the_short_form_allows_the_same(wishes: list[tuple[ipaddress.IPv4Network, str]], last: int, port: int) -> None:
    address = ipaddress.ip_address(0x0A000000 | last)
    policy = parse([f"{net}{behind}" for net, behind in wishes])
    for protocol in ("tcp", "udp"):
        asked = any(
            address in net and behind in ("", f":{port}" + ("/udp" if protocol == "udp" else ""))
            for net, behind in wishes
        )
        allowed = any(
            not one.port or (one.port, one.protocol) == (port, protocol) for one in policy.places(address.packed)
        )
        assert asked is allowed
    assert parse(policy.texts) == policy


@given(st.text(max_size=40))
def test_any_text_is_a_rule_or_an_error(text: str) -> None:
    """And nothing of it but letters, digits and .-_:/*[] comes to nft."""
    try:
        policy = parse((text,))
    except InvalidInput:
        return
    for said in policy.texts:
        assert set(said) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-_:/*[]")
        assert parse((said,)).texts == (said,)


@given(
    st.one_of(
        st.integers(0, (1 << 32) - 1).map(ipaddress.IPv4Address),
        st.integers(0, (1 << 24) - 1).map(lambda n: ipaddress.IPv4Address(n << 8)),
        st.integers(0, (1 << 128) - 1).map(ipaddress.IPv6Address),
    )
)
def test_what_is_not_global_for_python_is_not_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    documentation = ("192.0.2.", "198.51.100.", "203.0.113.", "2001:", "3fff:", "5f00", "64:ff9b")  # lead nowhere
    if is_public(address.packed) and not address.is_global:
        assert str(address).startswith(documentation), address


@pytest.mark.parametrize(
    "text", ["127.0.0.1", "10.1.2.3", "172.31.255.255", "192.168.0.1", "169.254.169.254", "100.100.100.200", "0.0.0.0",
             "224.0.0.251", "255.255.255.255", "::", "::1", "::ffff:8.8.8.8", "fe80::1", "fd00:ec2::254", "ff02::1",
             "64:ff9b::a9fe:a9fe", "64:ff9b::7f00:1", "2002:7f00:1::", "2001:0:1::"],
)  # fmt: skip
def test_where_no_name_leads(text: str) -> None:
    assert not is_public(ipaddress.ip_address(text).packed)
    assert is_public(ipaddress.ip_address("64:ff9b::808:808").packed) and is_public(bytes((8, 8, 8, 8)))


LEG = Leg("nano0", ("172.30.0.2",), ("fd00::2", "fe80::42:acff:fe1e:2"), "172.30.0.1", "fd00::1",
          "172.30.0.0/16", "fd00::/64")  # fmt: skip


def test_the_text_of_a_policy_names_all_it_takes_back() -> None:
    id = "0123456789abcdef" * 4
    text = enforce("t", id, parse(("a.com:443", "b.com", "10.0.0.0/8", "10.1.0.0/16:80", "[2001:db8::1]:443")), [LEG])
    back = release("t", id, keys_of([LEG]), [LEG])
    for line in text.splitlines():
        words = line.split(" {")[0].split()
        if words[:2] == ["add", "set"]:
            assert f"delete set {' '.join(words[2:])}\n" in back
        if words[:2] == ["add", "element"]:
            assert line.replace("add ", "delete ", 1).replace(f" : goto to_{id[:12]}", "") in back
    assert f"delete chain inet t to_{id[:12]}" in back
    assert "policy accept" in base("t")  # of those without a policy; those with one end in a chain that refuses
    assert text.index("goto refuse") > text.index("jump near")


def test_an_admission() -> None:
    policy = parse(("a.com:443", "b.com"))
    text = admit("t", "0" * 64, policy, "a.com", [("192.0.2.1", 5)])
    assert 'add element inet t fresh4_000000000000 { 192.0.2.1 . tcp . 443 timeout 90s comment "a.com" }' in text
    assert "add element inet t open4_000000000000 { 192.0.2.1 . tcp . 443 timeout 432000s" in text
    text = admit("t", "0" * 64, policy, "b.com", [("2001:db8::1", 1 << 40)])
    assert "any6_000000000000 { 2001:db8::1 timeout 86430s" in text and "fresh" not in text
    assert admit("t", "0" * 64, policy, "a.org", [("192.0.2.1", 5)]) == ""


def test_elements_as_nft_lists_them() -> None:
    said = (
        "table inet t {\n\tset x {\n\t\ttype a\n\t\telements = { 1.2.3.4 . tcp . 443 timeout 30s expires 2s comment "
        '"a.com",\n\t\t\t     1.2.3.5 . udp . 53 counter packets 1 bytes 2 timeout 1d expires 2h }\n\t}\n}\n'
    )
    first, second = elements_of(said)
    assert (first.key, first.comment, first.packets, first.expires) == ("1.2.3.4 . tcp . 443", "a.com", 0, 2.0)
    assert (second.key, second.comment, second.packets, second.expires) == ("1.2.3.5 . udp . 53", "", 1, 7200.0)
    assert elements_of("table inet t {\n\tset x {\n\t\ttype a\n\t}\n}\n") == []


def test_the_step_in_words() -> None:
    step = EnforceEgress("t", "0" * 64, ("a.com:443", "10.0.0.0/8"), (LEG,), "/nowhere")
    assert "a.com:443, 10.0.0.0/8 (names: the addresses" in step.explain() and "nft(8)" in step.explain()
    assert "getent ahosts a.com" in step.shell() and step.undone()
    assert EnforceEgress.from_dict(step.as_dict()) == step
    assert "nothing but" in step.replace(allowed=("none",)).explain()
    assert link_local_of("02:42:ac:1e:00:02") == "fe80::42:acff:fe1e:2"
    assert Rule(name="a").family == 0
