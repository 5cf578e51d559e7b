"""From a refused system call to its cause, in words, and to the flag that would allow it and what that costs.

A refusal does not say where it comes from: EPERM may be the seccomp filter, a missing capability, a device rule, or the
file's owner. But all of these can be asked: the filter is a program that can be run with this call's arguments, the
capabilities stand in /proc, the rules and flags in the container's specification, the mount in its mount table. So the
causes are gone through in the order in which the kernel asks them: filter, mount, device, capability, permissions,
limits. The first that refuses is the one that was met; what would be met behind it is named too, or the advice would
not help.
"""

from __future__ import annotations

from ..kernel.caps import NAMES, NUMBERS
from ..kernel.capwords import DANGEROUS
from .denials import INSTEAD_CALL, finding, with_capability
from .denied_calls import capability
from .denied_files import device, masked, noexec, not_raised, permissions, read_only, unreadable
from .denied_limits import limits, memory, namespaces, network, pids, space

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .denials import About, Finding, Seen

_PASSES = (0x7FFF0000, 0x7FFC0000)  # SECCOMP_RET_ALLOW, SECCOMP_RET_LOG
_ACTION = 0xFFFF0000
_ERRNO = 0x00050000  # SECCOMP_RET_ERRNO
_FALLS_BACK = {"clone3": "the C library takes clone(2) instead, as it does on old kernels"}
UNCONFINED = "--security-opt seccomp=unconfined"
_COST_UNCONFINED = (
    "all system calls of the kernel are open, the rarely used ones too in which most escapes were found; a profile of "
    "your own that allows this one call more is much better: --security-opt seccomp=FILE"
)


def judge(seen: Seen, about: About) -> Finding:
    """The finding for one kind of refusal."""
    for ask in _QUESTIONS:
        found = ask(seen, about)
        if found is not None:
            break
    else:
        why = f"the kernel answers {seen.error}, and no wall of the container's is the cause"
        found = finding(seen, "kernel", why)
    return found.replace(count=seen.count, first=seen.first, last=seen.last)


def _seccomp(seen: Seen, about: About) -> Finding | None:
    if seen.filter < 0 or seen.filter & _ACTION in _PASSES:
        return None
    answer = f"answers {seen.error}" if seen.filter & _ACTION == _ERRNO else "kills whoever makes this call"
    if seen.own_filter:
        why = f"a seccomp filter that the program itself has loaded {answer} for {seen.call}(2): its own sandbox"
        return finding(seen, "seccomp", why, harmless=True)
    why = f"the seccomp filter ({about.profile} profile) {answer} for {seen.call}(2)"
    needed = capability(seen.call, seen.args, seen.path)
    if seen.call in _FALLS_BACK:
        return finding(seen, "seccomp", f"{why}; {_FALLS_BACK[seen.call]}", harmless=True)
    for name in dict.fromkeys((needed, *DANGEROUS, *NAMES)):
        if not name or about.keep >> NUMBERS[name] & 1:
            continue
        if about.passes(seen.machine, seen.call, seen.args, about.keep | 1 << NUMBERS[name]):
            return with_capability(seen, about, name, "seccomp", f"{why} as long as the container has no {name}")
    if needed and not seen.effective >> NUMBERS[needed] & 1:
        found = with_capability(seen, about, needed, "seccomp", f"{why}; and the process has no {needed}")
        return found.replace(flags=(UNCONFINED, *found.flags), cost=f"{_COST_UNCONFINED}. {found.cost}")
    return finding(seen, "seccomp", why, (UNCONFINED,), _COST_UNCONFINED, INSTEAD_CALL.get(seen.call, ""))


def _capability(seen: Seen, about: About) -> Finding | None:
    if seen.error not in ("EPERM", "EACCES"):
        return None
    name = capability(seen.call, seen.args, seen.path)
    if not name or seen.effective >> NUMBERS[name] & 1:
        return None
    if name == "CAP_SYS_PTRACE" and seen.path and unreadable(seen):
        return None  # a plain question of the file's mode
    if about.keep >> NUMBERS[name] & 1:
        why = f"it runs as user {seen.uid}, and only root has the container's {name}"
        if seen.uid == 0:
            why = f"the process has given its {name} away"
    else:
        why = f"the container has no {name}"
    if seen.call in ("setxattr", "lsetxattr", "fsetxattr", "fchmod", "chmod", "utimensat") and seen.owner == seen.uid:
        return None
    return with_capability(seen, about, name, "capability", why)


# in the order in which the kernel asks
_QUESTIONS = (
    masked, not_raised, _seccomp, noexec, read_only, device, limits, pids, _capability, permissions, memory, space,
    network, namespaces,
)  # fmt: skip
