"""Seccomp against libseccomp: the same profile through both, both programs in a simulator, all answers must agree."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from nanocontainer.kernel import sysnames
from tests.unit.bpf_machines import AARCH64, ARM, I386, X86_64, Classic
from tests.unit.seccomp_profiles import (
    DEFAULT,
    MACHINES,
    SETS,
    arg,
    arguments,
    compiled,
    conditions,
    denying,
    fails,
    read,
    rule,
)

oracle = pytest.importorskip("pyseccomp", reason="libseccomp is the judge", exc_type=ImportError)

X32 = sysnames.X32_BIT
ABIS = {  # AUDIT_ARCH_*, libseccomp's name, first number
    "x86_64": (X86_64, "X86_64", 0), "x32": (X86_64, "X32", X32), "i386": (I386, "X86", 0),
    "aarch64": (AARCH64, "AARCH64", 0), "arm": (ARM, "ARM", 0),
}  # fmt: skip


def resolve(abi: str, name: str) -> int:
    """libseccomp's number of a call, negative where it has none on this ABI, -1 where it does not know the name."""
    return int(oracle.resolve_syscall(getattr(oracle.Arch, ABIS[abi][1]), name))


def known(profile: dict[str, Any], machine: str) -> dict[str, Any]:
    """The profile without the names that this libseccomp does not know: it may be older than the profile."""
    unknown = {
        name
        for abi in MACHINES[machine]
        for name in sysnames.numbers(abi).keys() - sysnames.multiplexed(abi).keys()
        if resolve(abi, name) < 0
    }
    entries = []
    for entry in profile["syscalls"]:
        names = [name for name in entry["names"] if name not in unknown and resolve(machine, name) != -1]
        entries += [{**entry, "names": names}] if names else []
    return {**profile, "syscalls": entries}


def judged_by_libseccomp(profile: dict[str, Any], machine: str, held: int, abis: tuple[str, ...], tmp: Path) -> Classic:
    """The same profile through libseccomp: what runc's InitSeccomp does, without its ENOSYS addition."""
    said = read(profile, machine, held)  # conditions, includes, excludes
    judge = oracle.SyscallFilter(said.default)
    arches = {getattr(oracle.Arch, ABIS[abi][1]) for abi in abis}
    for arch in arches - {oracle.Arch.NATIVE, oracle.system_arch()}:
        judge.add_arch(arch)
    if oracle.system_arch() not in arches:
        judge.remove_arch(oracle.system_arch())
    for entry in said.rules:
        for name in entry.names:
            if entry.action != said.default:
                args = [
                    oracle.Arg(i, getattr(oracle, op), *((value, two) if op == "MASKED_EQ" else (value,)))
                    for i, op, value, two in entry.conditions
                ]
                judge.add_rule(entry.action, name, *args)
    path = tmp / "exported.bpf"
    with path.open("wb") as file:
        judge.export_bpf(file)
    return Classic(path.read_bytes())


def last(profile: dict[str, Any], machine: str, held: int, abi: str) -> int:
    """The largest number that the profile names on this ABI: runc answers ENOSYS above it."""
    said = read(profile, machine, held)
    numbers = [resolve(abi, name) for entry in said.rules for name in entry.names]
    return max((nr for nr in numbers if nr < sysnames.ARM_PRIVATE or abi == "x32"), default=-1)


def agree(profile: dict[str, Any], machine: str, held: int, tmp: Path, names: set[str] | None = None) -> int:
    """Compare over all numbers (or those of names and their neighbours), ABIs and arguments. How many were compared."""
    ours = compiled(profile, machine, held)
    abis = read(profile, machine, held).abis
    theirs = judged_by_libseccomp(profile, machine, held, abis, tmp)
    stub = profile["defaultAction"] not in ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE")
    ends = {abi: last(profile, machine, held, abi) for abi in abis}
    tried = arguments(profile)
    compared = 0

    def compare(abi: str, nr: int, args: tuple[int, ...]) -> None:
        nonlocal compared
        answer = theirs.run(ABIS[abi][0], nr, args)
        if nr == 0xFFFFFFFF and abi == "x86_64" and "x32" in abis:
            abi = "x32"  # where bit 30 says so
        private = abi == "arm" and nr >= sysnames.ARM_PRIVATE
        if stub and abi in abis and 0 <= ends[abi] < nr and not private and (abi != "x86_64" or nr < X32):
            answer = fails(errno.ENOSYS)
        assert ours.run(ABIS[abi][0], nr, args) == answer, f"{abi} {nr} {args}"
        compared += 1

    for abi in MACHINES[machine]:
        first = ABIS[abi][2]
        numbers = {first + nr for nr in range(600)}
        if names:
            numbers = {nr + d for name, nr in sysnames.numbers(abi).items() if name in names for d in (0, 1)}
        if abi == "arm":
            numbers |= {sysnames.ARM_PRIVATE + nr for nr in range(9)}
        for nr in sorted(numbers | {first + 0x3FFFFFFF, first or 0xFFFFFFFF}):
            compare(abi, nr, ())
            if theirs.looked or ours.looked:  # does either program look at arguments?
                for args in tried:
                    compare(abi, nr, args)
    return compared


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("held", SETS.values(), ids=SETS)
def test_default_profile_agrees_with_libseccomp(machine: str, held: int, tmp_path: Path) -> None:
    assert agree(known(DEFAULT, machine), machine, held, tmp_path) > 1200


DECISIONS = some.sampled_from(
    ["ERRNO ALLOW", "ALLOW ERRNO", "KILL_PROCESS LOG", "KILL TRACE", "LOG TRAP", "TRAP KILL_PROCESS"]
)
CALLS = some.dictionaries(some.sampled_from(["read", "ioctl", "preadv", "statx"]), conditions(), min_size=1)
ARCHES = some.sampled_from([[], ["X86"], ["X32"], ["X86", "X32"], ["X86_64", "X86"], ["X32", "MIPS"]])


@settings(max_examples=60, deadline=None)
@given(DECISIONS, ARCHES, CALLS)
def test_any_profile_agrees_with_libseccomp(
    tmp_path_factory: pytest.TempPathFactory, decision: str, arches: list[str], calls: dict[str, Any]
) -> None:
    """One rule a call: where several look at one argument, libseccomp 2.5 itself may get it wrong."""
    default, action = (f"SCMP_ACT_{name}" for name in decision.split())
    entries = [rule(name, action=action, args=args) for name, args in calls.items()]
    profile = {"defaultAction": default, "syscalls": entries, "architectures": [f"SCMP_ARCH_{a}" for a in arches]}
    agree(profile, "x86_64", 0, tmp_path_factory.getbasetemp(), {*calls, "write"})


def test_calls_inside_socketcall_and_ipc_agree_with_libseccomp(tmp_path: Path) -> None:
    names = sorted(sysnames.multiplexed("i386"))
    for some_of_them in (names, names[::2], names[1::3]):
        # for the arguments to try; and the call with the largest number (libseccomp has none for those in socketcall)
        more = [rule("read", args=[arg(0, "EQ", number) for number in range(30)]), rule("cachestat")]
        profile = denying(rule(*some_of_them), *more, architectures=["SCMP_ARCH_X86"])
        assert agree(profile, "x86_64", 0, tmp_path, {"socketcall", "ipc", *names}) > 100


@pytest.mark.parametrize(
    ("abi", "header"), [("x86_64", "unistd_64.h"), ("i386", "unistd_32.h"), ("x32", "unistd_x32.h")]
)
def test_numbers_match_the_kernels_headers(abi: str, header: str) -> None:
    path = Path("/usr/include/x86_64-linux-gnu/asm") / header
    if not path.exists():
        pytest.skip("no kernel headers (linux-libc-dev)")
    missing, newer = sysnames.differences(abi, path.read_text())
    assert missing == {}
    # what only we have is newer than the header
    assert all(nr > 424 or name in ("uretprobe", "uprobe") for name, nr in newer.items())


@pytest.mark.parametrize("abi", ABIS)
def test_numbers_match_libseccomp(abi: str) -> None:
    for name, nr in sysnames.numbers(abi).items():
        theirs = resolve(abi, name)
        if name in sysnames.multiplexed(abi):
            assert theirs < 0  # socketcall's and ipc's are pseudo numbers there
        elif theirs >= 0:  # an older libseccomp does not know all of ours
            assert theirs == nr, name
