"""Seccomp profiles: docker's format and the OCI runtime specification's linux.seccomp, read and made into a program.

A profile says for each system call what happens: an action, perhaps only where arguments have certain values. docker's
format is the OCI one plus conditions on the container and the host: `includes` and `excludes` (capabilities, machine,
kernel), and `archMap` in place of `architectures`. Their meaning is libseccomp's and runc's, because profiles are
written for these:

- An unconditional rule for a call beats all rules with arguments; of two unconditional ones the first counts.
- Several conditions of a rule must all be true; but where two of them look at the same argument, each is a rule of its
  own (any may be true).
- Rules whose action is the default's are dropped before that. So are names that this ABI does not have.
- The native ABI is always judged, the others as listed. A call of any other architecture kills the thread.
- On 32-bit ABIs the values are cut to 32 bits, because the registers are.
- Calls with a number above all that the profile names fail with ENOSYS where the default is to deny: a libc that tries
  a new call must be able to fall back on an old one (runc's addition).

Two things we do otherwise. Where rules with arguments contradict each other, the first that is true counts; libseccomp
sorts them. And a rule with arguments for a call that i386 also makes through socketcall(2) or ipc(2) cannot see the
arguments there, they are behind a pointer: libseccomp lets its action through for all of them, we do so only for
actions that deny.

Only imported where no compiled program is at hand (seccomp.py).
"""

from __future__ import annotations

import json

from ..errors import InvalidInput, Unsupported
from ..record import Record
from . import caps, cbpf, sysnames

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .cbpf import Condition, Verdict

# linux/seccomp.h: SECCOMP_RET_*
KILL_THREAD, KILL_PROCESS, TRAP, ERRNO = 0, 0x80000000, 0x30000, 0x50000
TRACE, LOG, ALLOW = 0x7FF00000, 0x7FFC0000, 0x7FFF0000
EPERM, ENOSYS = 1, 38

_ACTIONS = {
    "SCMP_ACT_KILL": KILL_THREAD, "SCMP_ACT_KILL_THREAD": KILL_THREAD, "SCMP_ACT_KILL_PROCESS": KILL_PROCESS,
    "SCMP_ACT_TRAP": TRAP, "SCMP_ACT_ERRNO": ERRNO, "SCMP_ACT_TRACE": TRACE, "SCMP_ACT_LOG": LOG,
    "SCMP_ACT_ALLOW": ALLOW,
}  # fmt: skip
_LARGEST = {ERRNO: 4095, TRACE: 0xFFFF}  # errnoRet: MAX_ERRNO, and the 16 bits a tracer can see
_FLAGS = {  # linux/seccomp.h: SECCOMP_FILTER_FLAG_*. TSYNC has no effect: we have one thread
    "SECCOMP_FILTER_FLAG_TSYNC": 0, "SECCOMP_FILTER_FLAG_LOG": 2, "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4,
}  # fmt: skip
_OPERATORS = frozenset(("EQ", "NE", "LT", "LE", "GE", "GT", "MASKED_EQ"))

# The ABIs of a machine, its own first; the AUDIT_ARCH_* number of linux/audit.h (x32 shares that of x86_64); the bits
# of a register; the name in profiles' `architectures`
_MACHINES = {"x86_64": ("x86_64", "x32", "i386"), "aarch64": ("aarch64", "arm")}
_AUDIT = {"x86_64": 0xC000003E, "i386": 0x40000003, "aarch64": 0xC00000B7, "arm": 0x40000028}
_BITS = {"x86_64": 64, "aarch64": 64, "x32": 32, "i386": 32, "arm": 32}
_SCMP = {
    "SCMP_ARCH_X86_64": "x86_64", "SCMP_ARCH_X32": "x32", "SCMP_ARCH_X86": "i386", "SCMP_ARCH_AARCH64": "aarch64",
    "SCMP_ARCH_ARM": "arm",
}  # fmt: skip
_OTHERS = """
LOONGARCH64 M68K MIPS MIPS64 MIPS64N32 MIPSEL MIPSEL64 MIPSEL64N32 PARISC PARISC64 PPC PPC64 PPC64LE RISCV64 S390 S390X
SH SHEB
"""  # architectures a profile may name as well; on our machines none of their calls can happen
_FOREIGN = frozenset(f"SCMP_ARCH_{name}" for name in _OTHERS.split())
_GOARCH = {"x86_64": "amd64", "aarch64": "arm64"}  # as `includes.arches` has it


class Rule(Record):
    """One entry of `syscalls` that applies here: names, action with its data, conditions (empty: always)."""

    names: tuple[str, ...]
    action: int
    conditions: tuple[Condition, ...]


class Profile(Record):
    """What a profile says for one machine, kernel and set of capabilities. abis: the machine's own first."""

    default: int
    rules: tuple[Rule, ...]
    abis: tuple[str, ...]
    flags: int | None  # for seccomp(2); None where the profile does not speak of them


class _Reader:
    """Takes fields out of JSON data and says which field of which file is wrong."""

    def __init__(self, source: str) -> None:
        self.source = source

    def wrong(self, field: str, why: str) -> InvalidInput:
        hint = "see linux.seccomp in the OCI runtime specification"
        return InvalidInput(f"seccomp profile {self.source}", f"{field} {why}", hint)

    def get(self, data: dict[str, Any], key: str, where: str, kind: type, default: Any = None) -> Any:
        """data[key], which must be of that kind; null is the same as nothing."""
        value = data.get(key)
        if value is None:
            return default
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            words = {dict: "an object", list: "a list", str: "a text", int: "a whole number"}
            raise self.wrong(f"{where}{key}", f"must be {words[kind]}")
        if isinstance(value, int) and not 0 <= value < 1 << 64:
            raise self.wrong(f"{where}{key}", "must be from 0 to 2**64 - 1")
        return value

    def texts(self, data: dict[str, Any], key: str, where: str) -> list[str]:
        values: list[Any] = self.get(data, key, where, list, [])
        if not all(isinstance(value, str) for value in values):
            raise self.wrong(f"{where}{key}", "must be a list of texts")
        return values

    def objects(self, data: dict[str, Any], key: str) -> list[tuple[str, dict[str, Any]]]:
        values: list[Any] = self.get(data, key, "", list, [])
        if not all(isinstance(value, dict) for value in values):
            raise self.wrong(key, "must be a list of objects")
        return [(f"{key}[{i}].", value) for i, value in enumerate(values)]

    def action(self, data: dict[str, Any], key: str, code: str, where: str) -> int:
        """The action in field key with the errno in field code, as SECCOMP_RET_* value."""
        name = self.get(data, key, where, str, "")
        if name == "SCMP_ACT_NOTIFY":
            raise Unsupported(
                f"seccomp profile {self.source}", f"{where}{key} is SCMP_ACT_NOTIFY, which needs a seccomp agent",
                "use SCMP_ACT_ERRNO instead",
            )  # fmt: skip
        if name not in _ACTIONS:
            known = ", ".join(_ACTIONS)
            raise self.wrong(f"{where}{key}", f"is {name!r}, must be one of {known}" if name else "is missing")
        action = _ACTIONS[name]
        number = self.get(data, code, where, int)
        if action not in _LARGEST:
            if number is not None:
                raise self.wrong(f"{where}{code}", f"makes no sense with {name}")
            return action
        if number is not None and number > _LARGEST[action]:
            raise self.wrong(f"{where}{code}", f"is {number}, the largest one is {_LARGEST[action]}")
        return action | (EPERM if number is None else number)

    def condition(self, arg: Any, where: str) -> Condition:
        if not isinstance(arg, dict):
            raise self.wrong(where, "must be an object")
        index = self.get(arg, "index", f"{where}.", int, 0)
        if index > 5:
            raise self.wrong(f"{where}.index", f"is {index}, a system call has arguments 0 to 5")
        op = self.get(arg, "op", f"{where}.", str, "").removeprefix("SCMP_CMP_")
        if op not in _OPERATORS:
            known = ", ".join(sorted(_OPERATORS))
            raise self.wrong(f"{where}.op", f"is {arg.get('op')!r}, must be SCMP_CMP_ and one of {known}")
        value = self.get(arg, "value", f"{where}.", int, 0)
        two = self.get(arg, "valueTwo", f"{where}.", int, 0)
        return index, op, value, two if op == "MASKED_EQ" else 0

    def version(self, text: str, field: str) -> tuple[int, int]:
        major, _, minor = text.partition(".")
        if not (major.isdecimal() and minor.isdecimal()):
            raise self.wrong(field, f"is {text!r}, must be like 4.8")
        return int(major), int(minor)

    def applies(self, entry: dict[str, Any], where: str, machine: str, held: int, kernel: tuple[int, int]) -> bool:
        """Whether includes and excludes let a rule in. All of includes must be true, none of excludes."""
        include = self.get(entry, "includes", where, dict, {})
        exclude = self.get(entry, "excludes", where, dict, {})
        arch = _GOARCH[machine]
        at = f"{where}includes."
        arches, least = self.texts(include, "arches", at), self.get(include, "minKernel", at, str, "")
        if arches and arch not in arches:
            return False
        if not all(_holds(held, name) for name in self.texts(include, "caps", at)):
            return False
        if least and kernel < self.version(least, f"{at}minKernel"):
            return False
        at = f"{where}excludes."
        least = self.get(exclude, "minKernel", at, str, "")
        if least and kernel >= self.version(least, f"{at}minKernel"):
            return False
        if any(_holds(held, name) for name in self.texts(exclude, "caps", at)):
            return False
        return arch not in self.texts(exclude, "arches", at)

    def abis(self, data: dict[str, Any], machine: str) -> tuple[str, ...]:
        """The ABIs to judge: the native one, and those of architectures or archMap that this machine can run."""
        names = self.texts(data, "architectures", "")
        if names and data.get("archMap"):
            raise self.wrong("architectures", "and archMap are both there, only one may be")
        for where, entry in self.objects(data, "archMap"):
            main = self.get(entry, "architecture", where, str, "")
            if _SCMP.get(main) == machine:
                names = [main, *self.texts(entry, "subArchitectures", where)]
        for name in names:
            if name not in _SCMP and name not in _FOREIGN:
                raise self.wrong("architectures", f"names {name!r}, which is none")
        wanted = {_SCMP.get(name) for name in names} | {machine}
        return tuple(abi for abi in _MACHINES[machine] if abi in wanted)


def release(kernel: str) -> tuple[int, int]:
    """The first two numbers of a kernel release, as 6.18.44-cloud or 6.18+: all that minKernel looks at."""
    major, _, rest = kernel.partition(".")
    minor = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    if not (major.isdecimal() and minor):
        raise InvalidInput("seccomp", f"the kernel release {kernel!r} does not begin with two numbers")
    return int(major), int(minor)


def _holds(held: int, name: str) -> bool:
    """Whether a capability is in the mask. A name that no kernel of ours knows is not."""
    return name in caps.NUMBERS and bool(held >> caps.NUMBERS[name] & 1)


def read(text: str, source: str, machine: str, held: int, kernel: str) -> Profile:
    """A profile, given as JSON text, for a machine (os.uname().machine), a mask of capabilities and a kernel release.

    source names it in errors. InvalidInput (file and field), Unsupported (machine, SCMP_ACT_NOTIFY).
    """
    if machine not in _MACHINES:
        hint = "use --security-opt seccomp=unconfined"
        raise Unsupported("seccomp", f"no system call numbers known for {machine}", hint)
    reader = _Reader(source)
    try:
        data = json.loads(text)
    except ValueError as error:
        raise InvalidInput(f"seccomp profile {source}", f"not JSON: {error}") from None
    if not isinstance(data, dict):
        raise InvalidInput(f"seccomp profile {source}", "not a JSON object")
    version = release(kernel)
    default = reader.action(data, "defaultAction", "defaultErrnoRet", "")
    rules = []
    for where, entry in reader.objects(data, "syscalls"):
        names = reader.texts(entry, "names", where)
        if one := reader.get(entry, "name", where, str, ""):
            if names:
                raise reader.wrong(f"{where}name", "and names are both there, only one may be")
            names = [one]
        if not names:
            raise reader.wrong(f"{where}names", "must name a system call")
        action = reader.action(entry, "action", "errnoRet", where)
        args = reader.get(entry, "args", where, list, [])
        conditions = tuple(reader.condition(arg, f"{where}args[{i}]") for i, arg in enumerate(args))
        if not reader.applies(entry, where, machine, held, version):
            continue
        if len({index for index, *_ in conditions}) == len(conditions):
            rules.append(Rule(tuple(names), action, conditions))
        else:
            rules += [Rule(tuple(names), action, (condition,)) for condition in conditions]
    flags = None
    if data.get("flags") is not None:
        flags = 0
        for name in reader.texts(data, "flags", ""):
            if name not in _FLAGS:
                raise reader.wrong("flags", f"has {name!r}, must be of {', '.join(_FLAGS)}")
            flags |= _FLAGS[name]
    return Profile(default, tuple(rules), reader.abis(data, machine), flags)


def _denies(action: int) -> bool:
    return action not in (ALLOW, LOG) and action & 0x7FFF0000 != TRACE


def verdicts(profile: Profile, abi: str) -> dict[int, Verdict]:
    """Call number to verdict, for all calls of an ABI that do not simply get the default."""
    numbers = sysnames.numbers(abi)
    through = sysnames.multiplexed(abi)
    always: dict[int, int] = {}
    judged: dict[int, list[tuple[tuple[Condition, ...], int]]] = {}
    for rule in profile.rules:
        if rule.action == profile.default:
            continue
        # a mask of nothing is true for all
        conditions = tuple(c for c in rule.conditions if c[1] != "MASKED_EQ" or c[2] & (1 << _BITS[abi]) - 1)
        for name in rule.names:
            if name in numbers:
                if conditions:
                    judged.setdefault(numbers[name], []).append((conditions, rule.action))
                else:
                    always.setdefault(numbers[name], rule.action)
            if name in through and (not conditions or _denies(rule.action)):
                call, number = through[name]
                judged.setdefault(numbers[call], []).append((((0, "EQ", number, 0),), rule.action))
    table: dict[int, Verdict] = {}
    for nr, rules in judged.items():
        table[nr] = (_BITS[abi], tuple(dict.fromkeys(rules)), profile.default)
    return table | always


def _ranges(profile: Profile, abi: str) -> list[tuple[int, Verdict]]:
    """All numbers of an ABI, from 0 (x32: from X32_BIT) on, with their verdicts."""
    first = sysnames.X32_BIT if abi == "x32" else 0
    numbers = sysnames.numbers(abi)
    otherwise: list[tuple[int, Verdict]] = [(first, profile.default)]
    named = {numbers[name] for rule in profile.rules for name in rule.names if name in numbers}
    if abi == "arm":  # its private calls are far above the others
        named = {nr for nr in named if nr < sysnames.ARM_PRIVATE}
    if named and _denies(profile.default):
        otherwise.append((max(named) + 1, ERRNO | ENOSYS))
        if abi == "arm":
            otherwise.append((sysnames.ARM_PRIVATE, profile.default))
    return cbpf.intervals(verdicts(profile, abi), otherwise)


def compile(profile: Profile) -> bytes:
    """The program, as struct sock_filter[]. InvalidInput where it is too long for the kernel."""
    tables = []
    for abi in profile.abis:
        if abi == "x32":
            continue
        ranges = _ranges(profile, abi)
        if "x32" in profile.abis and abi == "x86_64":
            ranges += _ranges(profile, "x32")
        elif abi == "x86_64":
            # Numbers of x32 are then a foreign architecture's. But -1 is a tracer's way to skip a call (seccomp(2)).
            ranges += [(sysnames.X32_BIT, KILL_THREAD), (0xFFFFFFFF, profile.default)]
        tables.append((_AUDIT[abi], ranges))
    return cbpf.assemble(tables, KILL_THREAD)
