"""Seccomp: a filter over system calls, so that a container cannot reach parts of the kernel it does not need.

seccomp(2) takes a classic BPF program that judges every system call of this process and all its children from then on;
it can never be taken off again. The program comes from a profile (seccomp_profile.py reads it, cbpf.py compiles it),
which takes some 12 ms. So compiled programs are kept in a directory of ours, one file for each combination of profile,
machine, capabilities and kernel version, and a start reads one small file.

The built-in profile, seccomp_default.json, is docker's, unchanged (moby/profiles, Apache License 2.0).

Flags: where the profile does not name any we set SECCOMP_FILTER_FLAG_SPEC_ALLOW, as runc (since 1.2) and crun do.
Without it kernels before 5.16 switch off speculative store bypass for every filtered process, which costs much and
helps only programs that run foreign code; those can ask for it themselves (prctl(2), PR_SET_SPECULATION_CTRL).

A filter that is loaded without no_new_privs needs CAP_SYS_ADMIN, so it must be loaded before capabilities are dropped
then, and after them otherwise.
"""

from __future__ import annotations

import errno
import os
import zlib

from ..errors import InvalidInput, NotPermitted
from ..paths import make_dirs, rewrite_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .seccomp_profile import Profile

DEFAULT = ("default", "builtin")  # names of the built-in profile, which is docker's
DEFAULT_FLAGS = 4  # SECCOMP_FILTER_FLAG_SPEC_ALLOW
# Part of every key; they change when the compiler or the built-in profile does, and a test watches over that.
COMPILER = 1
DEFAULT_CHECKSUM = 0x66AC94EC
_MAGIC = b"seccomp1"
_HEAD = 20  # magic, flags, length of the program, checksum


def program(profile: str, machine: str, capabilities: int, kernel: str, cache: str = "") -> bytes:
    """The compiled filter, for Kernel.seccomp_set_filter.

    profile: "default" (or "builtin", docker's word) or the path of a JSON file in docker's or the OCI's format.
    machine: os.uname().machine.
    capabilities: the container's bounding set, as a mask. kernel: os.uname().release.
    cache: a directory only we can write to, made where it is missing; empty: compile anew, keep nothing.
    InvalidInput names file and field, NotPermitted where others can write to the cache.
    """
    return _filter(profile, machine, capabilities, kernel, cache)[0]


def flags(profile: str, machine: str, capabilities: int, kernel: str, cache: str = "") -> int:
    """The flags for Kernel.seccomp_set_filter that go with program(...)."""
    return DEFAULT_FLAGS if profile in DEFAULT else _filter(profile, machine, capabilities, kernel, cache)[1]


def blocked(profile: str, machine: str, capabilities: int, kernel: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of this machine's system calls that never pass, and of those that pass with some arguments only."""
    from . import sysnames
    from .seccomp_profile import ALLOW, LOG, verdicts

    judged = _read(profile, _text(profile), machine, capabilities, kernel)
    passes = (ALLOW, LOG)
    table = verdicts(judged, machine)
    never, sometimes = [], []
    for name, nr in sysnames.numbers(machine).items():
        verdict = table.get(nr, judged.default)
        outcomes = {verdict} if isinstance(verdict, int) else {action for _, action in verdict[1]} | {verdict[2]}
        if outcomes.isdisjoint(passes):
            never.append(name)
        elif not outcomes.issubset(passes):
            sometimes.append(name)
    return tuple(sorted(never)), tuple(sorted(sometimes))


def _filter(profile: str, machine: str, capabilities: int, kernel: str, cache: str) -> tuple[bytes, int]:
    """Program and flags, from the cache or compiled into it."""
    text = "" if profile in DEFAULT else _text(profile)
    path = ""
    if cache:
        # minKernel in a profile looks at the first two numbers only
        key = f"{_mark(text)}-{machine}-{capabilities:x}-{'.'.join(kernel.split('.')[:2])}-{COMPILER}"
        path = f"{cache}/{key}.bpf"
        if found := _load(path, key, cache):
            return found
    from .seccomp_profile import compile

    judged = _read(profile, text or _text(profile), machine, capabilities, kernel)
    code = compile(judged)
    flags = DEFAULT_FLAGS if judged.flags is None else judged.flags
    if path:
        make_dirs(cache)
        body = flags.to_bytes(4, "little") + len(code).to_bytes(4, "little") + code
        rewrite_file(path, _MAGIC + body[:8] + _checksum(key, body) + code)
    return code, flags


def _read(profile: str, text: str, machine: str, capabilities: int, kernel: str) -> Profile:
    from .seccomp_profile import read

    return read(text, profile, machine, capabilities, kernel)


def _text(profile: str) -> str:
    path = f"{os.path.dirname(__file__)}/seccomp_default.json" if profile in DEFAULT else profile
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, ValueError) as error:
        why = (error.strerror if isinstance(error, OSError) else str(error)) or ""
        raise InvalidInput(f"cannot read seccomp profile {profile}", why, "give the path of a JSON file") from None


def _mark(text: str) -> str:
    """A short name for a profile's text. Two checksums and the length: against mistakes, not against an attacker, who
    would have to be the one that chooses the profile anyhow."""
    if not text:
        return f"default{DEFAULT_CHECKSUM:08x}"
    data = text.encode()
    return f"{zlib.crc32(data):08x}{zlib.adler32(data):08x}{len(data):x}"


def _checksum(key: str, body: bytes) -> bytes:
    return zlib.crc32(body, zlib.crc32(key.encode())).to_bytes(4, "little")


def _load(path: str, key: str, cache: str) -> tuple[bytes, int] | None:
    """What a file in the cache holds; None where there is none or it is damaged: it is then made anew."""
    try:
        directory = os.stat(cache)
        # Whoever can write here could switch the filter off.
        if directory.st_uid != os.geteuid() or directory.st_mode & 0o022:
            why = "other users can write there"
            raise NotPermitted(f"will not keep seccomp programs in {cache}", why, f"chmod 700 {cache}")
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP):  # ELOOP: a link
            return None
        raise
    try:
        data = os.read(fd, 65536)  # 4096 instructions are 32 KiB
    except IsADirectoryError:
        return None
    finally:
        os.close(fd)
    size = int.from_bytes(data[12:16], "little")
    body = data[8:16] + data[_HEAD:]
    if data[:8] != _MAGIC or not size or len(data) != _HEAD + size or data[16:20] != _checksum(key, body):
        return None
    return data[_HEAD:], int.from_bytes(data[8:12], "little")
