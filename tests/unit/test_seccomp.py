"""Seccomp profiles: what they mean once compiled (a simulator runs the program), their errors, and the cache."""

from __future__ import annotations

import errno
import itertools
import json
import os
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from nanocontainer.errors import InvalidInput, NotPermitted, Unsupported
from nanocontainer.kernel import caps, cbpf, seccomp, seccomp_profile, sysnames
from tests.unit.bpf_machines import AARCH64, I386, X86_64, Classic
from tests.unit.seccomp_profiles import (
    ALLOW,
    DEFAULT,
    DEFAULT_FILE,
    KERNEL,
    KILL_THREAD,
    LOG,
    MACHINES,
    OPS,
    SETS,
    arg,
    arguments,
    compiled,
    conditions,
    denying,
    fails,
    rule,
    values,
)  # fmt: skip

X32 = sysnames.X32_BIT

# --- the built-in profile


def test_default_profile_in_a_few_calls() -> None:
    machine = compiled(DEFAULT)
    numbers = sysnames.numbers("x86_64")

    def call(name: str, *args: int) -> int:
        return machine.run(X86_64, numbers[name], args)

    assert call("read") == call("openat") == call("mseal") == ALLOW
    assert call("mount") == call("bpf") == call("keyctl") == call("io_uring_setup") == fails(errno.EPERM)
    assert call("clone3") == fails(errno.ENOSYS)  # so that libc falls back on clone, whose flags can be judged
    assert call("clone", 0x11) == ALLOW
    assert call("clone", 0x11 | 0x10000000) == fails(errno.EPERM)  # CLONE_NEWUSER
    assert call("socket", 2) == call("socket", 16) == ALLOW
    assert call("socket", 38) == call("socket", 40) == fails(errno.EPERM)  # AF_ALG, AF_VSOCK
    assert call("personality", 0xFFFFFFFF) == ALLOW and call("personality", 0x0400000) == fails(errno.EPERM)
    assert machine.run(X86_64, 2000) == fails(errno.ENOSYS)
    assert machine.run(X86_64, X32) == ALLOW  # x32's read
    assert machine.run(I386, sysnames.numbers("i386")["mount"]) == fails(errno.EPERM)
    assert machine.run(AARCH64, 63) == machine.run(0x80000016, 3) == KILL_THREAD


def test_program_is_short_and_common_calls_are_found_quickly() -> None:
    machine = compiled(DEFAULT)
    assert len(machine.code) < 500
    common = "read write openat close mmap futex epoll_wait recvfrom sendto clock_gettime newfstatat".split()
    for name in common:
        assert machine.run(X86_64, sysnames.numbers("x86_64")[name]) == ALLOW
        assert machine.steps <= 14, name


def test_blocked_in_words() -> None:
    never, sometimes = seccomp.blocked("default", "x86_64", caps.DEFAULT, KERNEL)
    assert {"mount", "bpf", "kexec_load", "clone3", "keyctl", "unshare", "setns", "init_module"} <= set(never)
    assert sometimes == ("clone", "personality", "socket")
    assert not {"read", "ptrace", "chroot"} & set(never)
    assert "ptrace" in seccomp.blocked("default", "x86_64", caps.DEFAULT, "4.7.0")[0]
    assert len(seccomp.blocked("default", "x86_64", caps.everything(caps.LAST), KERNEL)[0]) < len(never)


def test_builtin_profile_and_compiler_have_their_key() -> None:
    """When this fails, the built-in profile or the compiler has changed: the old compiled programs must not be used.

    Then set seccomp.DEFAULT_CHECKSUM to the first number; or count seccomp.COMPILER up, and note the second one here.
    """
    text = DEFAULT_FILE.read_bytes()
    assert seccomp.DEFAULT_CHECKSUM == zlib.crc32(text)
    programs = [seccomp.program("default", machine, held, KERNEL) for machine in MACHINES for held in SETS.values()]
    assert (seccomp.COMPILER, zlib.crc32(b"".join(programs))) == (1, 1098684165)


# --- profiles of all kinds

MEANS = {"EQ": int.__eq__, "NE": int.__ne__, "LT": int.__lt__, "LE": int.__le__, "GE": int.__ge__, "GT": int.__gt__}


def holds(condition: dict[str, Any], args: tuple[int, ...], bits: int) -> bool:
    """What a condition means, on registers of 32 or 64 bits."""
    ones = (1 << bits) - 1
    given = args[condition["index"]] & ones if condition["index"] < len(args) else 0
    op, value, two = condition["op"].removeprefix("SCMP_CMP_"), condition["value"] & ones, condition["valueTwo"] & ones
    return given & value == two & value if op == "MASKED_EQ" else bool(MEANS[op](given, value))


def blank(condition: dict[str, Any], bits: int) -> bool:
    """Whether it is true for all arguments: as good as no condition."""
    return condition["op"] == "SCMP_CMP_MASKED_EQ" and not condition["value"] & (1 << bits) - 1


@settings(max_examples=60, deadline=None)
@given(some.lists(some.tuples(conditions(), some.integers(2, 9)), min_size=1, max_size=5))
def test_any_list_of_rules_means_what_it_says(found: list[tuple[list[dict[str, Any]], int]]) -> None:
    entries = [rule("read", action="SCMP_ACT_ERRNO", errnoRet=code, args=args) for args, code in found]
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": entries, "architectures": ["SCMP_ARCH_X86"]}
    machine = compiled(profile)
    for arch, nr, bits in ((X86_64, 0, 64), (I386, 3, 32)):
        always = [code for args, code in found if all(blank(a, bits) for a in args)]
        for args in arguments(profile):
            fitting = [code for conditions, code in found if all(holds(a, args, bits) for a in conditions)]
            expected = [fails(code) for code in always or fitting] or [ALLOW]
            assert machine.run(arch, nr, args) == expected[0], args


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("value", [0, 5, 0xFFFFFFFF, 1 << 32, (7 << 32) + 5, (1 << 64) - 1])
def test_64_bit_comparisons(op: str, value: int) -> None:
    two = 0x500000005
    machine = compiled(denying(rule("read", args=[arg(3, op, value, two)])))
    for passed in values(denying(rule("read", args=[arg(3, op, value, two)]))):
        answer = ALLOW if holds(arg(0, op, value, two), (passed,), 64) else fails(errno.EPERM)
        assert machine.run(X86_64, 0, (9, 9, 9, passed)) == answer, passed


def test_all_conditions_must_hold_but_those_on_one_argument_are_alternatives() -> None:
    both = compiled(denying(rule("read", args=[arg(0, "EQ", 1), arg(1, "EQ", 2)])))
    assert [both.run(X86_64, 0, args) == ALLOW for args in ((1, 2), (1, 3), (2, 2))] == [True, False, False]
    either = compiled(denying(rule("read", args=[arg(0, "EQ", 1), arg(0, "EQ", 2)])))
    assert [either.run(X86_64, 0, (n,)) == ALLOW for n in (1, 2, 3)] == [True, True, False]


def test_order_of_rules() -> None:
    no = {"action": "SCMP_ACT_ERRNO", "errnoRet": 5}
    machine = compiled(denying(rule("read", args=[arg(0, "EQ", 1)], **no), rule("read", args=[arg(0, "LT", 5)])))
    assert machine.run(X86_64, 0, (1,)) == fails(5) and machine.run(X86_64, 0, (2,)) == ALLOW
    machine = compiled(denying(rule("read", args=[arg(0, "EQ", 1)], **no), rule("read"), rule("read", **no)))
    assert machine.run(X86_64, 0, (1,)) == ALLOW  # the unconditional one beats it, and of two the first


def test_rules_that_repeat_the_default_are_no_rules() -> None:
    machine = compiled(denying(rule("read", action="SCMP_ACT_ERRNO"), rule("read", args=[arg(0, "EQ", 1)])))
    assert machine.run(X86_64, 0, (1,)) == ALLOW and machine.run(X86_64, 0, (2,)) == fails(errno.EPERM)
    machine = compiled(denying(rule("getpid"), rule("sendfile", action="SCMP_ACT_ERRNO")))
    assert [machine.run(X86_64, nr) for nr in (39, 40, 41)] == [ALLOW, fails(errno.EPERM), fails(errno.ENOSYS)]


def test_actions() -> None:
    cases = {"KILL": 0, "KILL_THREAD": 0, "KILL_PROCESS": 0x80000000, "TRAP": 0x30000, "ERRNO": fails(1),
             "TRACE": 0x7FF00001, "LOG": LOG, "ALLOW": ALLOW}  # fmt: skip
    for name, value in cases.items():
        assert compiled({"defaultAction": f"SCMP_ACT_{name}"}).run(X86_64, 39) == value
    machine = compiled(denying(rule("getpid", action="SCMP_ACT_TRACE", errnoRet=77), defaultErrnoRet=13))
    assert machine.run(X86_64, 39) == 0x7FF0004D and machine.run(X86_64, 0) == fails(13)


def test_unknown_calls_get_enosys_only_where_the_default_denies() -> None:
    assert compiled(denying(rule("getpid"))).run(X86_64, 40) == fails(errno.ENOSYS)
    assert compiled(denying(rule("getpid"))).run(X86_64, 38) == fails(errno.EPERM)
    permissive = {"defaultAction": "SCMP_ACT_LOG", "syscalls": [rule("getpid", action="SCMP_ACT_ERRNO")]}
    assert compiled(permissive).run(X86_64, 40) == LOG
    assert compiled(denying(rule("nosuchcall"))).run(X86_64, 40) == fails(errno.EPERM)


def test_foreign_architectures_are_killed() -> None:
    native = compiled(denying(rule("read")))
    assert native.run(X86_64, 0) == ALLOW
    assert native.run(I386, 3) == native.run(X86_64, X32) == native.run(AARCH64, 63) == KILL_THREAD
    assert native.run(X86_64, 0xFFFFFFFF) == fails(errno.EPERM)  # a tracer's way to skip a call
    both = compiled(denying(rule("read"), architectures=["SCMP_ARCH_X86"]))
    assert both.run(X86_64, 0) == both.run(I386, 3) == ALLOW


def test_calls_inside_socketcall() -> None:
    arches = ["SCMP_ARCH_X86"]
    machine = compiled(denying(rule("socket", "semop"), rule("bind", args=[arg(0, "EQ", 1)]), architectures=arches))
    assert machine.run(I386, 102, (1,)) == machine.run(I386, 117, (1,)) == machine.run(I386, 359) == ALLOW
    assert machine.run(I386, 102, (2,)) != ALLOW  # bind: its arguments cannot be seen here
    deny = rule("bind", action="SCMP_ACT_KILL", args=[arg(1, "EQ", 1)])
    machine = compiled({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [deny], "architectures": arches})
    assert machine.run(I386, 102, (2,)) == KILL_THREAD and machine.run(I386, 102, (1,)) == ALLOW


def test_includes_and_excludes() -> None:
    admin = 1 << caps.NUMBERS["CAP_SYS_ADMIN"]

    def allowed(held: int = 0, kernel: str = KERNEL, machine: str = "x86_64", **more: Any) -> bool:
        number, arch = (39, X86_64) if machine == "x86_64" else (172, AARCH64)
        return compiled(denying(rule("getpid", **more)), machine, held, kernel).run(arch, number) == ALLOW

    include, exclude = {"includes": {"caps": ["CAP_SYS_ADMIN"]}}, {"excludes": {"caps": ["CAP_SYS_ADMIN", "CAP_KILL"]}}
    assert allowed(admin, **include) and not allowed(0, **include)
    assert allowed(0, **exclude) and not allowed(admin, **exclude)
    assert not allowed(admin, includes={"caps": ["CAP_SYS_ADMIN", "CAP_KILL"]})
    future = {"caps": ["CAP_OF_THE_FUTURE"]}
    assert not allowed(-1, includes=future) and allowed(-1, excludes=future)
    assert allowed(includes={"arches": ["arm64", "amd64"]}) and not allowed(includes={"arches": ["arm64"]})
    assert allowed(machine="aarch64", includes={"arches": ["arm64"]}) and not allowed(excludes={"arches": ["amd64"]})
    versions = "4.8 4.8.0 yes, 4.8 4.7.99 no, 4.10 4.9.1 no, 5.0 4.99 no, 6.1 6.18.44-x yes, 6.2 6.10+ yes"
    for least, release, answer in (line.split() for line in versions.split(", ")):
        newer = answer == "yes"
        assert allowed(kernel=release, includes={"minKernel": least}) is newer
        assert allowed(kernel=release, excludes={"minKernel": least}) is not newer
    assert allowed(includes=None, excludes={}, comment="", args=None)


def test_long_programs_and_far_jumps() -> None:
    names = list(sysnames.numbers("x86_64"))[::2]
    profile = denying(*[rule(name, args=[arg(0, "EQ", i), arg(1, "GT", 1 << 32)]) for i, name in enumerate(names)])
    machine = compiled(profile)
    assert len(machine.code) > 1000
    for i, name in enumerate(names):
        nr = sysnames.numbers("x86_64")[name]
        assert machine.run(X86_64, nr, (i, 2 << 32)) == ALLOW
        assert machine.run(X86_64, nr, (i, 1)) == machine.run(X86_64, nr, (i + 1, 2 << 32)) == fails(errno.EPERM)
        assert machine.run(X86_64, nr + 1) in (fails(errno.EPERM), fails(errno.ENOSYS))


def test_too_long_for_the_kernel() -> None:
    with pytest.raises(InvalidInput, match="4096"):
        compiled(denying(*[rule("read", args=[arg(0, "GT", i)]) for i in range(2000)]))


def test_flags(tmp_path: Path) -> None:
    def flags(**more: Any) -> int:
        path = tmp_path / "profile.json"
        path.write_text(json.dumps(denying(rule("read"), **more)))
        return seccomp.flags(str(path), "x86_64", 0, KERNEL)

    assert seccomp.flags("default", "x86_64", 0, KERNEL) == flags() == 4
    assert flags(flags=[]) == 0
    assert flags(flags=["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC"]) == 2


@pytest.mark.parametrize(
    ("profile", "field"),
    [
        ("[]", "not a JSON object"), ("{", "not JSON"), ({}, "defaultAction is missing"),
        ({"defaultAction": "ALLOW"}, "defaultAction is 'ALLOW'"),
        ({"defaultAction": 1}, "defaultAction must be a text"),
        (denying(defaultErrnoRet=-1), "defaultErrnoRet"), (denying(defaultErrnoRet=4096), "defaultErrnoRet is 4096"),
        (denying(defaultErrnoRet=True), "defaultErrnoRet must be a whole number"),
        ({"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1}, "defaultErrnoRet makes no sense"),
        ({**denying(), "syscalls": {}}, "syscalls must be a list"),
        ({**denying(), "syscalls": [1]}, "syscalls must be"),
        (denying(rule("a"), rule()), r"syscalls\[1\].names must name"),
        (denying(rule("a", name="b")), r"syscalls\[0\].name and names"),
        (denying(rule("a", action="X")), r"syscalls\[0\].action is 'X'"),
        (denying(rule("a", args=[arg(6, "EQ", 1)])), r"syscalls\[0\].args\[0\].index is 6"),
        (denying(rule("a", args=[arg(1, "XX", 1)])), r"syscalls\[0\].args\[0\].op is 'SCMP_CMP_XX'"),
        (denying(rule("a", args=[arg(1, "EQ", 1 << 64)])), r"syscalls\[0\].args\[0\].value must be from 0"),
        (denying(rule("a", args=[{"index": "0"}])), r"syscalls\[0\].args\[0\].index must be a whole number"),
        (denying(rule("a", args=[7])), r"syscalls\[0\].args\[0\] must be an object"),
        (denying(rule("a", includes={"minKernel": "4"})), r"syscalls\[0\].includes.minKernel is '4'"),
        (denying(rule("a", excludes={"caps": [1]})), r"syscalls\[0\].excludes.caps must be a list of texts"),
        (denying(architectures=["SCMP_ARCH_PDP11"]), "architectures names 'SCMP_ARCH_PDP11'"),
        (denying(architectures=["SCMP_ARCH_X86"], archMap=[{"architecture": "x"}]), "archMap are both there"),
        (denying(flags=["TSYNC"]), "flags has 'TSYNC'"),
    ],
)  # fmt: skip
def test_errors_name_file_and_field(profile: Any, field: str, tmp_path: Path) -> None:
    path = tmp_path / "my-profile.json"
    path.write_text(profile if isinstance(profile, str) else json.dumps(profile))
    with pytest.raises(InvalidInput, match=f"my-profile.json.*{field}"):
        seccomp.program(str(path), "x86_64", 0, KERNEL)


def test_what_we_cannot_do_is_said(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="SCMP_ACT_NOTIFY"):
        compiled(denying(rule("read", action="SCMP_ACT_NOTIFY")))
    with pytest.raises(Unsupported, match="riscv64"):
        compiled(DEFAULT, "riscv64")
    with pytest.raises(InvalidInput, match="kernel release"):
        compiled(DEFAULT, kernel="linux")
    with pytest.raises(InvalidInput, match="No such file"):
        seccomp.program(str(tmp_path / "none.json"), "x86_64", 0, KERNEL)
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidInput, match="binary.json"):
        seccomp.program(str(tmp_path / "binary.json"), "x86_64", 0, KERNEL)


# --- the cache


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def files(cache: Path) -> list[str]:
    return sorted(os.listdir(cache))


def test_cached_program_is_used_without_the_compiler(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = seccomp.program("default", "x86_64", caps.DEFAULT, KERNEL, str(cache))
    (name,) = files(cache)
    assert name == f"default{seccomp.DEFAULT_CHECKSUM:08x}-x86_64-a80425fb-6.18-{seccomp.COMPILER}.bpf"
    assert cache.stat().st_mode & 0o777 == 0o700 and (cache / name).stat().st_mode & 0o777 == 0o600
    monkeypatch.setattr(seccomp_profile, "read", None)
    monkeypatch.setattr(seccomp, "_text", None)
    assert seccomp.program("default", "x86_64", caps.DEFAULT, "6.18.1", str(cache)) == first


def test_each_combination_has_its_own_file(cache: Path, tmp_path: Path) -> None:
    paths = []
    for i in range(2):
        paths.append(str(tmp_path / f"{i}.json"))
        Path(paths[i]).write_text(json.dumps(denying(rule("read"), defaultErrnoRet=i)))
    combinations = list(itertools.product(["default", *paths], ["x86_64", "aarch64"], [0, 1], ["5.4.0", "6.1.0"]))
    for combination in combinations:
        seccomp.program(*combination, cache=str(cache))
    assert len(files(cache)) == len(combinations)
    for combination in combinations:
        assert seccomp.program(*combination, cache=str(cache)) == seccomp.program(*combination)


def test_a_changed_profile_is_compiled_anew(cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    for code in (5, 6):
        path.write_text(json.dumps(denying(rule("read"), defaultErrnoRet=code, flags=[])))
        machine = Classic(seccomp.program(str(path), "x86_64", 0, KERNEL, str(cache)))
        assert machine.run(X86_64, 0xFFFFFFFF) == fails(code)
        assert seccomp.flags(str(path), "x86_64", 0, KERNEL, str(cache)) == 0


@pytest.mark.parametrize("damage", ["empty", "short", "long", "magic", "flags", "code", "other"])
def test_damaged_files_are_made_anew(cache: Path, damage: str) -> None:
    right = seccomp.program("default", "x86_64", 0, KERNEL, str(cache))
    (name,) = files(cache)
    data = bytearray((cache / name).read_bytes())
    if damage == "other":  # whole, but another combination's
        seccomp.program("default", "x86_64", -1 % 2**41, KERNEL, str(cache))
        (other,) = set(files(cache)) - {name}
        data = bytearray((cache / other).read_bytes())
    elif damage in ("magic", "flags", "code"):
        data[{"magic": 0, "flags": 8, "code": 99}[damage]] ^= 1
    damaged = {"empty": b"", "short": data[:-8], "long": data + bytes(8)}.get(damage, bytes(data))
    (cache / name).write_bytes(damaged)
    assert seccomp.program("default", "x86_64", 0, KERNEL, str(cache)) == right
    assert (cache / name).read_bytes() != damaged


@pytest.mark.parametrize("mode", [0o777, 0o720, 0o1777])
def test_a_cache_that_others_can_write_to_is_not_used(cache: Path, mode: int) -> None:
    cache.mkdir(0o700)
    cache.chmod(mode)
    with pytest.raises(NotPermitted, match="other users can write"):
        seccomp.program("default", "x86_64", 0, KERNEL, str(cache))


# --- the assembler


def test_every_other_number_is_its_own_interval() -> None:
    """The deepest and widest program of plain numbers: every jump must still arrive."""
    table = dict.fromkeys(range(0, 3000, 2), ALLOW)
    machine = Classic(cbpf.assemble([(X86_64, cbpf.intervals(table, [(0, 7)]))], KILL_THREAD))
    for nr in range(3010):
        assert machine.run(X86_64, nr) == table.get(nr, 7)
    assert machine.run(I386, 0) == KILL_THREAD
