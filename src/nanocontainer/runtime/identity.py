"""Who the process is: user, groups, resource limits (credentials(7), getrlimit(2))."""

from __future__ import annotations

from ..errors import InvalidInput
from ..kernel import abi, safepath
from ..plan.step import Step, World, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar

    from ..plan.step import Side

HIGHEST = (1 << 32) - 2


class LookUpUser(Step):
    """Who shall run: names are looked up in the container's own /etc/passwd and /etc/group.

    user: "", "uid", "name", each with ":gid" or ":group". groups: additional ones. The files are the image's, and
    hostile: they are read by openat2 inside the root, not longer than 1 MiB, never from a fifo.
    """

    side: ClassVar[Side] = "host"
    part: ClassVar[str] = "inside"

    user: str = ""
    groups: tuple[str, ...] = ()

    def reads(self) -> tuple[str, ...]:
        return ("rootfs",)

    def writes(self) -> tuple[str, ...]:
        return ("uid", "gid", "groups", "home")

    def do(self, world: World) -> None:
        passwd = safepath.read_small_in(world.kernel, world["rootfs"], "/etc/passwd")
        group = safepath.read_small_in(world.kernel, world["rootfs"], "/etc/group")
        found = resolve_user(self.user, self.groups, _lines(passwd, 7), _lines(group, 4))
        world["uid"], world["gid"], world["groups"], world["home"] = found

    def explain(self) -> str:
        return (
            f"Find out who {self.user or 'root'!r} is: user and group numbers and the home directory, from the "
            "container's own /etc/passwd and /etc/group (passwd(5), group(5))."
        )

    def shell(self) -> str:
        wanted, _, group = self.user.partition(":")
        lines = [f"look_up_user {quote(wanted or '0')}"]
        if group:
            lines += [f"gid=$(group {quote(group)})", "groups=$gid"]
        lines += [f'groups="$groups,$(group {quote(name)})"' for name in self.groups]
        return "\n".join(lines)


def _lines(data: bytes, fields: int) -> list[list[str]]:
    rows = [line.split(":") for line in data.decode(errors="replace").splitlines()]
    return [row for row in rows if len(row) >= fields]


def resolve_user(
    user: str, extra: tuple[str, ...], passwd: list[list[str]], group: list[list[str]]
) -> tuple[int, int, tuple[int, ...], str]:
    """(uid, gid, supplementary groups, home), by docker's rules. InvalidInput for a name that is not there."""
    wanted, _, wanted_group = user.partition(":")
    entry = None
    if wanted and not _is_number(wanted):
        entry = next((row for row in passwd if row[0] == wanted), None)
        if entry is None:
            raise InvalidInput(
                f"unable to find user {wanted}", "no matching entries in the container's /etc/passwd", "use a number"
            )
        uid = _number(entry[2], "uid")
    else:
        uid = _number(wanted or "0", "uid")
        entry = next((row for row in passwd if row[2] == str(uid)), None)
    gid = _number(entry[3], "gid") if entry else 0
    groups: list[int] = []
    if wanted_group:
        gid = _group(wanted_group, group)
    elif entry:
        groups = [_number(row[2], "gid") for row in group if entry[0] in row[3].split(",")]
    groups += [_group(name, group) for name in extra]
    return uid, gid, tuple(dict.fromkeys((gid, *groups))), (entry[5] if entry else "") or "/"


def _group(name: str, group: list[list[str]]) -> int:
    if _is_number(name):
        return _number(name, "gid")
    for row in group:
        if row[0] == name:
            return _number(row[2], "gid")
    raise InvalidInput(
        f"unable to find group {name}", "no matching entries in the container's /etc/group", "use a number"
    )


def _number(text: str, what: str) -> int:
    if _is_number(text) and len(text) <= 20 and int(text) <= HIGHEST:
        return int(text)
    raise InvalidInput(f"invalid {what} {text[:40]!r}", f"must be a number from 0 to {HIGHEST}")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()  # "²" is a digit, too


class SetLimits(Step):
    """Resource limits of the process and its children (--ulimit).

    limits: (name as in setrlimit(2) in lower case, soft, hard); -1 is unlimited.
    """

    limits: tuple[tuple[str, int, int], ...]

    def do(self, world: World) -> None:
        for name, soft, hard in self.limits:
            world.kernel.setrlimit(RLIMITS[name], soft, hard)

    def explain(self) -> str:
        said = ", ".join(f"{name} {soft}:{hard}" for name, soft, hard in self.limits)
        return f"Limit what each process may use: {said}, soft and hard (setrlimit(2))."

    def shell(self) -> str:
        said = (f"--{name}={_limit(soft)}:{_limit(hard)}" for name, soft, hard in self.limits)
        return f"prlimit --pid $$ {' '.join(said)}"


def _limit(value: int) -> str:
    return "unlimited" if value < 0 else str(value)


# asm-generic/resource.h
RLIMITS = {
    "cpu": 0, "fsize": 1, "data": 2, "stack": 3, "core": 4, "rss": 5, "nproc": 6, "nofile": 7, "memlock": 8, "as": 9,
    "locks": 10, "sigpending": 11, "msgqueue": 12, "nice": 13, "rtprio": 14, "rttime": 15,
}  # fmt: skip


class SetOomScore(Step):
    """How gladly the kernel kills this process when memory runs out."""

    score: int

    def do(self, world: World) -> None:
        world.kernel.write_file("/proc/self/oom_score_adj", str(self.score).encode())

    def explain(self) -> str:
        return (
            f"Set how gladly the kernel kills this process when memory runs out, to {self.score} of -1000 to 1000 "
            "(proc_pid_oom_score_adj(5))."
        )

    def shell(self) -> str:
        return f"echo {self.score} >/proc/self/oom_score_adj"


class SetIds(Step):
    """Become the user: groups first, then the group, then the user, while one still may."""

    part: ClassVar[str] = "privileges"

    def reads(self) -> tuple[str, ...]:
        return ("uid", "gid", "groups")

    def do(self, world: World) -> None:
        kernel = world.kernel
        kernel.prctl(abi.PR_SET_KEEPCAPS, 1)  # a change from root drops capabilities, and SetCapabilities needs them
        kernel.setgroups(world["groups"])
        kernel.setresgid(world["gid"], world["gid"], world["gid"])
        kernel.setresuid(world["uid"], world["uid"], world["uid"])

    def explain(self) -> str:
        return (
            "Become the user, groups first and the user last, because whoever is no longer root may not change "
            "groups (setgroups(2), setresuid(2), credentials(7))."
        )

    def shell(self) -> str:
        return '--reuid="$uid" --regid="$gid" --groups="$groups"'
