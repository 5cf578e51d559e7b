"""Device rules of cgroup v2: parsing, the program, and the bpf(2) calls."""

from __future__ import annotations

import ctypes
import errno
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as some

from nanocontainer.errors import InvalidInput
from nanocontainer.kernel import bpf
from nanocontainer.kernel.bpf import DEFAULT_RULES, DeviceRule, assemble, parse_rule
from nanocontainer.plan.recording import RecordingKernel
from tests.unit.bpf_machines import Device

ACCESSES = ["".join(letters) for n in (1, 2, 3) for letters in itertools.combinations("rwm", n)]


def expected(rules: tuple[DeviceRule, ...], kind: str, major: int, minor: int, access: str) -> bool:
    """The meaning of rules, said another way: each letter is decided by the last rule that speaks of it."""

    def letter(wanted: str) -> bool:
        allowed = False
        for rule in rules:
            fits = rule.kind in ("a", kind) and rule.major in (-1, major) and rule.minor in (-1, minor)
            if fits and wanted in rule.access:
                allowed = rule.allow
        return allowed

    return all(letter(wanted) for wanted in access)


numbers = some.sampled_from([-1, 0, 1, 3, 136, 4095, 2**20 - 1, 2**31 - 1])
rules = some.builds(
    DeviceRule, some.sampled_from("abc"), numbers, numbers, some.sampled_from(ACCESSES), some.booleans()
)


@given(some.lists(rules, max_size=6).map(tuple), some.sampled_from("bc"), some.data())
def test_program_means_the_rules(rules: tuple[DeviceRule, ...], kind: str, data: some.DataObject) -> None:
    machine = Device(assemble(rules))
    for major, minor in itertools.product((0, 1, 2, 136, 4095), (0, 3, 4, 2**20 - 1)):
        for access in ACCESSES:
            assert machine.run(kind, major, minor, access) == expected(rules, kind, major, minor, access)


def test_default_rules() -> None:
    machine = Device(assemble(DEFAULT_RULES))
    usable = {(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2), (136, 0), (136, 77)}
    for major, minor in usable:
        assert machine.run("c", major, minor, "rwm")
        assert not machine.run("b", major, minor, "r")
    for kind, major, minor in (("c", 10, 200), ("c", 10, 229), ("c", 1, 1), ("c", 1, 4), ("b", 8, 0), ("c", 137, 0)):
        assert machine.run(kind, major, minor, "m")
        assert not any(machine.run(kind, major, minor, access) for access in ("r", "w", "rw", "rwm"))


def test_no_rules_deny_and_all_allows() -> None:
    assert not Device(assemble(())).run("c", 1, 3, "r")
    assert Device(assemble(bpf.ALLOW_ALL)).run("b", 8, 0, "rwm")


def test_a_piece_taken_out() -> None:
    machine = Device(assemble((DeviceRule("c", 1), DeviceRule("c", 1, 3, "w", allow=False))))
    assert machine.run("c", 1, 3, "r") and not machine.run("c", 1, 3, "rw") and machine.run("c", 1, 5, "rw")


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("c 1:3 rwm", DeviceRule("c", 1, 3)),
        ("c 42:* rmw", DeviceRule("c", 42, -1, "rmw")),
        ("b *:* m", DeviceRule("b", -1, -1, "m")),
        ("c 1:3 rr", DeviceRule("c", 1, 3, "r")),
        ("a", DeviceRule("a")),
        ("a *:* rwm", DeviceRule("a")),
        ("a 7:1 r", DeviceRule("a", 7, 1, "r")),
    ],
)
def test_parse(text: str, rule: DeviceRule) -> None:
    assert parse_rule(text) == rule


@pytest.mark.parametrize(
    "text",
    ["", "c", "x 1:3 r", "c 1:3", "c 1:3 x", "c 1 r", "c 1:3 rwmr", "c -1:3 r", "c 1:3  r", " c 1:3 r", "c 1:3 r\n",
     "c 99999999999:1 r", "c :3 r", "c 1: r", "c ٣:1 r", "c 1:2:3 r"],
)  # fmt: skip
def test_parse_refuses(text: str) -> None:
    with pytest.raises(InvalidInput, match="device cgroup rule"):
        parse_rule(text)


def test_calls() -> None:
    kernel = RecordingKernel({"bpf": [7, 0]})
    assert bpf.load_device_program(kernel, DEFAULT_RULES) == 7
    bpf.attach(kernel, 5, 7)
    load, attach = kernel.calls
    assert load.args[0] == 5 and len(load.args[1]) == 64
    assert load.args[1][:4] == (15).to_bytes(4, "little")
    assert load.args[1][4:8] == (len(assemble(DEFAULT_RULES)) // 8).to_bytes(4, "little")
    fields = [int.from_bytes(attach.args[1][i : i + 4], "little") for i in range(0, 16, 4)]
    assert attach.args[0] == 8 and fields == [5, 7, 6, 2]


def test_the_verifiers_reason_is_told() -> None:
    class Refusing(RecordingKernel):
        def _note(self, name: str, args: tuple[int, bytes], named: dict[str, object]) -> int:
            if size := int.from_bytes(args[1][28:32], "little"):
                log = int.from_bytes(args[1][32:40], "little")
                (ctypes.c_char * size).from_address(log).value = b"R9 !read_ok\n"
            raise OSError(errno.EINVAL, "bpf: Invalid argument")

    with pytest.raises(OSError, match=r"bpf: Invalid argument \(R9 !read_ok\)"):
        bpf.load_device_program(Refusing(), DEFAULT_RULES)


def test_no_permission_is_told_at_once() -> None:
    kernel = RecordingKernel({"bpf": PermissionError(errno.EPERM, "bpf: Operation not permitted")})
    with pytest.raises(PermissionError):
        bpf.load_device_program(kernel, DEFAULT_RULES)
    assert len(kernel.calls) == 1
