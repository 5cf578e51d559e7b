"""Arithmetic of addresses, with the standard library's ipaddress as the oracle."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanocontainer.errors import InvalidInput
from nanocontainer.network.addresses import (
    CANDIDATES,
    V4,
    V6,
    Subnet,
    check_mac,
    choose,
    enclosing,
    mac_of,
    number6_of,
    number_of,
    parse,
    subnet_of,
    text_of,
    unique_local,
)

numbers = st.integers(0, 2**32 - 1)
networks = st.builds(
    lambda number, prefix: ipaddress.ip_network((number, prefix), strict=False), numbers, st.integers(0, 32)
)


numbers6 = st.integers(0, 2**128 - 1)
networks6 = st.builds(
    lambda number, prefix: ipaddress.IPv6Network((number, prefix), strict=False), numbers6, st.integers(0, 128)
)


@given(numbers6)
def test_ipv6_text_and_number(number: int) -> None:
    text = text_of(number, V6)
    assert ipaddress.IPv6Address(text) == ipaddress.IPv6Address(number)
    assert number6_of(text) == number
    assert number6_of(str(ipaddress.IPv6Address(number).exploded)) == number
    assert parse(text) == (number, V6)


@given(networks6, st.one_of(networks, networks6))
def test_ipv6_subnets(one: ipaddress.IPv6Network, other: ipaddress.IPv4Network | ipaddress.IPv6Network) -> None:
    ours, theirs = subnet_of(str(one)), subnet_of(str(other))
    assert ipaddress.ip_network(str(ours)) == one
    assert text_of(ours.last, V6) == text_of(int(one.broadcast_address), V6)
    same = isinstance(other, ipaddress.IPv6Network)
    assert ours.overlaps(theirs) == theirs.overlaps(ours) == (same and one.overlaps(other))
    assert ours.covers(theirs) == (same and other.subnet_of(one))  # type: ignore[arg-type]
    assert enclosing(ours.last, ours.prefix, V6) == ours


@given(st.binary(min_size=7, max_size=7))
def test_unique_local_subnets(random: bytes) -> None:
    network = ipaddress.IPv6Network(str(unique_local(random)))
    assert network.subnet_of(ipaddress.IPv6Network("fd00::/8"))
    assert (network.prefixlen, network.network_address.packed[1:8]) == (64, random)


def test_families_are_told_apart() -> None:
    assert parse("0.0.0.1") == (1, V4)
    assert parse("::1") == (1, V6)
    for bad in ("", "fd00::1%eth0", "fd00::/64", "::ffff:1.2.3.4.5", "1::2::3", "[::1]"):
        with pytest.raises(InvalidInput):
            parse(bad)
    with pytest.raises(InvalidInput, match="fd00::/64 is meant"):
        subnet_of("fd00::1/64")


@given(numbers)
def test_text_and_number(number: int) -> None:
    text = str(ipaddress.IPv4Address(number))
    assert text_of(number) == text
    assert number_of(text) == number


@given(st.text(max_size=20))
def test_what_is_no_address(text: str) -> None:
    try:
        expected = int(ipaddress.IPv4Address(text))
    except ValueError:
        with pytest.raises(InvalidInput):
            number_of(text)
    else:
        assert number_of(text) == expected


@given(networks, networks)
def test_subnets(one: ipaddress.IPv4Network, other: ipaddress.IPv4Network) -> None:
    ours, theirs = subnet_of(str(one)), subnet_of(str(other))
    assert str(ours) == str(one)
    assert text_of(ours.last) == str(one.broadcast_address)
    assert ours.overlaps(theirs) == one.overlaps(other)
    assert (theirs.first in ours) == (other.network_address in one)


@given(
    st.one_of(st.text(max_size=24), networks.map(lambda network: f"{network.broadcast_address}/{network.prefixlen}"))
)
def test_what_is_no_subnet(text: str) -> None:
    try:
        network = ipaddress.ip_network(text)
        fine = text.partition("/")[2].isdecimal()
    except ValueError:
        fine = False
    if fine:
        assert str(subnet_of(text)) == str(network)
    else:
        with pytest.raises(InvalidInput):
            subnet_of(text)


def test_a_subnet_with_host_bits_names_the_right_one() -> None:
    with pytest.raises(InvalidInput, match=r"172\.30\.0\.0/16 is meant"):
        subnet_of("172.30.5.1/16")


def test_macs() -> None:
    assert mac_of(number_of("172.30.0.2")) == "02:42:ac:1e:00:02"
    assert check_mac("02:42:AC:1E:00:02") == "02:42:ac:1e:00:02"
    for bad in ("", "02:42:ac:1e:00", "02:42:ac:1e:00:zz", "01:00:5e:00:00:01", "0242ac1e0002", "02:42:ac:1e:00:02:03"):
        with pytest.raises(InvalidInput):
            check_mac(bad)


def test_the_candidates_are_private_and_do_not_overlap() -> None:
    private = [ipaddress.ip_network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")]
    for index, candidate in enumerate(CANDIDATES):
        network = ipaddress.IPv4Network(str(candidate))
        assert any(network.subnet_of(range) for range in private)
        assert not any(candidate.overlaps(other) for other in CANDIDATES[:index])


@given(st.lists(networks.filter(lambda network: network.prefixlen > 7), max_size=6), st.integers(0, 100))
def test_a_chosen_subnet_is_free(taken: list[ipaddress.IPv4Network], start: int) -> None:
    busy = [subnet_of(str(network)) for network in taken]
    found = choose(busy, start)
    free = [candidate for candidate in CANDIDATES if not any(candidate.overlaps(other) for other in busy)]
    assert (found in free) if free else found is None


def test_choosing_starts_where_it_is_told_and_goes_round() -> None:
    assert choose([], 0) == CANDIDATES[0]
    assert choose([], 5) == CANDIDATES[5]
    assert choose([CANDIDATES[-1]], len(CANDIDATES) - 1) == CANDIDATES[0]
    assert choose([Subnet(0, 0)]) is None
