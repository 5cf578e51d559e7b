"""Which devices a cgroup may use, on cgroup v2: an eBPF program asked at each open(2) and mknod(2) of a device node.

cgroup v1 has files for it (devices.allow, devices.deny); v2 has BPF_PROG_TYPE_CGROUP_DEVICE (Linux 4.15, bpf(2)):
struct bpf_cgroup_dev_ctx { access << 16 | type, major, minor } in, 0 (EPERM) or 1 out. Attached with BPF_F_ALLOW_MULTI
all programs from the root of the hierarchy down to the cgroup must say 1. The program goes away with the cgroup, so
there is nothing to undo.

Rules are a list, and the last one that fits decides, for each of read, write and mknod by itself; what no rule fits is
denied. Later rules can thus take a piece out of earlier ones, which v1 silently would not do.

The default program is loaded anew for each container. Pinning it needs a bpffs, which not every host has mounted, and
loading takes some 0.08 ms, not much more than opening a pin and checking that it is the right one would.
"""

from __future__ import annotations

import ctypes
import errno

from ..errors import InvalidInput
from ..record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .calls import Kernel

    _Test = tuple[int, int, int, str | int]  # op, register, constant; a label, or how many instructions to jump over

# linux/bpf.h
BPF_PROG_LOAD, BPF_PROG_ATTACH = 5, 8
BPF_PROG_TYPE_CGROUP_DEVICE, BPF_CGROUP_DEVICE = 15, 6
BPF_F_ALLOW_MULTI = 2
_TYPES = {"b": 1, "c": 2}  # BPF_DEVCG_DEV_*
_ACCESS = {"m": 1, "r": 2, "w": 4}  # BPF_DEVCG_ACC_*
_ALL_ACCESS = 7

# Registers and instructions, <op, dst | src << 4, 16-bit offset, 32-bit constant>: linux/bpf.h, linux/bpf_common.h.
# The jumps compare 32 bits (BPF_JMP32, Linux 5.1): constants of 64-bit ones are sign-extended.
_R0, _R1, _TYPE, _ACCESS_LEFT, _MAJOR, _MINOR, _DEVICE = range(7)
_LOAD_WORD, _MOVE, _MOVE_REGISTER, _AND, _OR_REGISTER = 0x61, 0xB7, 0xBF, 0x57, 0x4F
_SHIFT_LEFT, _SHIFT_RIGHT, _JUMP, _EXIT = 0x67, 0x77, 0x05, 0x95
_IF_EQUAL, _IF_NOT_EQUAL, _IF_BITS_SET = 0x16, 0x56, 0x46
_MAJORS, _MINORS = 1 << 12, 1 << 20  # what a dev_t has room for (linux/kdev_t.h)
_MOST = 32000  # instructions: a jump's offset has 16 bits


class DeviceRule(Record):
    """kind: b (block), c (character) or a (either); major, minor: -1 is any; access: letters of r, w and m."""

    kind: str
    major: int = -1
    minor: int = -1
    access: str = "rwm"
    allow: bool = True



# What docker lets every container do: make any node (using it is another matter), and use null, zero, full, random,
# urandom, tty, console, ptmx and all pseudo-terminals. Not /dev/net/tun (10:200), which runc allowed before 1.2.
DEFAULT_RULES = (
    DeviceRule("c", access="m"),
    DeviceRule("b", access="m"),
    *(DeviceRule("c", 1, minor) for minor in (3, 5, 7, 8, 9)),
    *(DeviceRule("c", 5, minor) for minor in (0, 1, 2)),
    DeviceRule("c", 136),
)
ALLOW_ALL = (DeviceRule("a"),)  # --privileged


def parse_rule(text: str) -> DeviceRule:
    """One --device-cgroup-rule: "c 1:3 rwm", "b *:* r", "a" or "a *:* rwm". It allows. InvalidInput otherwise."""
    words = ("a *:* rwm" if text == "a" else text).split(" ")
    kind, numbers, access = words if len(words) == 3 else ("", "", "")
    major, _, minor = numbers.partition(":")
    if kind not in ("a", "b", "c") or not access or len(access) > 3 or not _ACCESS.keys() >= set(access):
        raise InvalidInput(
            f"invalid device cgroup rule {text!r}", "must be TYPE MAJOR:MINOR ACCESS",
            "for example 'c 1:3 rwm'; * is any number, and a alone is all devices",
        )  # fmt: skip
    return DeviceRule(kind, _number(major, text), _number(minor, text), "".join(dict.fromkeys(access)))


def _number(word: str, rule: str) -> int:
    if word == "*":
        return -1
    if not (word.isascii() and word.isdecimal()) or len(word) > 10:
        raise InvalidInput(f"invalid device cgroup rule {rule!r}", f"{word!r} is no device number", "use a number or *")
    return int(word)


def _instruction(op: int, dst: int = 0, src: int = 0, offset: int = 0, constant: int = 0) -> bytes:
    constant &= 0xFFFFFFFF
    return bytes((op, dst | src << 4)) + offset.to_bytes(2, "little", signed=True) + constant.to_bytes(4, "little")


_PROLOGUE = (
    _instruction(_LOAD_WORD, _TYPE, _R1, 0),
    _instruction(_MOVE_REGISTER, _ACCESS_LEFT, _TYPE),
    _instruction(_AND, _TYPE, constant=0xFFFF),
    _instruction(_SHIFT_RIGHT, _ACCESS_LEFT, constant=16),
    _instruction(_LOAD_WORD, _MAJOR, _R1, 4),
    _instruction(_LOAD_WORD, _MINOR, _R1, 8),
    _instruction(_MOVE_REGISTER, _DEVICE, _MAJOR),
    _instruction(_SHIFT_LEFT, _DEVICE, constant=20),
    _instruction(_OR_REGISTER, _DEVICE, _MINOR),
)


def assemble(rules: Sequence[DeviceRule]) -> bytes:
    """The program, as struct bpf_insn[]. InvalidInput for thousands of rules.

    Character and block devices have a chain of tests each, from the last rule to the first. A test is one comparison
    that leaves the chain if it fits: so the verifier, which follows all ways through a program, has one way to go per
    rule. (With type, major and minor tested one after the other it takes three times as long to load.)
    """
    chars, blocks = _chain(rules, "c"), _chain(rules, "b")
    code: list[_Test] = [(_IF_EQUAL, _TYPE, _TYPES["b"], "block")]
    code += chars
    labels = {"block": len(code)}
    code += blocks
    used = {to for *_, to in code}
    ends: list[bytes] = []
    for label, answer in (("deny", 0), ("allow", 1)):  # the verifier refuses code that nothing leads to
        labels[label] = len(code) + len(ends)
        if label in used:
            ends += [_instruction(_MOVE, _R0, constant=answer), _instruction(_EXIT)]
    if len(code) > _MOST:
        raise InvalidInput("too many device rules", f"{len(rules)} of them make a program that is too long")
    body = [
        _instruction(op, register, 0, labels[to] - at - 1 if isinstance(to, str) else to, constant)
        for at, (op, register, constant, to) in enumerate(code)
    ]
    return b"".join((*_PROLOGUE, *body, *ends))


def _chain(rules: Sequence[DeviceRule], kind: str) -> list[_Test]:
    """The tests for one kind of device."""
    chain: list[_Test] = []
    for rule in reversed(rules):
        if rule.kind not in ("a", kind) or rule.major >= _MAJORS or rule.minor >= _MINORS:
            continue  # not this kind, or no device that exists
        register, number = _DEVICE, rule.major << 20 | rule.minor
        if rule.minor < 0:
            register, number = _MAJOR, rule.major
        elif rule.major < 0:
            register, number = _MINOR, rule.minor
        every = rule.major < 0 and rule.minor < 0
        access = sum(_ACCESS[letter] for letter in set(rule.access))
        end = "allow" if rule.allow else "deny"
        if access == _ALL_ACCESS and every:
            return [*chain, (_JUMP, 0, 0, end)]
        if access == _ALL_ACCESS:
            chain.append((_IF_EQUAL, register, number, end))
            continue
        then: list[_Test] = [(_IF_BITS_SET, _ACCESS_LEFT, access, end)]
        if rule.allow:
            then = [(_AND, _ACCESS_LEFT, ~access, 0), (_IF_EQUAL, _ACCESS_LEFT, 0, end)]
        if not every:
            chain.append((_IF_NOT_EQUAL, register, number, len(then)))
        chain += then
    return [*chain, (_JUMP, 0, 0, "deny")]


def load_device_program(kernel: Kernel, rules: Sequence[DeviceRule]) -> int:
    """Load the program for these rules; an open file, close-on-exec, to attach.

    OSError: EPERM without CAP_BPF or CAP_SYS_ADMIN (before 5.11 also when RLIMIT_MEMLOCK is used up). Where the
    kernel's verifier refuses the program, what it says is in the error.
    """
    code = assemble(rules)
    try:
        return _load(kernel, code, None)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EINVAL):
            raise
        # the verifier's refusal: ask again for its reason
        log = ctypes.create_string_buffer(65536)
        try:
            return _load(kernel, code, log)
        except OSError as again:
            said = "; ".join(log.value.decode(errors="replace").splitlines())
            raise OSError(again.errno, f"{again.strerror}{f' ({said})' if said else ''}") from None


def _load(kernel: Kernel, code: bytes, log: ctypes.Array[ctypes.c_char] | None) -> int:
    program, license = ctypes.create_string_buffer(code, len(code)), ctypes.create_string_buffer(b"MIT")
    attr = b"".join((
        BPF_PROG_TYPE_CGROUP_DEVICE.to_bytes(4, "little"), (len(code) // 8).to_bytes(4, "little"),
        ctypes.addressof(program).to_bytes(8, "little"), ctypes.addressof(license).to_bytes(8, "little"),
        (1 if log else 0).to_bytes(4, "little"), (len(log) if log else 0).to_bytes(4, "little"),
        (ctypes.addressof(log) if log else 0).to_bytes(8, "little"),
        bytes(8), b"nano_devices".ljust(16, b"\0"),  # kern_version, prog_flags; prog_name
    ))  # fmt: skip
    return kernel.bpf(BPF_PROG_LOAD, attr)


def attach(kernel: Kernel, cgroup_fd: int, prog_fd: int) -> None:
    """From now on the program judges all processes in the cgroup and below. The program's file may be closed."""
    kernel.bpf(BPF_PROG_ATTACH, _target(cgroup_fd, prog_fd, BPF_F_ALLOW_MULTI))


def _target(cgroup_fd: int, prog_fd: int, flags: int) -> bytes:
    return b"".join(field.to_bytes(4, "little") for field in (cgroup_fd, prog_fd, BPF_CGROUP_DEVICE, flags))
