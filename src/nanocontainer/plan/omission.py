"""What a start is like without one of its steps: what that opens, what else falls with it, and whether it is refused.

A wall is understood best where it is missing. So a step can be left out: of a whole start (`run --without STEP`), or of
one that is being stepped (`skip`). Each step has its lesson here. Three rules judge a choice:

 1. Who needs a step is left out with it: who reads its slot, and who relies on what it does (`needed`).
 2. Some steps cannot be left out: there would be no container, or something could never be taken back (`never`).
 3. What endangers the host, and not only the container, must be forced (`danger`).
"""

from __future__ import annotations

from ..errors import InvalidInput
from ..record import Record
from .plan import Plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from .step import Step


class Opening(Record):
    """What leaving a step out means.

    opens: what is possible then, one or two sentences. danger: why the host is in danger; empty where it is not.
    never: why it cannot be left out at all. needed: classes of later steps that fail without it, beside those that read
    its slots.
    """

    opens: str = ""
    danger: str = ""
    never: str = ""
    needed: tuple[str, ...] = ()


_ITS_UNDO = "its undo gives back what was claimed before the first step"
_HOST_NULL = (
    "standard input, output and errors stay the keeper's own /dev/null, a file of the host: root inside can change its "
    "owner and mode through /proc/self/fd"
)

OPENINGS: dict[str, Opening] = {
    # --- the host's side
    "MakeCgroup": Opening(never="the container's processes could be neither found nor killed"),
    "MakeCgroup1": Opening("The limits of this hierarchy hold for nobody.", needed=("SetLimit", "JoinCgroup1")),
    "EnableControllers": Opening("The limits of these controllers cannot be set.", needed=("SetLimit",)),
    "SetLimit": Opening(
        "This limit does not hold: one container can take all the memory, processors or process numbers of the host. "
        "Try a loop that starts itself twice, in a machine you can lose."
    ),
    "AllowDevices": Opening(
        "Every device may be opened. Root inside may make any node (mknod(2)), the host's disk too, and read it.",
        danger="the host's disks can be read and written from inside, below all file systems",
    ),
    "MakeNetworkNamespace": Opening(
        "There is no network of its own: it stands in the host's, and reaches what listens on 127.0.0.1. As --network "
        "host."
    ),
    "RaiseLoopback": Opening("127.0.0.1 does not answer: what talks to itself fails."),
    "EnsureBridge": Opening("There is no bridge to plug the cable into.", needed=("JoinBridge", "PublishPorts")),
    "HoldAddress": Opening(never=_ITS_UNDO),
    **dict.fromkeys(
        ("TurnBack", "PlugCable", "SetDefaultRoute"),
        Opening(never="it is a step of a container that runs, and of no start"),
    ),
    "ReservePort": Opening(never=f"{_ITS_UNDO}; to publish no port leave -p out"),
    "ConnectVeth": Opening(
        "No cable: the container has only its loopback, and nobody reaches it. This closes more than it opens.",
        needed=("GuardSource", "JoinBridge", "AddAddress", "AddDefaultRoute"),
    ),
    "JoinBridge": Opening(
        "The cable is plugged in nowhere: nobody can be reached, and nobody reaches it. This closes more than it opens."
    ),
    "GuardSource": Opening(
        "It can pass for others on its network: who says often enough that it is the gateway gets everybody's traffic. "
        "Try arping -U -I eth0 GATEWAY."
    ),
    "AddAddress": Opening("The cable has no address: nobody can be reached.", needed=("AddDefaultRoute",)),
    "AddDefaultRoute": Opening("No way out: only its own network can be reached. This closes more than it opens."),
    "PublishPorts": Opening("Nobody from outside reaches the port, though it is reserved for the container."),
    "RegisterNames": Opening(
        "Nobody on the network finds the container by a name, and the resolver does not know who it is: it tells it "
        "nothing, no name of the world outside either. Addresses still work."
    ),
    "EnsureResolver": Opening(
        "Where no container has started the resolver before, nobody answers: names are not found. Addresses still work."
    ),
    "EnforceEgress": Opening(
        "--allow-out is a wish: only names are refused by the resolver, and who knows an address reaches it, the "
        "host's own services too. Try wget http://1.1.1.1."
    ),
    "ExtendEgress": Opening("By its new network the container reaches everything, whatever --allow-out says."),
    "ForgetNames": Opening("Connections go on that names have opened which are allowed no more."),
    "MakeNetwork": Opening(never="it is all that network create does"),
    "OpenNetworkNamespace": Opening("There is no network to join: it stands in the host's, as --network host."),
    "MountLayers": Opening("The image's files are not there to be stacked.", needed=("MountOverlay",)),
    "MountOverlay": Opening("There is no root file system."),
    "WriteFile": Opening(
        "The container has the image's file of that name, which says nothing of this container.", needed=("MountBind",)
    ),
    "LookUpUser": Opening("Nobody knows which ids the user has."),
    "FillVolume": Opening("The new volume stays empty: what the image has at its place is hidden."),
    "MakeLauncher": Opening(never="there would be no program that becomes the command"),
    "MakeTerminals": Opening("There are no pseudo-terminals inside."),
    "OpenTerminal": Opening("The container has no terminal."),
    "CompileSeccomp": Opening("There is no filter to load: all system calls pass to the kernel."),
    "OpenProcess": Opening("There is no hold on the container that is joined."),
    "Clone": Opening(
        never="there would be no process. To share one namespace with the host: --pid, --uts, --ipc, --network or "
        "--cgroupns host"
    ),
    # --- inside
    "HideFromContainer": Opening(
        "Until it becomes the command this process holds files of the host, and whoever is in the same PID namespace "
        "can take them from /proc/PID/fd (CVE-2016-9962). In a new PID namespace nobody else is there yet."
    ),
    "NewSession": Opening(
        "The command stays in the keeper's session, and signals to that session reach both.",
        needed=("ConnectTerminal",),
    ),
    "JoinCgroup1": Opening("The limits of version 1 hierarchies hold for nobody: a fork bomb is not stopped."),
    "EnterNamespaces": Opening("The namespaces of the other container are not shared."),
    "EnterNetworkNamespace": Opening(
        "It stands in the host's network: it sees all interfaces, reaches what listens on 127.0.0.1 and on abstract "
        "sockets (CVE-2020-15257), and takes the host's ports. As --network host.",
        needed=("SetSysctls",),
    ),
    "PrivatizeMounts": Opening(
        "Mounts of the container appear on the host, where the host's root is shared (systemd makes it so).",
        danger="what is mounted inside is mounted on the host too, and stays when the container is gone",
    ),
    "AttachRootfs": Opening(never="all other mounts are put on it"),
    "MountProc": Opening(
        "Nothing is at /proc: ps, top and free fail. And where the host's /proc is still to be seen (--without "
        "PivotRoot) it shows all processes of the host, with their arguments and environments."
    ),
    "MountSys": Opening("Nothing is at /sys: programs cannot look at devices and at their limits."),
    "MountCgroup": Opening("Nothing is at /sys/fs/cgroup: programs that ask for their limits do not find them."),
    "MountDev": Opening(
        "/dev is the image's: what is made there stays in the container's layer.", needed=("ConnectStreams",)
    ),
    "MakeDevices": Opening(
        "There is no /dev/null, zero, random: many programs fail.", needed=("ConnectStreams", "MaskPaths")
    ),
    "LinkDevices": Opening("There is no /dev/stdin, /dev/stdout, /dev/fd: scripts that name them fail."),
    "AddDevice": Opening("The device that was asked for is not there."),
    "MountTerminals": Opening("There is no /dev/pts: nothing inside can open a terminal (ssh, tmux, script)."),
    "MountConsole": Opening("There is no /dev/console."),
    "MountShm": Opening("/dev/shm is a directory of /dev: shared memory has no limit of its own."),
    "MountMqueue": Opening("There are no POSIX message queues at /dev/mqueue."),
    "MountBind": Opening("The file, directory or volume is not there: the container sees what its image has."),
    "MountTmpfs": Opening("What is written there lands on disk, in the container's layer."),
    "SetHostname": Opening("The container sees the host's name: sethostname(2) is what the UTS namespace is for."),
    "SetSysctls": Opening("Ports below 1024 need root inside, and ping needs a capability."),
    "MaskPaths": Opening(
        "Information of the host's kernel shows through: /proc/kcore, /proc/keys, /proc/timer_list, /sys/firmware. As "
        "half of --security-opt systempaths=unconfined."
    ),
    "ProtectPaths": Opening(
        "/proc/sys and /proc/sysrq-trigger can be written. They are one for the whole machine.",
        danger="root inside can reboot the host (/proc/sysrq-trigger) and have the host run a program as root "
        "(/proc/sys/kernel/core_pattern)",
    ),
    "MakeWorkDir": Opening("The working directory must be in the image."),
    "ProtectRootfs": Opening("Files of the root can be written, in the container's own layer."),
    "PivotRoot": Opening(
        "The host's files stay the root: all of them can be read, and root inside can write them. The image is only a "
        "directory somewhere below.",
        danger="all files of the host can be read and written from inside",
    ),
    "EnterWorkDir": Opening("The command starts in / and not in its working directory."),
    "SetLimits": Opening("The keeper's own resource limits hold (--ulimit does not)."),
    "SetOomScore": Opening("The kernel chooses by size alone whom it kills when memory is short."),
    "ConnectStreams": Opening("Nothing is read from you and nothing shown: the output is lost.", danger=_HOST_NULL),
    "ConnectTerminal": Opening("The terminal is there and nobody uses it.", danger=_HOST_NULL),
    "OwnStreams": Opening("A command that is not root cannot open /dev/stdout again."),
    "OpenContainerTerminal": Opening("The command has no terminal."),
    "JoinSessionKeyring": Opening(
        "The keys of the host's session (of disks, Kerberos) are this process's too. The filter refuses keyctl(2): "
        "only the two together are a wall."
    ),
    "BoundCapabilities": Opening(
        "Root inside is root: execve(2) gives it every capability that is not out of its bounding set "
        "(capabilities(7)).",
        danger="root inside may then load kernel modules, mount the host's disks and change its clock and network",
    ),
    "SetIds": Opening("The command runs as root, whatever --user says, and is in root's groups."),
    "SetCapabilities": Opening(
        "Capabilities stay inheritable, and a file's own can then give them to a user (CVE-2022-24769). What root has "
        "is the bounding set all the same."
    ),
    "NoNewPrivs": Opening(
        "Programs that set the user ID (su, sudo, mount) make root of an ordinary user again.", needed=("LoadSeccomp",)
    ),
    "LoadSeccomp": Opening(
        "All system calls pass to the kernel: unshare and clone with new user namespaces, keyctl, bpf, userfaultfd, "
        "io_uring. In those are most of the holes that were found. As --security-opt seccomp=unconfined."
    ),
    "DieWithKeeper": Opening(
        "When the keeper is killed, the container runs on, and nobody logs it or knows its exit code, until the next "
        "command finds and ends it."
    ),
    "StartReaper": Opening("The command is process 1: signals it does not handle are ignored, orphans stay zombies."),
    "CloseFiles": Opening(
        "Nothing, as long as each file of ours is opened close-on-exec, which they are. One that was not was the way "
        "out in CVE-2024-21626: this is the second lock on that door."
    ),
    "Exec": Opening(never="it is the command"),
}

_TOGETHER = (  # walls that stand for each other: the host is in danger where all of them are missing
    (
        ("JoinSessionKeyring", "LoadSeccomp"),
        "the keys of the host's session can be read and used from inside (keyctl(2))",
    ),
)


def opening(step: Step) -> Opening:
    """What leaving this step out means. One that has no entry is none that can be left out."""
    return OPENINGS.get(type(step).__name__, Opening(never="nobody has thought about that yet"))


def needed_by(plan: Plan, index: int) -> list[int]:
    """The later steps that fail without this one, and those that fail without them."""
    lost, found = {index}, []
    slots = set(plan.steps[index].writes())
    for at, step in enumerate(plan.steps[index + 1 :], index + 1):
        if slots & set(step.reads()) or any(_relies(step, plan.steps[other]) for other in lost):
            lost.add(at)
            found.append(at)
            slots |= set(step.writes())
    return found


def _relies(step: Step, on: Step) -> bool:
    if type(step).__name__ not in opening(on).needed:
        return False
    path = getattr(on, "path", "")
    place = getattr(step, "source", "") or getattr(step, "path", "")
    return not (path and place) or place == path or place.startswith(f"{path}/")


def leave_out(plan: Plan, names: Iterable[str], *, forced: bool = False) -> Plan:
    """The plan without all steps of these class names, in any case, and without those that need them. InvalidInput:
    there is no such step, it cannot be left out, or that must be forced."""
    left = chosen(plan, names)
    refuse(plan, set(left), forced=forced, reasons=left)
    return Plan(tuple(step for index, step in enumerate(plan) if index not in left), plan.given).validate()


def chosen(plan: Plan, names: Iterable[str]) -> dict[int, str]:
    """The indexes of all steps of these class names, in any case, and of those that need them, each with the name of
    the step for which it goes: its own, or the one it needs. InvalidInput: there is no such step."""
    left: dict[int, str] = {}
    for name in names:
        same = [at for at, step in enumerate(plan) if type(step).__name__.lower() == name.lower()]
        if not same:
            raise no_step(plan, name)
        left |= {at: type(plan.steps[at]).__name__ for at in same}
    for index, name in list(left.items()):
        for at in needed_by(plan, index):
            left.setdefault(at, name)
    return left


def refuse(plan: Plan, left: set[int], *, forced: bool = False, reasons: dict[int, str] | None = None) -> None:
    """InvalidInput where these steps must not be left out. reasons: for which step each of them goes (`chosen`)."""
    for index in sorted(left):
        name = type(plan.steps[index]).__name__
        what = f"{name} cannot be left out"
        if why := opening(plan.steps[index]).never:
            raise InvalidInput(what, why)
        others = needed_by(plan, index)
        must = [at for at in others if opening(plan.steps[at]).never]
        if must:
            first = plan.steps[must[0]]
            because = f"that cannot be left out: {opening(first).never}"
            raise InvalidInput(what, f"{type(first).__name__} needs it, and {because}")
        if more := tuple(dict.fromkeys(type(plan.steps[at]).__name__ for at in others if at not in left)):
            raise InvalidInput(
                f"{name} cannot be left out alone", f"{_list(more)} need{'s' if len(more) == 1 else ''} what it does"
            )
    if not forced and (found := dangers(plan, left)):
        causes = {type(plan.steps[at]).__name__: name for at, name in (reasons or {}).items()}
        named = (f"{name} (it needs {causes[name]})" if causes.get(name, name) != name else name for name in found)
        raise InvalidInput(
            f"to leave out {_list(tuple(named))} endangers the host",
            "; ".join(found.values()),
            "in a machine you can lose: --force-without",
        )


def dangers(plan: Plan, left: set[int]) -> dict[str, str]:
    """What of this endangers the host: step, or steps together, and why."""
    names = {type(plan.steps[index]).__name__ for index in left}
    found = {}
    for name in dict.fromkeys(type(plan.steps[index]).__name__ for index in sorted(left)):
        if name == "ProtectPaths" and "MountProc" in names and "PivotRoot" not in names:
            continue  # there is nothing to protect
        if why := OPENINGS[name].danger:
            found[name] = why
    for group, why in _TOGETHER:
        present = {type(step).__name__ for step in plan}
        if names & set(group) and not (set(group) & present) - names:
            found[" and ".join(group)] = why
    clone = plan.find("Clone")
    if "HideFromContainer" in names and clone >= 0 and getattr(plan.steps[clone], "join_pid", False):
        found["HideFromContainer"] = "who is in the other container can take files of the host from this process"
    return found


def no_step(plan: Plan, name: str) -> InvalidInput:
    """The error for a step that is not in this plan: the one that may be meant, or where they are listed."""
    from difflib import get_close_matches

    what = f"there is no step {name!r} in this start"
    if name.isascii() and name.isdecimal() and 1 <= int(name) <= len(plan):
        return InvalidInput(what, "", f"by its name: step {name} is {type(plan.steps[int(name) - 1]).__name__}")
    lowered = {type(step).__name__.lower(): type(step).__name__ for step in plan}
    word = name.lower()
    close = [one for one in lowered if word and word in one] or get_close_matches(word, lowered, 1, 0.6)
    if close:
        return InvalidInput(what, "", f"did you mean {_list(tuple(lowered[one] for one in close), 'or')}?")
    return InvalidInput(what, f"its steps are {', '.join(lowered.values())}")


def find_step(plan: Plan, word: str) -> int:
    """The index of the first step that a word names: a class name, in any case, or a number from 1. InvalidInput."""
    if word.isascii() and word.isdecimal():
        if 1 <= int(word) <= len(plan):
            return int(word) - 1
        raise InvalidInput(f"there is no step {word}", f"the steps of this start are 1 to {len(plan)}")
    for index, step in enumerate(plan):
        if type(step).__name__.lower() == word.lower():
            return index
    raise no_step(plan, word)


def _list(names: tuple[str, ...], last: str = "and") -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {last} {names[-1]}"
