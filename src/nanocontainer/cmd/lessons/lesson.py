"""What a lesson is, and which container it has.

The plan of a lesson's container is the engine's plan of a default container without what later lessons add: steps are
left out by name (plan/omission.py), namespaces are shared with the play host (--pid host and so on). ADDS says what
each lesson adds, so the container of the lesson before is the same one without this lesson's wall.
"""

from __future__ import annotations

from ...container.spec import Limits, Mount, Spec
from ...record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ...engine import Engine, Result
    from .stage import Stage

MEMORY = 64 << 20  # bytes: the limit in the lesson on cgroups, and from then on
PRIVATE = "/run/private"  # a directory of the play host that is bound at /data in the lesson on users
SLEEP = "sleep 100000"
ROOTS = "/run/nano/containers/*"  # where roots of containers are mounted on the play host: there is one at a time


class Adds(Record):
    """What a lesson adds to the plan: steps by class name, and namespaces of the container's own."""

    steps: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()


ADDS: dict[str, Adds] = {
    "chroot": Adds(),
    "mounts": Adds(
        ("MountProc", "MountSys", "MountCgroup", "MountTerminals", "MountShm", "MountMqueue",
         "MaskPaths", "ProtectPaths"),
    ),
    "pivot_root": Adds(("PivotRoot",)),
    "uts": Adds(("WriteFile", "MountBind", "SetHostname"), ("uts",)),
    "pid": Adds((), ("pid", "ipc")),
    "net": Adds(("SetSysctls",), ("net",)),
    "cgroups": Adds(("SetLimit", "AllowDevices"), ("cgroup",)),
    "users": Adds(("SetIds",)),
    "capabilities": Adds(("BoundCapabilities", "SetCapabilities")),
    "seccomp": Adds(("JoinSessionKeyring", "CompileSeccomp", "LoadSeccomp")),
    "overlay": Adds(),
    "registry": Adds(),
}  # fmt: skip
NAMES = tuple(ADDS)


class Lesson(Record):
    """One lesson. Its texts are in en/NAME.md and zh/NAME.md.

    manual: pages of the kernel's part. tries: what the learner types, each ("inside" or "outside", command of a shell).
    check: whether it was done, by a look at the real thing. attack: a command of the attacker, in the container. hit:
    whether it has hit, by a look at the play host. before: prepares the play host. duel: plays the attack where it is
    not one command in a container, without the wall for False, with it for True: (what was typed, as in tries; what
    came of it). user, network: as of --user and --network. opens: steps that are missing without the wall, beside what
    the lesson adds.
    """

    name: str
    manual: tuple[str, ...]
    tries: tuple[tuple[str, str], ...]
    check: Callable[[Stage], Seen]
    attack: str
    hit: Callable[[Stage, Result], Seen]
    before: Callable[[Stage], None] | None = None
    duel: Callable[[Stage, bool], tuple[tuple[tuple[str, str], ...], Result]] | None = None
    user: str = ""
    network: str = ""
    opens: tuple[str, ...] = ()


class Seen(Record):
    """What a look has found: whether it is so, and what was seen: (what, its value). Those that words.json knows
    ("seen inside": "container") are said in the learner's language."""

    done: bool
    what: tuple[tuple[str, str], ...]


def specification(engine: Engine, lesson: Lesson, command: str, env: tuple[str, ...] = (), *, walled: bool) -> Spec:
    """The container of a lesson, or where not walled that of the lesson before. It runs the command in a shell."""
    name = lesson.name
    at = NAMES.index(name) + walled
    own = {one for other in NAMES[:at] for one in ADDS[other].namespaces}
    spec = Spec(
        image="tiny",
        command=("sh", "-c", in_root(command, at)),
        env=env,
        hostname="container" if "uts" in own else "",
        user=lesson.user,
        mounts=(Mount("bind", "/data", PRIVATE),) if name == "users" else (),
        limits=Limits(memory=MEMORY, memory_swap=MEMORY) if NAMES.index(name) >= NAMES.index("cgroups") else Limits(),
        network=lesson.network or ("bridge" if "net" in own else "host"),
        pid_mode="" if "pid" in own else "host",
        ipc_mode="" if "ipc" in own else "host",
        uts_mode="" if "uts" in own else "host",
        cgroupns="private" if "cgroup" in own else "host",
        force_without=True,
    )
    later = set(() if walled else lesson.opens) | {step for other in NAMES[at:] for step in ADDS[other].steps}
    if name == "users":
        later.discard("MountBind")
    there = {type(step).__name__ for step in engine.explain(spec)}
    return spec.replace(without=tuple(step for step in sorted(later) if step in there))


def in_root(command: str, level: int) -> str:
    """Before the plan has PivotRoot the host's files are the root: the image is a directory below, and chroot(1) goes
    there. It is the only container of the play host, so a pattern names it."""
    if level == 0 or level > NAMES.index("pivot_root"):
        return command
    return f"exec chroot {ROOTS} sh -c {_quoted(command)}"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
