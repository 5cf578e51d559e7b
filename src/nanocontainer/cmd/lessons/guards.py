"""The lessons on what a container may use and do, and on where its files come from: cgroups to registry."""

from __future__ import annotations

import os
import stat

from ...errors import NanoError
from .lesson import MEMORY, Lesson, Seen
from .walls import NOTHING, came_through, secret_read, yes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...engine import Result
    from .stage import Stage


def _status(stage: Stage, name: str) -> str:
    """A line of /proc/PID/status of the container's first process."""
    with open(f"/proc/{stage.pid}/status") as file:
        return next((line.partition(":")[2].strip() for line in file if line.startswith(f"{name}:")), "")


# --- cgroups


def _killed_once(stage: Stage) -> Seen:
    from ...runtime import cgroup, cgroup1

    state = stage.container.state
    groups = [group for group in state.groups if "/memory/" in group]
    dead = any(cgroup1.out_of_memory(stage.kernel, group) for group in groups)
    dead = dead or cgroup.out_of_memory(stage.kernel, state.cgroup)
    file = f"{groups[0]}/memory.limit_in_bytes" if groups else f"{state.cgroup}/memory.max"
    limit = stage.kernel.read_file(file).decode().strip()
    return Seen(dead and limit == str(MEMORY), ((os.path.basename(file), limit), ("OOM kill", yes(dead))))


CGROUPS = Lesson(
    "cgroups",
    ("cgroups(7)",),
    (
        ("inside", "dd if=/dev/zero of=/dev/null bs=20M count=1"),
        ("inside", "dd if=/dev/zero of=/dev/null bs=200M count=1"),
    ),
    _killed_once,
    "dd if=/dev/zero of=/dev/null bs=200M count=1",
    came_through,
)


# --- users


def _made_as_user(stage: Stage) -> Seen:
    try:
        owner = os.lstat(f"{stage.upper}/tmp/mine").st_uid
    except OSError:
        return Seen(False, (("/tmp/mine", NOTHING),))
    return Seen(owner == 1000, (("/tmp/mine", f"UID {owner}"),))


USERS = Lesson(
    "users",
    ("credentials(7)", "setresuid(2)"),
    (("inside", "id"), ("inside", "touch /tmp/mine; ls -ln /tmp/mine")),
    _made_as_user,
    "id -u; cat /data/diary",
    secret_read,
    user="1000:1000",
)


# --- capabilities


def _capabilities_told(stage: Stage) -> Seen:
    said, real = stage.written("answer").split()[-1:], _status(stage, "CapEff")
    return Seen(said == [real], (("/answer", said[0] if said else NOTHING), ("CapEff", real)))


CAPABILITIES = Lesson(
    "capabilities",
    ("capabilities(7)", "PR_CAPBSET_DROP(2const)"),
    (
        ("inside", "id -u; mount -t tmpfs none /mnt"),
        ("inside", "grep CapEff /proc/self/status > /answer; cat /answer"),
    ),
    _capabilities_told,
    "mount -o remount,bind,rw /proc/sys && : >> /proc/sys/kernel/core_pattern && echo I could write it",
    came_through,
)


# --- seccomp


def _filter_told(stage: Stage) -> Seen:
    said, real = stage.written("answer").split()[-1:], _status(stage, "Seccomp")
    return Seen(said == [real] == ["2"], (("/answer", said[0] if said else NOTHING), ("Seccomp", real)))


SECCOMP = Lesson(
    "seccomp",
    ("seccomp(2)", "bpf(2)"),
    (
        ("inside", "unshare -U id"),
        ("inside", "grep Seccomp: /proc/self/status > /answer; cat /answer"),
    ),
    _filter_told,
    "unshare -U id",
    came_through,
)


# --- overlay


def _whiteout(stage: Stage) -> Seen:
    """A new file lies in the upper directory, and a deleted one of the image as a device 0:0 (a whiteout)."""
    new = os.path.lexists(f"{stage.upper}/hello")
    try:
        found = os.lstat(f"{stage.upper}/bin/vi")
        gone = stat.S_ISCHR(found.st_mode) and found.st_rdev == 0
    except OSError:
        gone = False
    deleted = "c 0, 0" if gone else NOTHING  # as ls -l shows it
    return Seen(new and gone, (("upper/hello", yes(new)), ("upper/bin/vi", deleted)))


_LAYERS = "/run/state-*/images/layers/*/"  # there is one image on the play host, and it has one
BACKDOOR = "echo 'echo backdoor' > /bin/hello; chmod +x /bin/hello"


def _poison(stage: Stage, walled: bool) -> tuple[tuple[tuple[str, str], ...], Result]:
    """One container writes into its /bin, another one of the same image looks. Without an overlay both have the
    image's own directory as their root."""
    if walled:
        stage.run(BACKDOOR, walled=True)
        return (("inside", BACKDOOR), ("inside", "hello")), stage.run("hello", walled=True)
    first, second = f'chroot {_LAYERS} sh -c "{BACKDOOR}"', f"chroot {_LAYERS} hello"
    stage.outside(first)
    result = stage.outside(second)
    layer = stage.engine.life.images.layer_paths(stage.engine.image("tiny"))[-1]
    if os.path.lexists(f"{layer}/bin/hello"):
        os.unlink(f"{layer}/bin/hello")  # the next container shall have the image as it was
    return (("outside", first), ("outside", second)), result


OVERLAY = Lesson(
    "overlay",
    ("mount(2)", "fsopen(2)"),
    (("inside", "echo hi > /hello; rm /bin/vi"), ("inside", "ls /hello /bin/vi")),
    _whiteout,
    f"{BACKDOOR}; hello",
    came_through,
    duel=_poison,
)


# --- registry


_URL = "http://127.0.0.1:5000/v2/hello"
_BY_HAND = f"wget -qO- {_URL}/blobs/$LAYER | tar x -C /; hello"


def _open_registry(stage: Stage) -> None:
    from .playregistry import serve

    serve(stage)


def _digest_told(stage: Stage) -> Seen:
    said, real = stage.written("answer").split()[:1], stage.notes["served"]
    asked = stage.notes["digest"]
    told = _short(said[0]) if said else NOTHING
    return Seen(said == [real] != [asked], (("/answer", told), ("SHA-256", _short(real)), ("$LAYER", _short(asked))))


def _pull(stage: Stage, walled: bool) -> tuple[tuple[tuple[str, str], ...], Result]:
    """By hand nobody compares what has come with what was asked for; a pull does."""
    from ...engine import Result
    from .playregistry import IMAGE

    if not walled:
        return (("inside", _BY_HAND),), stage.run(_BY_HAND, walled=True)
    typed = (("outside", f"nanocontainer pull {IMAGE}"),)
    try:
        image = stage.engine.pull(IMAGE)
    except NanoError as error:
        return typed, Result(1, b"", f"Error: {error}\n".encode())
    layer = stage.engine.life.images.open_layers(image)[-1]
    return typed, stage.outside(f"cat {layer}/bin/hello")  # it was taken: what it is


def _fooled(stage: Stage, result: Result) -> Seen:
    from .playregistry import EVIL

    ran = EVIL in result.stdout.decode(errors="replace")
    return Seen(ran, (("hello", EVIL),) if ran else (("code", str(result.exit_code)),))


def _short(digest: str) -> str:
    return f"{digest[:12]}…"


REGISTRY = Lesson(
    "registry",
    ("sha256sum(1)",),
    (
        ("inside", f"wget -qO- {_URL}/manifests/latest"),
        ("inside", f"wget -qO- {_URL}/blobs/$LAYER | sha256sum > /answer"),
        ("inside", "cat /answer; echo $LAYER"),
    ),
    _digest_told,
    _BY_HAND,
    _fooled,
    _open_registry,
    duel=_pull,
    network="host",
)
