"""System calls as strace(1) writes them: `fsopen("overlay", FSOPEN_CLOEXEC) = $fs`. Flags by name, structs by field.

The arguments are what the kernel would get: numbers, pointers to bytes, packed structs. Names come from abi.py's
constants, by their prefix. What is born at run time has a name instead of a number: an open file, a process, a user are
`Known`, and shown as $name.
"""

from __future__ import annotations

import ctypes
import os

from ..lean import signals
from . import abi, caps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    # An argument: how it is shown, given what is known by its number
    Shown = Callable[[Any, "Names"], str]


class Known(int):
    """A number that stands for something: shown as $label. path: of an open file, as far as it is known."""

    label = ""
    path = ""

    def __format__(self, how: str) -> str:
        return f"${self.label}"  # in a path that is made of it


class Word(str):
    """Text that is notation already: shown without quotes."""


_FIRST, _APART = 1 << 29, 16


class Names:
    """What is known: open files, processes, interfaces, by the numbers that stand for them."""

    def __init__(self) -> None:
        self.known: dict[int, Known] = {}
        self.interfaces: dict[int, str] = {1: "lo"}

    def new(self, label: str, path: str = "") -> Known:
        """A number nobody else has, for something of this name."""
        made = Known(_FIRST + _APART * len(self.known))
        made.label, made.path = label, path
        self.known[int(made)] = made
        return made

    def find(self, number: int) -> Known | None:
        return number if isinstance(number, Known) else self.known.get(number)

    def shown(self, number: int) -> str:
        """$label; a neighbour of an open file's number as $label-1, $label+1; any other number in digits."""
        found = self.find(number)
        if found is None and number >= _FIRST - 1:
            for away in (1, -1):
                if (near := self.known.get(number + away)) is not None:
                    return f"${near.label}{-away:+}"
        return f"${found.label}" if found is not None else str(int(number))


class Call:
    """One call: its name, the arguments as the kernel gets them, and what it returned."""

    def __init__(self, name: str, args: tuple[Any, ...], result: Any = None) -> None:
        self.name, self.args, self.result = name, args, result

    def texts(self, names: Names) -> tuple[str, ...]:
        """The arguments in notation."""
        how = SIGNATURES.get(self.name, ())
        return tuple(
            how[index](arg, names) if index < len(how) and not isinstance(arg, Word) else value(arg, names)
            for index, arg in enumerate(self.args)
        )

    def returned(self, names: Names) -> str:
        """What it returned, where that has a name; an error's name where it failed."""
        if isinstance(self.result, Known):
            return f"${self.result.label}"
        if isinstance(self.result, Word):
            return f"-1 {self.result}" if self.result[:1] == "E" else str(self.result)
        return ""


def value(arg: Any, names: Names) -> str:
    """Anything as it is: a known thing by name, text in quotes, a number in digits."""
    if isinstance(arg, Word):
        return str(arg)
    if arg is None:
        return "NULL"
    if isinstance(arg, (str, bytes)):
        return quoted(arg)
    if isinstance(arg, (tuple, list)):
        return f"[{', '.join(value(one, names) for one in arg)}]"
    if isinstance(arg, dict):
        return f"{{{', '.join(f'{key}={value(one, names)}' for key, one in arg.items())}}}"
    return names.shown(arg)


def quoted(text: str | bytes, most: int = 240) -> str:
    """Text in double quotes with C's escapes; what is longer is cut, as strace does it."""
    data = os.fsencode(text) if isinstance(text, str) else text.rstrip(b"\0")
    shown = ""
    for character in data[:most].decode(errors="backslashreplace"):
        if character in '"\\':
            shown += f"\\{character}"
        elif character.isprintable():
            shown += character
        else:
            shown += {"\n": "\\n", "\t": "\\t"}.get(character, f"\\{ord(character):o}")
    return f'"{shown}"{"..." if len(data) > most else ""}'


def _constants(*prefixes: str, source: Any = abi) -> dict[str, int]:
    return {name: number for name, number in vars(source).items() if name.startswith(prefixes)}


def flags(prefix: str | dict[str, int], zero: str = "0") -> Shown:
    """A set of bits: the names with this prefix, joined by |."""
    table = _constants(prefix) if isinstance(prefix, str) else prefix
    bits = sorted(((number, name) for name, number in table.items() if number), key=lambda one: -one[0].bit_count())

    def shown(arg: Any, names: Names) -> str:
        rest, found = int(arg), []
        for number, name in bits:
            if rest & number == number:
                found.append((number, name))
                rest &= ~number
        words = [name for _, name in sorted(found)] + ([hex(rest)] if rest else [])
        return "|".join(words) or zero

    return shown


def one_of(prefix: str | dict[str, int]) -> Shown:
    """One constant: the name with this prefix and value."""
    table = _constants(prefix) if isinstance(prefix, str) else prefix
    words = {number: name for name, number in reversed(table.items())}
    return lambda arg, names: words.get(int(arg), str(int(arg)))


def directory(arg: Any, names: Names) -> str:
    return "AT_FDCWD" if arg is None or arg == abi.AT_FDCWD else value(arg, names)


def octal(arg: Any, names: Names) -> str:
    return f"0{int(arg):o}" if arg else "0"


def anything(arg: Any, names: Names) -> str:
    return value(arg, names)


def open_flags(arg: Any, names: Names) -> str:
    """open(2): the access mode is a number of its own, and O_PATH has none that counts."""
    number = int(arg)
    mode = ("O_RDONLY", "O_WRONLY", "O_RDWR")[number & 3]
    rest = _open_bits(number & ~3, names)
    if number & abi.O_PATH:
        return rest
    return mode if rest == "0" else f"{mode}|{rest}"


# O_NOFOLLOW and others differ between machines: Python knows this one's.
_open_bits = flags({
    **{f"O_{name}": getattr(os, f"O_{name}") for name in (
        "CREAT", "EXCL", "NOCTTY", "TRUNC", "APPEND", "NONBLOCK", "DIRECTORY", "NOFOLLOW", "CLOEXEC",
    )}, "O_PATH": abi.O_PATH,
})  # fmt: skip


def capability(arg: Any, names: Names) -> str:
    return caps.NAMES[arg] if 0 <= arg <= caps.LAST else str(int(arg))


def capabilities(mask: int) -> str:
    return "|".join(caps.names(mask)) or "0"


def signal(arg: Any, names: Names) -> str:
    for name in ("SIGHUP", "SIGINT", "SIGQUIT", "SIGKILL", "SIGPIPE", "SIGTERM", "SIGCONT", "SIGXFSZ", "SIGCHLD"):
        if getattr(signals, name) == arg:
            return name
    return str(int(arg))


def _words(data: bytes, size: int = 8) -> list[int]:
    return [int.from_bytes(data[at : at + size], "little") for at in range(0, len(data), size)]


def _struct(*fields: tuple[str, str]) -> str:
    """A struct without the fields that are zero."""
    return f"{{{', '.join(f'{name}={text}' for name, text in fields if text not in ('', '0'))}}}"


_clone_flags, _resolve = flags("CLONE_"), flags("RESOLVE_")
_attributes, _propagation = flags("MOUNT_ATTR_"), flags("MS_")
_bpf_commands = {"BPF_PROG_LOAD": 5, "BPF_PROG_ATTACH": 8}  # linux/bpf.h
_RLIMITS = {
    f"RLIMIT_{name}": number
    for number, name in enumerate(
        "CPU FSIZE DATA STACK CORE RSS NPROC NOFILE MEMLOCK AS LOCKS SIGPENDING MSGQUEUE NICE RTPRIO RTTIME".split()
    )
}
_PRCTL = {name: number for name, number in _constants("PR_").items() if not name.startswith("PR_CAP_AMBIENT_")}
_IOCTLS = {
    **_constants("TIOC"), "TIOCSPGRP": 0x5410, "FIOCLEX": 0x5451, "FIONCLEX": 0x5450,
}  # fmt: skip


def _open_how(arg: bytes, names: Names) -> str:
    bits, mode, resolve = _words(arg)
    return _struct(
        ("flags", open_flags(bits, names)), ("mode", octal(mode, names)), ("resolve", _resolve(resolve, names))
    )


def _clone_args(arg: bytes, names: Names) -> str:
    bits, pidfd, _, _, exit_signal, _, _, _, _, _, cgroup = _words(arg)
    return _struct(
        ("flags", _clone_flags(bits, names)),
        ("pidfd", "&$pidfd" if pidfd else ""),
        ("exit_signal", signal(exit_signal, names)),
        ("cgroup", value(cgroup, names)),
    )


def _mount_attr(arg: bytes, names: Names) -> str:
    set, clear, propagation, userns = _words(arg)
    return _struct(
        ("attr_set", _attributes(set, names)),
        ("attr_clr", _attributes(clear, names)),
        ("propagation", _propagation(propagation, names)),
        ("userns_fd", value(userns, names)),
    )


def _capability_sets(arg: bytes, names: Names) -> str:
    numbers = _words(arg, 4)
    masks = [numbers[at] | numbers[at + 3] << 32 for at in range(3)]
    said = zip(("effective", "permitted", "inheritable"), masks, strict=True)
    return f"{{{', '.join(f'{name}={capabilities(mask)}' for name, mask in said)}}}"


def _rlimit(arg: bytes, names: Names) -> str:
    soft, hard = (str(number) if number >> 63 == 0 else "RLIM_INFINITY" for number in _words(arg))
    return f"{{rlim_cur={soft}, rlim_max={hard}}}"


def _bpf_attr(arg: bytes, names: Names) -> str:
    numbers = _words(arg[:16], 4)
    if len(arg) > 16:  # BPF_PROG_LOAD: struct of bpf_attr with prog_type, insn_cnt, insns, license, ...
        return f'{{prog_type=BPF_PROG_TYPE_CGROUP_DEVICE, insn_cnt={numbers[1]}, prog_name="nano_devices"}}'
    target, program, _, bits = numbers
    return _struct(
        ("target_fd", value(target, names)),
        ("attach_bpf_fd", value(program, names)),
        ("attach_type", "BPF_CGROUP_DEVICE"),
        ("attach_flags", "BPF_F_ALLOW_MULTI" if bits == 2 else str(bits)),
    )


_at, _open_tree = flags({"AT_EMPTY_PATH": 0x1000, "AT_RECURSIVE": 0x8000, "AT_SYMLINK_NOFOLLOW": 0x100}), flags({
    "OPEN_TREE_CLONE": 1, "AT_RECURSIVE": abi.AT_RECURSIVE, "AT_EMPTY_PATH": abi.AT_EMPTY_PATH,
    "OPEN_TREE_CLOEXEC": abi.OPEN_TREE_CLOEXEC,
})  # fmt: skip


def _node_mode(arg: Any, names: Names) -> str:
    kinds = {0o020000: "S_IFCHR", 0o060000: "S_IFBLK", 0o010000: "S_IFIFO", 0o100000: "S_IFREG"}
    kind = kinds.get(arg & 0o170000)
    return f"{kind}|0{arg & 0o7777:o}" if kind else f"0{arg:o}"


def _device(arg: Any, names: Names) -> str:
    return f"makedev({os.major(arg)}, {os.minor(arg)})"


def _environment(arg: Any, names: Names) -> str:
    return "[" + ", ".join(quoted(f"{key}={text}") for key, text in arg.items()) + "]"


def prctl_args(option: int, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments that an option has, as words where they have names."""
    first = args[0] if args else 0
    nobody = Names()
    if option == abi.PR_CAPBSET_DROP:
        return (Word(capability(first, nobody)),)
    if option == abi.PR_SET_PDEATHSIG:
        return (Word(signal(first, nobody)),)
    if option == abi.PR_CAP_AMBIENT:
        return (Word(one_of("PR_CAP_AMBIENT_")(first, nobody)),)
    if option == abi.PR_SET_DUMPABLE:
        return (Word("SUID_DUMP_DISABLE") if first == 0 else first,)
    if option == abi.PR_SET_NAME:
        return (ctypes.string_at(first),)
    if option == abi.PR_SET_NO_NEW_PRIVS:
        return (first, 0, 0, 0)
    return (first,)


_fd = anything
SIGNATURES: dict[str, tuple[Shown, ...]] = {
    # mounts
    "fsopen": (anything, flags("FSOPEN_")),
    "fsconfig": (_fd, one_of("FSCONFIG_"), anything, anything, anything),
    "fsmount": (_fd, flags("FSMOUNT_"), flags("MOUNT_ATTR_")),
    "open_tree": (directory, anything, _open_tree),
    "move_mount": (_fd, anything, directory, anything, flags("MOVE_MOUNT_")),
    "mount_setattr": (_fd, anything, _at, _mount_attr, anything),
    "mount": (anything, anything, anything, flags("MS_"), anything),
    "umount2": (anything, flags({"MNT_DETACH": 2, "UMOUNT_NOFOLLOW": 8})),
    # processes and namespaces
    "clone3": (_clone_args, anything),
    "unshare": (flags("CLONE_"),),
    "setns": (_fd, flags("CLONE_")),
    "pidfd_send_signal": (_fd, signal, anything, anything),
    "kill": (anything, signal),
    "rt_sigaction": (signal,),
    "execve": (anything, anything, _environment),
    "execveat": (_fd, anything, anything, _environment, _at),
    # identity and confinement
    "prctl": (one_of(_PRCTL),),
    "capset": (lambda arg, names: "{version=_LINUX_CAPABILITY_VERSION_3}", _capability_sets),
    "prlimit64": (anything, one_of(_RLIMITS), _rlimit, anything),
    "close_range": (anything, lambda arg, names: "~0U" if arg == 0xFFFFFFFF else value(arg, names),
                    flags("CLOSE_RANGE_")),
    "keyctl": (one_of("KEYCTL_"), anything),
    "seccomp": (one_of("SECCOMP_SET_MODE_"), flags("SECCOMP_FILTER_FLAG_")),
    "bpf": (one_of(_bpf_commands), _bpf_attr, anything),
    # files
    "openat": (directory, anything, open_flags, octal),
    "openat2": (directory, anything, _open_how, anything),
    "fstatat": (directory, anything),
    "mkdirat": (directory, anything, octal),
    "mkdir": (anything, octal),
    "mknodat": (directory, anything, _node_mode, _device),
    "symlinkat": (anything, directory, anything),
    "readlinkat": (directory, anything),
    "unlinkat": (directory, anything),
    "fchownat": (directory, anything),
    "chmod": (anything, octal),
    "fchmod": (_fd, octal),
    "fchmodat": (directory, anything, octal),
    "umask": (octal,),
    "ioctl": (_fd, one_of(_IOCTLS)),
    "memfd_create": (anything, flags({"MFD_CLOEXEC": 1, "MFD_ALLOW_SEALING": 2, "MFD_EXEC": abi.MFD_EXEC})),
}  # fmt: skip
