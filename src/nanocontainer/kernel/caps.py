"""Capabilities: root's powers in pieces, one bit each (capabilities(7)).

A process has five sets. *Bounding* is the ceiling: what is not in it can never be gained again, not even through a
set-user-ID root program. *Permitted* is what it may use, *effective* what the kernel looks at now. *Inheritable* and
*ambient* pass capabilities through execve(2) to programs that are not root's.

A container gets one mask, decided here: bounding, permitted and effective are that mask for root inside; for another
user permitted and effective are lost at execve(2), only the ceiling stays. Inheritable and ambient are empty, as in
docker since CVE-2022-24769 (inheritable file capabilities would otherwise be gained by any user). Dropping from the
bounding set is one prctl(PR_CAPBSET_DROP) per capability and needs CAP_SETPCAP: so the bounding set first, the others
after it.
"""

from __future__ import annotations

from ..errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# linux/capability.h, in the order of their numbers from 0 on (up to Linux 7.2)
_NAMES = """
CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN
SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE
MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE
"""
NAMES = tuple(f"CAP_{name}" for name in _NAMES.split())
NUMBERS = {name: number for number, name in enumerate(NAMES)}
LAST = len(NAMES) - 1  # the last one we know; /proc/sys/kernel/cap_last_cap says which one the kernel knows

# docker's 14: CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_RAW SYS_CHROOT MKNOD
# AUDIT_WRITE SETFCAP
DEFAULT = 0xA80425FB


def names(mask: int) -> tuple[str, ...]:
    """The names of the capabilities in a mask, with CAP_, in the order of their numbers."""
    return tuple(name for number, name in enumerate(NAMES) if mask >> number & 1)


def everything(last: int) -> int:
    """All capabilities of a kernel whose last one has this number, also those we have no name for."""
    return (1 << last + 1) - 1


def granted(add: Iterable[str], drop: Iterable[str], privileged: bool, last: int, available: int = -1) -> int:
    """The mask of a container, as docker decides it.

    add, drop: names with or without CAP_, in any case, or ALL. privileged: all there are; add and drop do not count.
    last: /proc/sys/kernel/cap_last_cap. available: our own bounding set (CapBnd in /proc/self/status); nobody can give
    what he may not have, and an engine inside a container has less.

    Order: with add ALL, all but the dropped ones; else with drop ALL, only the added ones; else the default without the
    dropped ones and with the added ones (an added one stays, though it is dropped too).
    InvalidInput for a name that is unknown, or that this kernel or host lacks.
    """
    every = everything(last) & available
    if privileged:
        return every
    added, dropped = _masks(add, every), _masks(drop, every)
    if added < 0:
        return every & ~dropped if dropped >= 0 else every
    if dropped < 0:
        return added
    return DEFAULT & every & ~dropped | added


def _masks(wanted: Iterable[str], every: int) -> int:
    """Names to a mask; -1 (all bits) with ALL among them."""
    mask = 0
    for given in wanted:
        name = given.upper()
        if name == "ALL":
            mask = -1
            continue
        name = name if name.startswith("CAP_") else f"CAP_{name}"
        number = NUMBERS.get(name)
        if number is None:
            raise InvalidInput(f"unknown capability {given!r}", "", "see capabilities(7) for their names")
        if not every >> number & 1:
            raise InvalidInput(f"no capability {name}", "this kernel does not have it, or we may not give it away")
        mask |= 1 << number
    return mask
