"""The steps: each can be explained, scripted and undone as its form demands; the important ones make the right calls.

They run against a kernel that takes notes (plan/recording.py): no root.
"""

from __future__ import annotations

import errno
import importlib
import os
import pkgutil
import re
import stat
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import nanocontainer
from nanocontainer.errors import Conflict, InvalidInput, NanoError, NotFound, NotRunning
from nanocontainer.kernel import abi
from nanocontainer.kernel.bpf import DEFAULT_RULES
from nanocontainer.network.bridge import EnsureBridge
from nanocontainer.network.egress_rules import Leg
from nanocontainer.network.registration import Registration
from nanocontainer.plan.recording import recording_world
from nanocontainer.plan.step import Step, World
from nanocontainer.rootfs.devices import AddDevice, OpenTerminal
from nanocontainer.rootfs.mounts import MaskPaths, MountBind, ProtectPaths
from nanocontainer.rootfs.overlay import MountOverlay, PivotRoot
from nanocontainer.runtime.cgroup import EnableControllers, MakeCgroup, OpenCgroup
from nanocontainer.runtime.cgroup1 import JoinCgroup1, MakeCgroup1
from nanocontainer.runtime.confine import BoundCapabilities, SetCapabilities
from nanocontainer.runtime.identity import LookUpUser, SetIds, resolve_user
from nanocontainer.runtime.joining import OpenContainerTerminal
from nanocontainer.runtime.namespaces import Clone, EnterNamespaces, OpenProcess, SetSysctls
from nanocontainer.runtime.process import ConnectStreams, DieWithKeeper, Exec, OwnStreams

for part in ("rootfs", "runtime", "network", "image"):
    package = importlib.import_module(f"nanocontainer.{part}")
    for found in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"nanocontainer.{part}.{found.name}")

KINDS = sorted(
    (kind for kind in Step.kinds.values() if kind.__module__.startswith(f"{nanocontainer.__name__}.")),
    key=lambda kind: kind.__name__,
)
ABSTRACT = {"MountNew"}
CONCRETE = [kind for kind in KINDS if kind.__name__ not in ABSTRACT]

# A value for each type that a field may have, and for some fields by name.
BY_TYPE: dict[str, Any] = {
    "str": "/x", "int": 1, "bool": False, "tuple[str, ...]": ("/proc/a", "/proc/b/"), "dict[str, str]": {"a.b": "c"},
    "tuple[tuple[str, int, int], ...]": (("nofile", 1, 2),), "tuple[DeviceRule, ...]": DEFAULT_RULES,
    "tuple[Leg, ...]": (), "Leg": Leg("nano0", ("10.0.0.2",)),
    "Registration": Registration("ab" * 32, "mine", ("web",), "10.0.0.2", "fd00::2"),
}  # fmt: skip
BY_NAME: dict[str, Any] = {
    "namespaces": ("mnt", "pid"), "gateway": "10.0.0.1", "address": "10.0.0.2", "subnet": "10.0.0.0/24",
    "prefix": 24, "propagation": "rprivate", "protocol": "tcp", "host_ip": "", "mac": "02:42:0a:00:00:02", "user": "0",
    "mode": 0o20666, "profile": "default", "machine": "x86_64", "kernel": "6.12.0",
    "allowed": ("a.example.com:443", "10.0.0.0/8"),
    "addresses": ("10.0.0.2", "fd00::2"),
    "attributes": ("ro",), "groups": (), "options": ("size=1",), "env": ("A=b",), "args": ("true",),
}  # fmt: skip


def example(kind: type[Step]) -> Step:
    from nanocontainer.network.allot import Binding

    if kind.__name__ == "PublishPorts":
        BY_NAME["ports"] = (Binding(80, 8080),)
    values = {}
    for name, text in kind._types.items():
        if name in BY_NAME:
            values[name] = BY_NAME[name]
        elif not hasattr(kind, name):
            values[name] = BY_TYPE[text]
    return kind(**values)


def everyone(kinds: list[type[Step]] = CONCRETE) -> Any:
    return pytest.mark.parametrize("kind", kinds, ids=lambda kind: kind.__name__)


def test_there_are_steps() -> None:
    assert len(KINDS) > 40


@everyone(KINDS)
def test_has_a_docstring_of_its_own(kind: type[Step]) -> None:
    assert kind.__doc__
    assert kind.__doc__ != Step.__doc__
    assert kind.__doc__.strip().split("\n")[0].endswith((".", "?", ":")) or "\n" in kind.__doc__


# The pages that sentences may name: each exists (man-pages 6, iproute2, nftables, procps)
PAGES = frozenset(
    """bind(2) bpf(2) capset(2) chroot(2) clone3(2) close_range(2) dup2(2) execve(2) execveat(2) fchdir(2) fchown(2)
    fork(2) fsconfig(2) fsmount(2) fsopen(2) fstat(2) ioctl_tty(2) keyctl(2) memfd_create(2) mkdir(2) mknod(2) mount(2)
    mount_setattr(2) move_mount(2) open(2) open_tree(2) openat2(2) pidfd_open(2) pivot_root(2) prctl(2) readlink(2)
    rename(2) seccomp(2) sethostname(2) setgroups(2) setns(2) setresuid(2) setrlimit(2) setsid(2) symlink(2) umount2(2)
    unshare(2) write(2) netlink(7) PR_SET_DUMPABLE(2const) PR_SET_NO_NEW_PRIVS(2const) PR_SET_PDEATHSIG(2const)
    console(4) null(4) pts(4) veth(4) group(5) passwd(5) resolv.conf(5) proc(5) proc_pid_fd(5) proc_pid_oom_score_adj(5)
    proc_pid_root(5) proc_sys(5) sysfs(5) tmpfs(5) capabilities(7) cgroup_namespaces(7) cgroups(7) credentials(7) ip(7)
    ipc_namespaces(7) keyrings(7) mount_namespaces(7) mq_overview(7) namespaces(7) netdevice(7) network_namespaces(7)
    pid_namespaces(7) pipe(7) pty(7) udp(7) rtnetlink(7) shm_overview(7) uts_namespaces(7) bridge(8) nft(8)
    sysctl(8) tc-bpf(8)""".split()
)


@everyone()
def test_explains_itself_in_a_sentence_and_names_manual_pages(kind: type[Step]) -> None:
    """One sentence for a learner: what is done, and why or what for; then the pages to read on."""
    said = example(kind).explain()
    assert said[0].isupper() and said.endswith("."), said
    assert "  " not in said
    assert not re.search(r"[.!?] [A-Z]", said), f"more than one sentence: {said}"
    named = re.findall(r"[\w.+-]+\(\d(?:const)?\)", said)
    assert named, f"no manual page in: {said}"
    assert set(named) <= PAGES, f"no such page: {set(named) - PAGES}"
    assert len(said.split()) >= 8, f"it says nothing of why: {said}"


@everyone()
def test_has_a_line_of_the_script(kind: type[Step]) -> None:
    assert example(kind).shell().strip()


@everyone()
def test_undo_exists_exactly_where_something_is_left(kind: type[Step]) -> None:
    assert kind.residue in ("init", "kernel", "disk")
    assert kind.side in ("host", "inside")
    assert (kind.undo is not Step.undo) is (kind.residue != "init")
    if kind.residue != "init":
        assert kind.side == "host"


@everyone([kind for kind in CONCRETE if kind.residue != "init"])
def test_what_is_journalled_can_be_read_back(kind: type[Step]) -> None:
    from nanocontainer.lean import dumps, loads

    step = example(kind)
    assert kind.from_dict(loads(dumps(step.as_dict()))) == step


@everyone()
def test_slots_are_words(kind: type[Step]) -> None:
    step = example(kind)
    for slots in (step.reads(), step.writes()):
        assert isinstance(slots, tuple)
        assert all(isinstance(slot, str) and slot for slot in slots)


def world(answers: dict[str, Any] | None = None, **slots: Any) -> World:
    made = recording_world(answers)
    made.slots.update(slots)
    return made


def calls(made: World) -> list[str]:
    return [repr(call) for call in made.kernel.calls]  # type: ignore[attr-defined]


def stat_result(mode: int, rdev: int = 0, uid: int = 0) -> os.stat_result:
    return os.stat_result(
        (mode, 1, 1, 1, uid, 0, 0, 0, 0, 0), {"st_rdev": rdev} if rdev else {"st_rdev": 0}
    )


# --- the root file system


def test_mount_overlay() -> None:
    made = world()
    MountOverlay(("/top", "/bottom"), "/u", "/w", volatile=True).do(made)
    assert calls(made) == [
        "fsopen('overlay')",
        "fsconfig(100, 'lowerdir+', '/top')",
        "fsconfig(100, 'lowerdir+', '/bottom')",
        "fsconfig(100, 'upperdir', '/u')",
        "fsconfig(100, 'workdir', '/w')",
        "fsconfig(100, 'volatile')",
        "fsconfig(100, 'source', 'nanocontainer')",
        "fsconfig_create(100)",
        "fsmount(100)",
        "close(100)",
    ]
    assert made["rootfs"] == 101


def test_mount_overlay_before_linux_6_5() -> None:
    made = world()
    MountOverlay(("/top", "/bottom"), "/u", "/w", append=False).do(made)
    assert "fsconfig(100, 'lowerdir', '/top:/bottom')" in calls(made)


@pytest.mark.parametrize(("code", "hint"), [(errno.ENOENT, "pull it again"), (errno.EINVAL, "ext4")])
def test_mount_overlay_that_fails_closes_its_file(code: int, hint: str) -> None:
    made = world({"fsconfig_create": OSError(code, "no")})
    with pytest.raises(NanoError) as caught:
        MountOverlay(("/a",), "/u", "/w").do(made)
    assert hint in caught.value.hint
    assert calls(made)[-1] == "close(100)"
    assert "rootfs" not in made.slots


def test_mount_bind() -> None:
    made = world({"stat": stat_result(stat.S_IFDIR)}, rootfs=7)
    MountBind("/src", "/dst", read_only=True, propagation="rslave").do(made)
    said = calls(made)
    assert said[0] == f"open_tree({abi.AT_FDCWD}, '/src', {abi.OPEN_TREE_CLONE | abi.AT_RECURSIVE})"
    flags = abi.AT_EMPTY_PATH | abi.AT_RECURSIVE
    assert said[1] == f"mount_setattr(100, '', {flags}, set={abi.MOUNT_ATTR_RDONLY}, propagation={abi.MS_SLAVE})"
    opened = [call for call in said if call.startswith("openat2")]
    in_root = abi.RESOLVE_IN_ROOT | abi.RESOLVE_NO_MAGICLINKS
    assert opened and all(call.startswith("openat2(7, ") and call.endswith(f", {in_root})") for call in opened)
    assert said[-3:] == ["move_mount(100, 102)", "close(102)", "close(100)"]


def test_mount_bind_of_a_part_is_looked_up_inside_the_source() -> None:
    """Not by its name: another container that has the volume may have put a link there."""
    made = world({"stat": stat_result(stat.S_IFDIR)}, rootfs=7)
    MountBind("/vol/_data", "/dst", below="a/link").do(made)
    in_root = abi.RESOLVE_IN_ROOT | abi.RESOLVE_NO_MAGICLINKS
    flags = abi.OPEN_TREE_CLONE | abi.AT_RECURSIVE | abi.AT_EMPTY_PATH
    assert calls(made)[:5] == [
        f"open('/vol/_data', {abi.O_PATH | os.O_DIRECTORY})",
        f"openat2(100, 'a/link', {abi.O_PATH}, 0, {in_root})",
        "close(100)",
        f"open_tree(101, '', {flags})",
        "close(101)",
    ]
    with pytest.raises(NanoError, match="cannot mount /vol/_data/a at /dst"):
        MountBind("/vol/_data", "/dst", below="a").do(world({"openat2": OSError(errno.ELOOP, "x")}, rootfs=7))


def test_mount_bind_of_what_is_not_there() -> None:
    made = world({"open_tree": FileNotFoundError(2, "x")}, rootfs=7)
    with pytest.raises(NotFound, match="cannot mount /src at /dst"):
        MountBind("/src", "/dst").do(made)


@pytest.mark.parametrize(
    ("code", "words"), [(errno.EXDEV, "leads out"), (errno.ELOOP, "leads out"), (errno.ENOTDIR, "directory")]
)
def test_mount_bind_at_a_hostile_place(code: int, words: str) -> None:
    made = world({"stat": stat_result(stat.S_IFDIR), "openat2": OSError(code, "x")}, rootfs=7)
    with pytest.raises(NanoError, match=words):
        MountBind("/src", "/dst").do(made)
    assert calls(made)[-1] == "close(100)"


def test_pivot_root_exchanges_the_root_of_the_mount_namespace() -> None:
    made = world(rootfs=7)
    PivotRoot().do(made)
    said = calls(made)
    assert said[:2] == [f"pidfd_open({os.getpid()})", f"setns(100, {abi.CLONE_NEWNS})"]  # from any chroot
    assert said[2:] == [
        "close(100)", f"mount(None, '/', None, {abi.MS_REC | abi.MS_PRIVATE})", "fchdir(7)", "pivot_root('.', '.')",
        f"umount2('.', {abi.MNT_DETACH})", "chdir('/')",
    ]  # fmt: skip


def test_mask_paths_covers_files_with_our_null_and_directories_with_one_tmpfs() -> None:
    made = world(proc=10, sys=11, dev=12)
    MaskPaths(("/proc/kcore", "/proc/acpi/", "/sys/firmware/")).do(made)
    said = calls(made)
    exact = abi.RESOLVE_BENEATH | abi.RESOLVE_NO_MAGICLINKS | abi.RESOLVE_NO_SYMLINKS
    assert said[0] == f"openat2(12, 'null', {abi.O_PATH}, 0, {exact})"
    assert f"openat2(10, 'kcore', {abi.O_PATH}, 0, {exact})" in said
    assert f"openat2(10, 'acpi', {abi.O_PATH}, 0, {exact})" in said
    assert f"openat2(11, 'firmware', {abi.O_PATH}, 0, {exact})" in said
    assert said.count("fsopen('tmpfs')") == 1
    assert sum(call.startswith("move_mount") for call in said) == 3


def test_protect_paths() -> None:
    made = world(proc=10, sys=11)
    ProtectPaths(("/proc/sys",)).do(made)
    assert f"mount_setattr(101, '', {abi.AT_EMPTY_PATH}, set={abi.MOUNT_ATTR_RDONLY})" in calls(made)
    assert "move_mount(101, 100)" in calls(made)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("kernel.sem", "kernel/sem"),
        ("net.ipv4.conf.eth0/1.forwarding", "net/ipv4/conf/eth0.1/forwarding"),
        ("net/ipv4/conf/eth0.1/forwarding", "net/ipv4/conf/eth0.1/forwarding"),
    ],
)
def test_names_of_sysctls(name: str, path: str) -> None:
    made = world(proc=10)
    SetSysctls({name: "1"}).do(made)
    assert calls(made)[0] == f"openat2(10, 'sys/{path}', {os.O_WRONLY}, 0, {abi.RESOLVE_BENEATH})"


@pytest.mark.parametrize("rdev", [os.makedev(1, 3), os.makedev(1, 5)])
def test_a_device_at_a_place_that_is_taken(rdev: int) -> None:
    answers = {"mknod": FileExistsError(17, "x"), "stat": stat_result(stat.S_IFCHR, rdev)}
    made = world(answers, rootfs=7, dev=8)
    step = AddDevice("/dev/null", stat.S_IFCHR | 0o666, 1, 3)
    if rdev == os.makedev(1, 3):
        step.do(made)  # the same
    else:
        with pytest.raises(Conflict, match="/dev/null"):
            step.do(made)


PTMX = stat_result(stat.S_IFCHR, os.makedev(5, 2))


@pytest.mark.parametrize(
    ("step", "slots"), [(OpenTerminal(24, 80), {"devpts": 5}), (OpenContainerTerminal(24, 80), {"rootfs": 5})]
)
def test_a_terminal_and_its_other_end_by_fd(step: Step, slots: dict[str, int]) -> None:
    made = world({"ioctl": [0, 200, 0], "stat": PTMX}, **slots)
    step.do(made)
    assert (made["master"], made["terminal"]) == (100, 200)
    assert [call.split(",")[1].strip() for call in calls(made) if call.startswith("ioctl(100")] == [
        str(abi.TIOCSPTLCK), str(abi.TIOCGPTPEER), str(abi.TIOCSWINSZ),
    ]  # fmt: skip


# --- cgroups


def test_what_stays_is_said() -> None:
    for kind in (EnableControllers, EnsureBridge):
        assert "It stays" in (kind.__doc__ or "")
        assert "stays" in example(kind).explain()



def test_make_cgroup_and_undo_it() -> None:
    made = world({"exists": True})
    step = MakeCgroup("/cg/nano/id", ("memory",))
    step.do(made)
    assert calls(made)[1:] == [
        "write_file('/cg/nano/cgroup.subtree_control', b'+memory')",
        "mkdir('/cg/nano/id', 493)",
        f"open('/cg/nano/id', {os.O_RDONLY | os.O_DIRECTORY})",
    ]
    undone = world()
    step.undo(undone)
    assert calls(undone) == ["write_file('/cg/nano/id/cgroup.kill', b'1')", "rmdir('/cg/nano/id')", "rmdir('/cg/nano')"]


def test_undoing_a_cgroup_that_never_was() -> None:
    gone = FileNotFoundError(2, "x")
    MakeCgroup("/cg/nano/id").undo(world({"write_file": gone, "rmdir": gone}))
    MakeCgroup1("/cg/nano/id").undo(world({"rmdir": gone}))


def test_a_parent_that_vanishes_meanwhile_is_made_again() -> None:
    made = world({"mkdir": [None, FileNotFoundError(2, "x"), None, None]})
    MakeCgroup("/cg/nano/id").do(made)
    assert [call for call in calls(made) if call.startswith("mkdir")] == [
        "mkdir('/cg/nano', 493)", "mkdir('/cg/nano/id', 493)", "mkdir('/cg/nano', 493)", "mkdir('/cg/nano/id', 493)",
    ]  # fmt: skip


def test_join_cgroup1() -> None:
    made = world(**{"procs:/a": 5, "procs:/b": 6})
    JoinCgroup1(("/a", "/b")).do(made)
    assert calls(made) == ["write(5, b'0')", "write(6, b'0')"]


# --- the process


def test_clone() -> None:
    made = world(cgroup=5)
    Clone(("mnt", "pid")).do(made)
    assert calls(made) == [f"clone3({abi.CLONE_NEWNS | abi.CLONE_NEWPID}, 5)"]
    assert (made["pid"], made["pidfd"]) == (1000, 99)


def test_clone_into_another_pid_namespace_comes_home_again_whatever_happens() -> None:
    made = world({"clone3": OSError(11, "x")}, cgroup=5, target=6)
    with pytest.raises(OSError):
        Clone((), join_pid=True).do(made)
    setns = [call for call in calls(made) if call.startswith("setns")]
    assert setns == [f"setns(6, {abi.CLONE_NEWPID})", f"setns(100, {abi.CLONE_NEWPID})"]
    assert calls(made)[-1] == "close(100)"


ENDED = [("setns", errno.ESRCH), ("clone3", errno.ENOMEM), ("clone3", errno.ENODEV)]


@pytest.mark.parametrize(("call", "number"), ENDED)
def test_a_container_that_ends_while_it_is_joined(call: str, number: int) -> None:
    answer: Any = OSError(number, os.strerror(number))
    made = world({call: [answer, None]}, cgroup=5, target=6)
    with pytest.raises(NotRunning, match="just ended"):
        Clone((), join_pid=True).do(made)
    assert calls(made)[-1] == "close(100)"
    if call == "setns":
        with pytest.raises(NotRunning, match="just ended"):
            EnterNamespaces(("net",)).do(world({"setns": answer}, target=6))
    with pytest.raises(NotRunning, match="just ended"):
        OpenCgroup("/sys/fs/cgroup/x").do(world({"open": FileNotFoundError(2, "x")}))


def test_a_process_that_is_gone() -> None:
    with pytest.raises(NotRunning):
        OpenProcess(5).do(world({"pidfd_open": ProcessLookupError(3, "x")}))


def test_set_ids_groups_first_user_last() -> None:
    made = world(uid=5, gid=6, groups=(6, 7))
    SetIds().do(made)
    assert calls(made) == [
        f"prctl({abi.PR_SET_KEEPCAPS}, 1)", "setgroups((6, 7))", "setresgid(6, 6, 6)", "setresuid(5, 5, 5)",
    ]  # fmt: skip


def test_bound_capabilities_drops_all_others() -> None:
    made = world()
    BoundCapabilities(0b101, 4).do(made)
    assert calls(made) == [f"prctl({abi.PR_CAPBSET_DROP}, {number})" for number in (1, 3, 4)]


@pytest.mark.parametrize(("uid", "mask"), [(0, 6), (1000, 0)])
def test_set_capabilities_only_for_root_and_never_inheritable(uid: int, mask: int) -> None:
    made = world(uid=uid)
    SetCapabilities(6).do(made)
    assert calls(made) == [f"capset({mask}, {mask}, 0)"]


def test_die_with_a_keeper_that_is_dead_already() -> None:
    made = world({"hung_up": True}, wire=9)
    DieWithKeeper().do(made)
    assert calls(made) == [f"prctl({abi.PR_SET_PDEATHSIG}, 9)", "hung_up(9)", "exit(125)"]


NULL = stat_result(stat.S_IFCHR | 0o666, os.makedev(1, 3))


def test_streams() -> None:
    made = world(stdin=5, stdout=6, stderr=7)
    ConnectStreams().do(made)
    assert calls(made) == ["dup2(5, 0)", "dup2(6, 1)", "dup2(7, 2)"]


def test_a_stream_to_nowhere_is_the_containers_own_null() -> None:
    step = ConnectStreams(("stdin",))
    assert step.reads() == ("stdout", "stderr")
    made = world({"stat": NULL}, stdout=6, stderr=7)
    step.do(made)
    assert calls(made)[0] == f"open('/dev/null', {os.O_RDWR | os.O_NOCTTY})"
    assert calls(made)[2:] == ["dup2(100, 0)", "dup2(6, 1)", "dup2(7, 2)", "close(100)"]


def test_a_null_that_is_none_is_refused() -> None:
    with pytest.raises(NanoError, match="not the null device"):
        ConnectStreams(("stdin",)).do(world({"stat": stat_result(stat.S_IFREG)}, stdout=6, stderr=7))


def test_streams_are_given_to_the_user_and_null_devices_are_not() -> None:
    made = world({"stat": [NULL, stat_result(stat.S_IFIFO), stat_result(stat.S_IFIFO, uid=5)]}, uid=5)
    OwnStreams().do(made)
    assert [call for call in calls(made) if call.startswith("chown")] == ["chown(1, 5, -1)"]


# --- exec


Words = tuple[str, ...]


def refused(args: Words, env: Words, errnos: bytes, *, mode: int = -1) -> str:
    """The error's class and text, for what the launcher said. mode: of what lies at the place; -1 for nothing."""
    there = 100 if mode >= 0 else FileNotFoundError(2, "x")
    made = world({"openat2": there, "stat": stat_result(max(mode, 0))}, rootfs=3)
    error = Exec(args, env).refused(made, errnos)
    return f"{type(error).__name__}: {error}"


def test_exec_hands_over_to_the_launcher() -> None:
    made = world(home="/home/me", launcher=9, wire=5)
    Exec(("/bin/a", "b"), ("A=1=2", "junk")).do(made)
    assert calls(made)[-2:] == [
        "set_inheritable(5, True)", "execve_file(9, ('/bin/a', 'b'), {'A': '1=2', 'HOME': '/home/me'})",
    ]  # fmt: skip


def test_home_of_the_environment_goes_before_the_users() -> None:
    made = world(home="/home/me", launcher=9, wire=5)
    Exec(("/a",), ("HOME=/h",)).do(made)
    assert "'HOME': '/h'" in calls(made)[-1]


def test_places() -> None:
    assert Exec(("/bin/a",), ("PATH=/x",)).places() == ("/bin/a",)
    assert Exec(("a",), ("PATH=/x::/y",)).places() == ("/x/a", "./a", "/y/a")


NOENT, ACCES, NOTDIR, NOEXEC = (bytes([code]) for code in (errno.ENOENT, errno.EACCES, errno.ENOTDIR, errno.ENOEXEC))


@pytest.mark.parametrize("errnos", [NOENT + ACCES + NOENT, ACCES + NOENT + NOTDIR])
def test_denied_somewhere_in_path_and_found_nowhere_is_not_executable(errnos: bytes) -> None:
    assert "CommandNotExecutable: cannot run a: permission denied" in refused(("a",), ("PATH=/x:/y:/z",), errnos)


def test_not_found() -> None:
    assert "CommandNotFound: cannot run a: executable file not found" in refused(("a",), ("PATH=/x",), NOENT)
    assert "CommandNotFound: cannot run /a: no such file" in refused(("/a",), (), NOENT)
    assert "CommandNotFound: cannot run /a: no such file" in refused(("/a",), (), NOTDIR)


def test_a_missing_interpreter_is_told_from_a_missing_program() -> None:
    said = refused(("/a",), (), NOENT, mode=stat.S_IFREG)
    assert "CommandNotFound: cannot run /a: /a exists, its interpreter" in said


def test_not_executable() -> None:
    assert "CommandNotExecutable: cannot run /a: permission denied" in refused(("/a",), (), ACCES, mode=stat.S_IFREG)
    assert "CommandNotExecutable: cannot run /a: is a directory" in refused(("/a",), (), ACCES, mode=stat.S_IFDIR)
    said = refused(("a",), ("PATH=/x:/y",), NOEXEC, mode=stat.S_IFREG)
    assert "CommandNotExecutable: cannot run a: exec format error" in said


# --- users

PASSWD = [row.split(":") for row in (
    "root:x:0:0:root:/root:/bin/sh", "me:x:1000:100:Me:/home/me:/bin/sh", "homeless:x:7:7:::", "bad:x:²:7::/:",
    f"endless:x:{'9' * 5000}:7::/:", "badgroup:x:8:-1::/:",
)]  # fmt: skip
GROUP = [row.split(":") for row in (
    "root:x:0:", "wheel:x:10:root,me", "users:x:100:me", "odd:x:²:", "me2:x:20:someone,me",
)]  # fmt: skip


@pytest.mark.parametrize(
    ("user", "extra", "found"),
    [
        ("", (), (0, 0, (0, 10), "/root")),
        ("root", (), (0, 0, (0, 10), "/root")),
        ("0", (), (0, 0, (0, 10), "/root")),
        ("me", (), (1000, 100, (100, 10, 20), "/home/me")),
        ("1000", (), (1000, 100, (100, 10, 20), "/home/me")),
        ("01000", (), (1000, 100, (100, 10, 20), "/home/me")),
        ("4711", (), (4711, 0, (0,), "/")),
        ("me:wheel", (), (1000, 10, (10,), "/home/me")),
        ("me:55", (), (1000, 55, (55,), "/home/me")),
        ("1000:1000", (), (1000, 1000, (1000,), "/home/me")),
        ("4711:users", (), (4711, 100, (100,), "/")),
        (":users", (), (0, 100, (100,), "/root")),
        ("me", ("wheel", "77"), (1000, 100, (100, 10, 20, 77), "/home/me")),
        ("homeless", (), (7, 7, (7,), "/")),
        ("4294967294", (), (4294967294, 0, (0,), "/")),
    ],
)
def test_users(user: str, extra: tuple[str, ...], found: tuple[int, int, tuple[int, ...], str]) -> None:
    assert resolve_user(user, extra, PASSWD, GROUP) == found


@pytest.mark.parametrize(
    ("user", "extra"),
    [("nobody", ()), ("me:nogroup", ()), ("me", ("nogroup",)), ("4294967295", ()), ("-1", ()), ("²", ()), ("0:²", ()),
     ("9" * 5000, ()), ("bad", ()), ("endless", ()), ("badgroup", ()), ("me:odd", ()), ("0x10", ()), (" 0", ())],
)  # fmt: skip
def test_users_that_are_none(user: str, extra: tuple[str, ...]) -> None:
    with pytest.raises(InvalidInput):
        resolve_user(user, extra, PASSWD, GROUP)


class FileKernel:
    """read_small_in's world: two files."""

    def __init__(self, content: bytes, mode: int = stat.S_IFREG) -> None:
        self.content, self.mode, self.offset = content, mode, 0

    def openat2(self, *_: object) -> int:
        self.offset = 0
        return 5

    def stat(self, fd: int) -> os.stat_result:
        return stat_result(self.mode)

    def read(self, fd: int, size: int) -> bytes:
        part = self.content[self.offset : self.offset + min(size, 4096)]
        self.offset += len(part)
        return part

    def close(self, fd: int) -> None: ...


def look_up(content: bytes, user: str = "", mode: int = stat.S_IFREG) -> tuple[Any, ...]:
    made = World(FileKernel(content, mode))  # type: ignore[arg-type]
    made["rootfs"] = 3
    LookUpUser(user).do(made)
    return made["uid"], made["gid"], made["groups"], made["home"]


def test_a_passwd_that_is_a_fifo_is_not_read() -> None:
    assert look_up(b"root:x:5:5::/r:", mode=stat.S_IFIFO) == (0, 0, (0,), "/")


@given(st.binary(max_size=400) | st.text(alphabet="root:x0\n,²-", max_size=80).map(str.encode))
def test_no_file_of_an_image_breaks_us(content: bytes) -> None:
    for user in ("", "0", "root", "0:root"):
        try:
            uid, gid, _, home = look_up(content, user)
        except InvalidInput:
            continue
        assert 0 <= uid < 1 << 32
        assert 0 <= gid < 1 << 32
        assert home


def test_an_endless_passwd_is_read_to_a_megabyte() -> None:
    assert look_up(b"x" * (3 << 20)) == (0, 0, (0,), "/")
