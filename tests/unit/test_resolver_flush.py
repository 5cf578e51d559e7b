"""What the resolver makes of the kernel's messages about rules."""

from __future__ import annotations

from struct import pack

from nanocontainer.network.resolver_flush import _TABLE_GONE, kinds


def test_messages_are_told_apart() -> None:
    first = pack("=IHHII", 19, 10 << 8 | 13, 0, 1, 0) + b"abc"
    second = pack("=IHHII", 16, _TABLE_GONE, 0, 1, 0)
    assert kinds(first + b"\0" + second) == [10 << 8 | 13, _TABLE_GONE]
    assert kinds(pack("=IHHII", 0, 1, 0, 0, 0) + b"x" * 7) == [1]  # broken: it comes to an end
    assert kinds(b"") == []
