"""Capabilities: names and numbers, docker's rules for --cap-add, --cap-drop and --privileged."""

from __future__ import annotations

import os

import pytest

from nanocontainer.errors import InvalidInput
from nanocontainer.kernel import caps

LAST = 40
DOCKER = (  # the list in docker's documentation
    "CAP_AUDIT_WRITE CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_FSETID CAP_KILL CAP_MKNOD CAP_NET_BIND_SERVICE "
    "CAP_NET_RAW CAP_SETFCAP CAP_SETGID CAP_SETPCAP CAP_SETUID CAP_SYS_CHROOT"
)


def granted(add: str = "", drop: str = "", **more: object) -> set[str]:
    given = {"privileged": False, "last": LAST, **more}
    return set(caps.names(caps.granted(add.split(), drop.split(), **given)))  # type: ignore[arg-type]


def test_numbers_are_the_kernels() -> None:
    assert len(caps.NAMES) == caps.LAST + 1 == 41
    some = {"CHOWN": 0, "SETPCAP": 8, "NET_ADMIN": 12, "SYS_ADMIN": 21, "MKNOD": 27, "SYSLOG": 34, "BPF": 39}
    assert {name: caps.NUMBERS[f"CAP_{name}"] for name in some} == some
    assert caps.NAMES[40] == "CAP_CHECKPOINT_RESTORE"


def test_numbers_match_the_header() -> None:
    path = "/usr/include/linux/capability.h"
    if not os.path.exists(path):
        pytest.skip("no kernel headers")
    with open(path) as file:
        words = [line.split() for line in file if line.startswith("#define CAP_")]
    header = {name: int(number) for _, name, number in (line[:3] for line in words) if number.isdigit()}
    assert header == caps.NUMBERS


def test_default_is_dockers() -> None:
    assert granted() == set(DOCKER.split()) == set(caps.names(caps.DEFAULT))
    assert len(granted()) == 14


@pytest.mark.parametrize("name", ["NET_ADMIN", "net_admin", "CAP_NET_ADMIN", "cap_net_admin"])
def test_names_in_any_form(name: str) -> None:
    assert granted(name) - granted() == {"CAP_NET_ADMIN"}
    assert granted("ALL", name) == set(caps.NAMES) - {"CAP_NET_ADMIN"}


def test_all() -> None:
    assert granted("all") == set(caps.NAMES)
    assert granted("", "ALL") == set()
    assert granted("CHOWN SYS_TIME", "all") == {"CAP_CHOWN", "CAP_SYS_TIME"}
    assert granted("ALL", "CHOWN MKNOD") == set(caps.NAMES) - {"CAP_CHOWN", "CAP_MKNOD"}
    assert granted("ALL", "ALL") == set(caps.NAMES)  # docker's order: add ALL is looked at first


def test_added_and_dropped_stays() -> None:
    assert granted("CHOWN", "CHOWN KILL") == granted() - {"CAP_KILL"}


def test_privileged_is_everything_the_kernel_has() -> None:
    assert granted("", "ALL", privileged=True) == set(caps.NAMES)
    assert caps.granted((), (), True, 45) == (1 << 46) - 1  # also what has no name yet
    assert caps.granted((), (), True, 37) == (1 << 38) - 1


def test_never_more_than_we_have() -> None:
    less = caps.everything(LAST) & ~(1 << caps.NUMBERS["CAP_SYS_RESOURCE"] | 1 << caps.NUMBERS["CAP_MKNOD"])
    gone = {"CAP_SYS_RESOURCE", "CAP_MKNOD"}
    assert granted(available=less, privileged=True) == set(caps.NAMES) - gone
    assert granted("ALL", available=less) == set(caps.NAMES) - gone
    assert granted(available=less) == set(DOCKER.split()) - gone
    with pytest.raises(InvalidInput, match="CAP_SYS_RESOURCE"):
        granted("SYS_RESOURCE", available=less)


@pytest.mark.parametrize(("add", "drop"), [("FOO", ""), ("", "FOO"), ("CAP_", ""), ("CAP_ALL", ""), ("ALL FOO", "")])
def test_unknown_names(add: str, drop: str) -> None:
    with pytest.raises(InvalidInput, match="unknown capability"):
        granted(add, drop)


def test_names_this_kernel_lacks() -> None:
    with pytest.raises(InvalidInput, match="CAP_CHECKPOINT_RESTORE"):
        granted("CHECKPOINT_RESTORE", last=39)


