"""Claims by symlink: who gets what, also when many want it at once."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from nanocontainer.errors import Conflict, InvalidInput
from nanocontainer.network import leases
from nanocontainer.network.model import Network
from nanocontainer.paths import FileLock, claim, owner_of, release

NETWORK = Network("net", "1" * 64, "nano0", "10.9.0.0/16", "10.9.0.1")
TINY = Network("net", "1" * 64, "nano0", "10.9.0.0/29", "10.9.0.1")


def everybody(_: str) -> bool:
    return True


def nobody(_: str) -> bool:
    return False


def in_processes(count: int, work: Callable[[int], None]) -> None:
    """Run work(0) … work(count - 1) in so many processes at once; an exception in one of them fails the test."""
    start, go = os.pipe()
    children = []
    for index in range(count):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.close(go)
                os.read(start, 1)  # end of file for all at once
                work(index)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        children.append(pid)
    os.close(start)
    os.close(go)
    codes = [os.waitpid(pid, 0)[1] for pid in children]
    assert codes == [0] * count


def test_a_claim_is_taken_once(tmp_path: Path) -> None:
    path = str(tmp_path / "ports" / "tcp-any-80")
    assert claim(path, "one", everybody) == ""
    assert claim(path, "one", everybody) == ""
    assert claim(path, "two", everybody) == "one"
    assert owner_of(path) == "one"
    assert not release(path, "two")
    assert release(path, "one")
    assert not release(path, "one")
    assert claim(path, "two", everybody) == ""


def test_a_claim_of_nobody_is_taken_over(tmp_path: Path) -> None:
    path = str(tmp_path / "claim")
    assert claim(path, "dead", everybody) == ""
    assert claim(path, "new", nobody) == ""
    assert owner_of(path) == "new"
    assert not release(path, "dead")
    assert owner_of(path) == "new"


def test_addresses_are_given_lowest_first(tmp_path: Path) -> None:
    directory = str(tmp_path / "leases")
    got = [leases.claim_address(directory, NETWORK, f"c{n}", everybody) for n in range(3)]
    assert got == ["10.9.0.2", "10.9.0.3", "10.9.0.4"]
    release(f"{directory}/10.9.0.3", "c1")
    assert leases.claim_address(directory, NETWORK, "c9", everybody) == "10.9.0.3"


def test_a_gateway_in_the_middle_is_never_given(tmp_path: Path) -> None:
    network = TINY.replace(gateway="10.9.0.4")
    got = [leases.claim_address(str(tmp_path), network, f"c{n}", everybody) for n in range(5)]
    assert got == ["10.9.0.5", "10.9.0.6", "10.9.0.1", "10.9.0.2", "10.9.0.3"]


def test_a_full_network_says_so_and_takes_over_what_is_stale(tmp_path: Path) -> None:
    directory = str(tmp_path)
    got = {leases.claim_address(directory, TINY, f"c{n}", everybody) for n in range(5)}
    assert len(got) == 5
    with pytest.raises(Conflict, match="no free address"):
        leases.claim_address(directory, TINY, "late", everybody)
    stale = leases.claim_address(directory, TINY, "late", lambda id: id != "c3")
    assert owner_of(f"{directory}/{stale}") == "late"
    assert stale == "10.9.0.5"


def test_the_ipv6_address_has_the_number_of_the_other(tmp_path: Path) -> None:
    six = NETWORK.replace(subnet6="fd00:9::/64", gateway6="fd00:9::1")

    def take(id: str, beside: str, wanted: str = "") -> str:
        return leases.claim_address6(str(tmp_path), six, id, everybody, wanted, beside=beside)

    assert take("c1", "10.9.0.7") == "fd00:9::7"
    assert take("c2", "10.9.1.7") == "fd00:9::107"
    assert take("c3", "10.9.0.7") == "fd00:9::2"  # it is taken: the lowest
    assert take("c4", "10.9.0.1") == "fd00:9::3"  # the gateway's never
    assert take("c5", "10.9.0.9", "fd00:9:0:0::AB") == "fd00:9::ab"  # a claim has one name
    with pytest.raises(Conflict, match="fd00:9::ab is in use"):
        take("c6", "10.9.0.10", "fd00:9::ab")
    for bad in ("fd00:9::", "fd00:9::1", "fd00:8::5", "10.9.0.5", "fd00:9::5%eth0"):
        with pytest.raises(InvalidInput):
            take("c6", "10.9.0.10", bad)


def test_addresses_come_from_the_range_and_none_is_kept_for_others(tmp_path: Path) -> None:
    network = TINY.replace(
        subnet="10.9.0.0/24", ip_range="10.9.0.8/30", aux={"router": "10.9.0.9", "switch": "fd00::9"},
        subnet6="fd00::/64", gateway6="fd00::1", ip_range6="fd00::100/126",
    )  # fmt: skip
    directory = str(tmp_path)
    got = [leases.claim_address(directory, network, f"c{n}", everybody) for n in range(3)]
    assert got == ["10.9.0.8", "10.9.0.10", "10.9.0.11"]
    with pytest.raises(Conflict, match=r"10\.9\.0\.8/30"):
        leases.claim_address(directory, network, "c4", everybody)
    assert leases.claim_address(directory, network, "c4", everybody, "10.9.0.200") == "10.9.0.200"
    with pytest.raises(InvalidInput, match="--aux-address"):
        leases.claim_address(directory, network, "c5", everybody, "10.9.0.9")
    assert leases.claim_address6(directory, network, "c1", everybody, beside="10.9.0.8") == "fd00::100"
    assert leases.claim_address6(directory, network, "c2", everybody, "fd00::8") == "fd00::8"
    with pytest.raises(InvalidInput):
        leases.claim_address6(directory, network, "c3", everybody, "fd00::9")


def test_a_wanted_address(tmp_path: Path) -> None:
    directory, names = str(tmp_path / "leases"), tmp_path / "names"
    names.mkdir()
    os.symlink("c1", names / "db")
    assert leases.claim_address(directory, NETWORK, "c1", everybody, "10.9.7.7") == "10.9.7.7"
    with pytest.raises(Conflict, match="container db has it"):
        leases.claim_address(directory, NETWORK, "c2", everybody, "10.9.7.7", str(names))
    assert leases.claim_address(directory, NETWORK, "c2", nobody, "10.9.7.7") == "10.9.7.7"
    for bad in ("10.8.0.2", "10.9.0.1", "10.9.0.0", "10.9.255.255", "10.9.0", "fd00::1"):
        with pytest.raises(InvalidInput):
            leases.claim_address(directory, NETWORK, "c3", everybody, bad)


def test_many_at_once_get_different_addresses(tmp_path: Path) -> None:
    directory = str(tmp_path / "leases")

    def work(index: int) -> None:
        mine = [leases.claim_address(directory, NETWORK, f"c{index}", everybody) for _ in range(20)]
        assert len(set(mine)) == 20
        assert all(owner_of(f"{directory}/{address}") == f"c{index}" for address in mine)

    in_processes(16, work)
    assert len(os.listdir(directory)) == 320
    assert f"10.9.{320 // 256}.{1 + 320 % 256}" in os.listdir(directory)  # without a gap


def test_only_one_takes_a_stale_claim_over(tmp_path: Path) -> None:
    """Each round leaves a dead owner's claim to 16 processes. The winner leaves a file; nobody may be displaced."""
    won = tmp_path / "won"
    won.mkdir()
    rounds = 60
    for number in range(rounds):
        os.symlink("dead", tmp_path / f"claim{number}")

    def work(index: int) -> None:
        for number in range(rounds):
            path = f"{tmp_path}/claim{number}"
            if claim(path, f"c{index}", lambda id: id != "dead") == "":
                os.close(os.open(won / str(number), os.O_CREAT | os.O_EXCL))  # a second winner fails here
                assert owner_of(path) == f"c{index}"

    in_processes(16, work)
    assert len(os.listdir(won)) == rounds


def test_what_is_held_is_held_alone(tmp_path: Path) -> None:
    """16 processes claim and release one port over and over, while dead claims are swept: the owner is always alone."""
    path, holder = f"{tmp_path}/ports/udp-any-53", f"{tmp_path}/holder"

    def work(index: int) -> None:
        me, held = f"c{index}", 0
        while held < 30:
            if claim(path, me, lambda id: id != "dead"):
                release(path, "dead")
                continue
            os.close(os.open(holder, os.O_CREAT | os.O_EXCL))
            assert owner_of(path) == me
            os.unlink(holder)
            assert release(path, me)
            held += 1
            try:
                os.symlink("dead", path)  # as a killed process would leave it
            except FileExistsError:
                pass

    in_processes(16, work)


def test_the_owner_of_a_port_is_found_on_any_address(tmp_path: Path) -> None:
    directory = str(tmp_path)
    claim(f"{directory}/{leases.port_name('tcp', '', 8080)}", "one", everybody)
    claim(f"{directory}/{leases.port_name('udp', '127.0.0.1', 53)}", "two", everybody)
    assert sorted(os.listdir(directory)) == ["tcp-any-8080", "udp-127.0.0.1-53"]
    assert leases.port_owner(directory, "tcp", 8080) == "one"
    assert leases.port_owner(directory, "tcp", 80) == ""
    assert leases.port_owner(directory, "udp", 53) == "two"
    assert leases.port_owner(directory, "udp", 53, besides="two") == ""


def test_a_lock_is_let_go_when_a_child_has_it_open_too(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    start, go = os.pipe()
    with FileLock(path):
        pid = os.fork()
        if pid == 0:
            os.close(go)
            os.read(start, 1)
            os._exit(0)
    with FileLock(path):
        pass
    os.close(go)
    os.close(start)
    os.waitpid(pid, 0)
