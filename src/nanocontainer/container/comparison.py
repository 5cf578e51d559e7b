"""The isolation of two sides, row by row: what is shared, what differs, which of them is weaker, and why.

Weaker means: a process that was taken over can do more to the host or to others. A row judges one subject; there is no
sum, because one hole can be worth more than ten walls.
"""

from __future__ import annotations

from ..kernel.caps import NAMES
from ..kernel.capwords import ALLOWS, DANGEROUS
from ..record import Record
from .anatomy_security import seccomp_word
from .sides import side, with_filters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .lifecycle import Lifecycle
    from .sides import Side

SAME, A_WEAKER, B_WEAKER, DIFFERENT = "same", "A weaker", "B weaker", "different"

_SHARING = {
    "mnt": "it sees the host's mounts and files",
    "pid": "it sees the host's processes, and can signal those of its user",
    "net": "it uses the host's interfaces and ports, 127.0.0.1 and abstract sockets among them",
    "uts": "it has the host's name, and with SYS_ADMIN sets it",
    "ipc": "it reaches the host's shared memory and queues",
    "cgroup": "it sees where in the host's tree it is",
    "user": "root inside is root of the host",
    "time": "it sees the host's uptime",
}


class Row(Record):
    """subject: what is compared; a, b: what the sides have, in words; verdict: same, A weaker, B weaker or different
    (neither is clearly weaker); why: in words, may be empty where both are the same."""

    subject: str
    a: str
    b: str
    verdict: str
    why: str = ""


class Comparison(Record):
    """a, b: the names of the sides, and their processes; rows: in the order of what matters."""

    a: str
    b: str
    a_pid: int
    b_pid: int
    rows: tuple[Row, ...]

    def count(self, verdict: str) -> int:
        return sum(row.verdict == verdict for row in self.rows)

    @property
    def summary(self) -> str:
        """One sentence or two."""
        a, b = self.count(A_WEAKER), self.count(B_WEAKER)
        if not a and not b:
            return f"Neither is weaker: of {len(self.rows)} subjects {self.count(SAME)} are the same."
        words = []
        for name, count, verdict in ((self.a, a, A_WEAKER), (self.b, b, B_WEAKER)):
            if count:
                subjects = ", ".join(row.subject for row in self.rows if row.verdict == verdict)
                words.append(f"{name} is weaker in {count} of {len(self.rows)}: {subjects}.")
        return " ".join(words)


def compare(life: Lifecycle, first: str, second: str, *, filters: bool = False) -> Comparison:
    """Compare two sides: each "host", "pid:NUMBER", or a running container. filters: read their seccomp filters too.
    Errors of sides.side and kernel/filters.py."""
    a, b = side(life, first), side(life, second)
    if filters:
        machine = life.facts().machine
        a, b = with_filters(a, machine), with_filters(b, machine)
    return judge(a, b)


def judge(a: Side, b: Side) -> Comparison:
    """All rows. Pure: from what was seen."""
    rows = [*_namespaces(a, b), *(row(a, b) for row in _ROWS)]
    return Comparison(a.label, b.label, a.process.pid, b.process.pid, tuple(rows))


def _namespaces(a: Side, b: Side) -> list[Row]:
    """One row for all kinds with the same relation: they mostly are."""
    grouped: dict[tuple[str, str, str], list[str]] = {}
    for kind in {**a.process.namespaces, **b.process.namespaces}:
        words = ["the host's" if kind in one.host else "its own" for one in (a, b)]
        if kind not in a.host and a.process.namespaces.get(kind) == b.process.namespaces.get(kind):
            words = ["one for both", "one for both"]
        verdict = _less(kind in a.host, kind in b.host)
        grouped.setdefault((words[0], words[1], verdict), []).append(kind)
    rows = []
    for (left, right, verdict), kinds in sorted(grouped.items(), key=lambda item: item[0][2] == SAME):
        why = "; ".join(_SHARING[kind] for kind in kinds)
        if verdict == SAME:
            why = {"its own": "neither sees the other's", "the host's": "neither is separated from the host by it"}.get(
                left, "they are not separated from each other by it"
            )
        rows.append(Row(f"namespace{'s' if len(kinds) > 1 else ''} {' '.join(kinds)}", left, right, verdict, why))
    return rows


def _less(a_bad: object, b_bad: object) -> str:
    """The verdict of a yes-or-no question."""
    if bool(a_bad) == bool(b_bad):
        return SAME
    return A_WEAKER if a_bad else B_WEAKER


def _sets(a: set[str], b: set[str]) -> str:
    """The verdict of two sets of bad things: more of them is weaker."""
    if a == b:
        return SAME
    return A_WEAKER if a > b else B_WEAKER if b > a else DIFFERENT


def _list(words: tuple[str, ...] | list[str], nothing: str = "none") -> str:
    shown = ", ".join(words[:4]) + (f" and {len(words) - 4} more" if len(words) > 4 else "")
    return shown or nothing


def _user(a: Side, b: Side) -> Row:
    def root(one: Side) -> bool:
        return _outside(one) == 0

    def words(one: Side) -> str:
        uid, inside = _outside(one), _inside(one)
        return f"uid {uid}" if uid == inside else f"uid {inside} inside, {uid} outside"

    verdict = _less(root(a), root(b))
    why = "it runs as root of the host: who gets out is root" if verdict != SAME else ""
    if verdict == SAME and _outside(a) != _outside(b):
        verdict, why = DIFFERENT, "different users, none of them root"
    return Row("user", words(a), words(b), verdict, why)


def _outside(one: Side) -> int:
    return one.process.uids[1]


def _inside(one: Side) -> int:
    """The effective user in the process's own user namespace (user_namespaces(7))."""
    for line in one.process.uid_map:
        inside, outside, count = map(int, line.split())
        if outside <= _outside(one) < outside + count and "user" not in one.host:
            return inside + _outside(one) - outside
    return _outside(one)


def _capabilities(which: str, subject: str) -> Callable[[Side, Side], Row]:
    def row(a: Side, b: Side) -> Row:
        masks = [one.process.capabilities.get(which, 0) for one in (a, b)]
        sets = [{name[4:] for at, name in enumerate(NAMES) if mask >> at & 1} for mask in masks]
        verdict = _sets(*sets)
        names = [_capability_words(found) for found in sets]
        why = ""
        if verdict != SAME:
            more = [_worst(mine - theirs) for mine, theirs in ((sets[0], sets[1]), (sets[1], sets[0]))]
            why = "; ".join(f"{one.label} also has {words}" for one, words in zip((a, b), more, strict=True) if words)
        return Row(subject, names[0], names[1], verdict, why)

    return row


def _capability_words(found: set[str]) -> str:
    danger = sum(f"CAP_{name}" in DANGEROUS for name in found)
    return f"{len(found)}" + (f", {danger} dangerous" if danger else "") if found else "none"


def _worst(names: set[str]) -> str:
    """Some of them with what they allow, the dangerous ones first."""
    order = [
        name[4:] for name in (*DANGEROUS, *(name for name in ALLOWS if name not in DANGEROUS)) if name[4:] in names
    ]
    if not order:
        return ""
    first = f"{order[0]} ({ALLOWS[f'CAP_{order[0]}']})"
    return ", ".join([first, *order[1:4]]) + (f" and {len(order) - 4} more" if len(order) > 4 else "")


def _new_privileges(a: Side, b: Side) -> Row:
    words = ["on" if one.process.no_new_privs else "off" for one in (a, b)]
    verdict = _less(words[0] == "off", words[1] == "off")
    why = "set-user-ID programs give it more, up to its bounding set" if verdict != SAME else ""
    return Row("no_new_privs", words[0], words[1], verdict, why)


def _seccomp(a: Side, b: Side) -> Row:
    def words(one: Side) -> str:
        count = one.process.filters
        said = seccomp_word(one.process.seccomp) + (f", {count} of them" if count > 1 else "")
        return f"{said}, {len(one.blocked)} calls blocked" if one.judged and one.process.seccomp else said

    verdict = _less(not a.process.seccomp, not b.process.seccomp)
    why = "every system call of the kernel can be made" if verdict != SAME else ""
    if verdict == SAME and a.process.seccomp:
        if a.judged and b.judged:
            return Row("seccomp", words(a), words(b), *_filtered(a, b))
        why = "both are filtered; --filters reads what their filters block"
    return Row("seccomp", words(a), words(b), verdict, why)


def _filtered(a: Side, b: Side) -> tuple[str, str]:
    """Two filters, by the calls that pass: (verdict, why). One that passes with some arguments counts as half open."""
    if (a.blocked, a.partly) == (b.blocked, b.partly):
        return SAME, f"the same {len(a.blocked)} calls never pass, {len(a.partly)} with some arguments only"
    half_a, half_b = (set(one.blocked) | set(one.partly) for one in (a, b))
    more_a = (set(b.blocked) - set(a.blocked)) | (half_b - half_a)
    more_b = (set(a.blocked) - set(b.blocked)) | (half_a - half_b)
    words = [f"{one.label} also lets pass {_list(sorted(more))}" for one, more in ((a, more_a), (b, more_b)) if more]
    verdict = DIFFERENT if more_a and more_b else A_WEAKER if more_a else B_WEAKER
    return verdict, "; ".join(words)


def _label(a: Side, b: Side) -> Row:
    def free(one: Side) -> bool:
        return one.process.label.partition(" ")[0] in ("", "unconfined", "kernel")

    words = [one.process.label or "none" for one in (a, b)]
    verdict = _less(free(a), free(b))
    why = "no AppArmor or SELinux rule stands between it and the host" if verdict != SAME else ""
    if verdict == SAME and words[0] != words[1] and not free(a):
        verdict, why = DIFFERENT, "different profiles"
    return Row("security module", words[0], words[1], verdict, why)


def _root(a: Side, b: Side) -> Row:
    rank = {"the host's": 0, "own": 1, "own, read-only": 2}
    left, right = rank[a.root], rank[b.root]
    verdict = SAME if left == right else A_WEAKER if left < right else B_WEAKER
    low = min(left, right)
    why = "" if verdict == SAME else "its root is the host's" if low == 0 else "programs in it can be replaced"
    return Row("root file system", a.root, b.root, verdict, why)


def _bad_set(subject: str, field: str, why: str, nothing: str = "none") -> Callable[[Side, Side], Row]:
    def row(a: Side, b: Side) -> Row:
        left, right = getattr(a, field), getattr(b, field)
        verdict = _sets(set(left), set(right))
        return Row(subject, _list(left, nothing), _list(right, nothing), verdict, "" if verdict == SAME else why)

    return row


def _host_files(a: Side, b: Side) -> Row:
    def words(one: Side) -> str:
        return "all" if one.root == "the host's" else _list(one.host_files)

    whole = [one.root == "the host's" for one in (a, b)]
    sources = [{path.partition(" ← ")[2] for path in one.host_files} for one in (a, b)]
    if whole[0] or whole[1]:
        verdict = _less(*whole)
    else:
        verdict = _sets(*sources)
    why = "what is written there is written on the host" if verdict != SAME else ""
    return Row("writable host files", words(a), words(b), verdict, why)


def _network(a: Side, b: Side) -> Row:
    def rank(one: Side) -> int:
        return 0 if "net" in one.host else 2 if set(one.interfaces) <= {"lo"} else 1

    words = [("the host's", "its own interfaces", "loopback alone")[rank(one)] for one in (a, b)]
    left, right = rank(a), rank(b)
    verdict = SAME if left == right else A_WEAKER if left < right else B_WEAKER
    why = (
        ""
        if left == right
        else "nothing is between it and the host's network"
        if min(left, right) == 0
        else "it can reach others"
    )
    return Row("network", words[0], words[1], verdict, why)


def _limit(name: str, subject: str, why: str) -> Callable[[Side, Side], Row]:
    def row(a: Side, b: Side) -> Row:
        left, right = a.limits.get(name, -1), b.limits.get(name, -1)
        verdict = _less(left < 0, right < 0)
        if verdict == SAME and left != right:
            verdict = A_WEAKER if left > right else B_WEAKER
        reason = "" if left == right else why if min(left, right) < 0 else "its limit is higher"
        return Row(subject, _limit_words(name, left), _limit_words(name, right), verdict, reason)

    return row


def _limit_words(name: str, value: float) -> str:
    if value < 0:
        return "no limit"
    if name == "memory":
        return f"{value / (1 << 20):g} MiB"
    return f"{value:g}"


def _ulimit(name: str) -> Callable[[Side, Side], Row]:
    def row(a: Side, b: Side) -> Row:
        words = [one.process.limits.get(name, ("unlimited", "unlimited")) for one in (a, b)]
        hard = [float("inf") if word[1] == "unlimited" else float(word[1]) for word in words]
        verdict = SAME if hard[0] == hard[1] else A_WEAKER if hard[0] > hard[1] else B_WEAKER
        shown = [word[0] if word[0] == word[1] else f"{word[0]}, up to {word[1]}" for word in words]
        return Row(f"ulimit {name}", shown[0], shown[1], verdict, "" if verdict == SAME else "it may use more")

    return row


_ROWS: tuple[Callable[[Side, Side], Row], ...] = (
    _user,
    _capabilities("effective", "capabilities it holds"),
    _capabilities("bounding", "capabilities within reach"),
    _new_privileges,
    _seccomp,
    _label,
    _root,
    _host_files,
    _bad_set("engine sockets", "sockets", "who can speak to an engine can start a container that owns the host"),
    _bad_set("writable /proc and /sys", "writable", "what is set there changes the host's kernel"),
    _bad_set("unhidden /proc and /sys", "shown", "they tell about the host, or about its keys and memory"),
    _bad_set("mounts that travel", "shared", "what is mounted there appears on the host"),
    _bad_set("block devices", "blocks", "a disk that can be opened has all files of the host"),
    _network,
    _limit("memory", "memory", "it can take all memory of the host"),
    _limit("pids", "processes", "it can start processes until the host has no numbers left (fork bomb)"),
    _limit("cpus", "processors", "it can keep all processors busy"),
    _ulimit("open files"),
    _ulimit("processes"),
)
