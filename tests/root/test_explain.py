"""--explain against the truth: strace(1) looks at a real start, and sees the calls that the explanation has named.

Compared are, in order, all calls that make the container: mounts, namespaces, cgroup, identity, confinement; each with
every flag and every text in its arguments. Numbers of open files differ from run to run, and are not compared.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from .isolation import umount
from .nano import COMMAND, Nano

HOST = frozenset("fsopen fsconfig fsmount bpf unshare setns clone3 memfd_create openat2 pidfd_open mkdir".split())
INSIDE = frozenset(
    "fsopen fsconfig fsmount open_tree move_mount mount_setattr mount umount2 pivot_root openat2 setns unshare "
    "sethostname setdomainname prctl capset seccomp keyctl close_range prlimit64 mknodat symlinkat mkdirat setgroups "
    "setresgid setresuid setsid execveat pidfd_open umask fchdir".split()
)
_FLAG = re.compile(r"\b[A-Z][A-Z0-9_]{2,}\b")
_TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"')
_LINE = re.compile(r"^(\d+) +(\w+)\((.*)\) += (-?\d+|\?)(?: (E\w+))?")
# What means nothing (MS_: strace says "0 /* MS_??? */"), and what is younger than some versions of strace
_NOTHING = frozenset(("NULL", "O_RDONLY", "MOUNT_ATTR_RELATIME", "MFD_EXEC", "MS_"))

Seen = tuple[str, frozenset[str], tuple[str, ...]]


def facts(name: str, args: str) -> Seen:
    """What is compared of a call."""
    texts = tuple(re.sub(r"\b(?:[0-9a-f]{64}|[0-9a-f]{12})\b", "ID", text) for text in _TEXT.findall(args))
    flags = frozenset(_FLAG.findall(_TEXT.sub("", args))) - _NOTHING
    if name == "bpf":  # strace knows more fields than we show
        return name, frozenset(flag for flag in flags if flag in ("BPF_PROG_LOAD", "BPF_PROG_ATTACH")), ()
    if name == "execveat":
        texts = texts[:2]
    if name == "keyctl":
        texts = ()  # the container's id
    return name, flags, texts


def expected(nano: Nano, side: str, names: frozenset[str], *words: str) -> list[tuple[str, Seen]]:
    data: dict[str, Any] = json.loads(nano("run", "--explain=json", *words).out)
    return [
        (step["name"], facts(call["name"], ", ".join(call["args"])))
        for step in data["steps"]
        if step["side"] == side
        for call in step["calls"]
        if call["name"] in names
    ]


def traced(nano: Nano, log: Path, *words: str) -> list[tuple[str, str, str, str]]:
    """(pid, name, arguments, result) of every call of a run and its processes."""
    command = ["strace", "-f", "-s", "4096", "-o", str(log), COMMAND, "run", *words]
    done = subprocess.run(command, env=nano.env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    half: dict[str, str] = {}
    calls = []
    for line in log.read_text(errors="replace").splitlines():
        pid = line.split(" ", 1)[0]
        if line.endswith("<unfinished ...>"):
            half[pid] = line.removesuffix(" <unfinished ...>")
            continue
        if " resumed>" in line and pid in half:
            line = half.pop(pid) + line.partition(" resumed>")[2]
        if found := _LINE.match(line):
            calls.append((found[1], found[2], found[3], found[4]))
    return calls


def compare(wanted: list[tuple[str, Seen]], seen: list[Seen]) -> None:
    """The first difference, by the step in which it is."""
    for (step, call), real in zip(wanted, seen, strict=False):
        assert call == real, f"step {step}: explained {call}, seen {real}"
    assert len(wanted) == len(seen), (wanted[len(seen) :], seen[len(wanted) :])


SHAPES = {
    "none": ["--network", "none"],
    "bridge": ["--network", "bridge", "-p", "18080:80", "-m", "64m"],
    "user": ["--network", "none", "--user", "1000:1000", "--cap-drop", "ALL", "--ulimit", "nofile=64:128", "--init"],
    "mounts": ["--network", "none", "--tmpfs", "/tmp:size=1m", "--read-only", "-w", "/tmp", "-v", "{here}:/root:ro",
               "--security-opt", "no-new-privileges"],
    "host": ["--network", "host", "--ipc", "host", "--uts", "host", "--privileged"],
}  # fmt: skip


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
@pytest.mark.parametrize("shape", SHAPES)
def test_a_real_start_makes_the_calls_that_were_explained(nano: Nano, tmp_path: Path, shape: str) -> None:
    words = ["--rm", *(word.format(here=tmp_path) for word in SHAPES[shape]), "tiny", "true"]
    nano("run", *words)  # what is made once and kept is there: the image, the compiled filter
    for layer in Path(nano.runroot, "layers").iterdir():  # its layers' mounts are explained as if they were not
        if layer.is_mount():
            umount(str(layer))
    wanted = {side: expected(nano, side, names, *words) for side, names in (("host", HOST), ("inside", INSIDE))}
    assert len(wanted["inside"]) > 50
    calls = traced(nano, tmp_path / "log", *words)
    keeper, init = next((pid, result) for pid, name, _, result in calls if name == "clone3" and int(result) > 0)
    of_keeper = [(name, args) for pid, name, args, _ in calls if pid == keeper]
    born = next(index for index, (name, _) in enumerate(of_keeper) if name == "clone3")
    first = next(index for index, (name, args) in enumerate(of_keeper) if name == "mkdir" and "cgroup" in args)
    compare(
        [(step, call) for step, call in wanted["host"] if "mkdir" not in call[0] or "cgroup" in str(call)],
        [facts(name, args) for name, args in of_keeper[first : born + 1]
         if name in HOST and (name != "mkdir" or "cgroup" in args)],
    )  # fmt: skip
    of_init = [(name, args) for pid, name, args, _ in calls if pid == init]
    if "--init" in words:  # the command is a child, from StartReaper on
        child = next(pid for pid, name, _, _ in calls if name == "execveat" and pid != init)
        forked = next(index for index, (name, _) in enumerate(of_init) if name in ("clone", "fork"))
        of_init = of_init[:forked] + [(name, args) for pid, name, args, _ in calls if pid == child]
    last = next(index for index, (name, _) in enumerate(of_init) if name == "execveat")
    compare(wanted["inside"], [facts(name, args) for name, args in of_init[: last + 1] if name in INSIDE])


def test_explaining_needs_no_root_and_makes_nothing(nano: Nano, tmp_path: Path) -> None:
    root = tmp_path / "nowhere"
    env = {**nano.env, "NANOCONTAINER_ROOT": str(root), "NANOCONTAINER_RUNROOT": str(root / "run")}
    words = ["run", "--explain", "-p", "80:80", "-v", "data:/data", "--user", "me:staff", "tiny", "sh"]
    command = [*("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"), COMMAND, *words]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "pivot_root" in done.stdout
    assert not root.exists()


def shown(nano: Nano, *words: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(nano(words[0], "--explain=json", *words[1:]).out)
    return data


WRITES = frozenset("rename renameat unlink unlinkat rmdir mkdir pidfd_send_signal symlink symlinkat".split())


def changes(calls: list[tuple[str, str]]) -> list[Seen]:
    """What changes files or sends signals, and what is written to cgroup.kill."""
    found = []
    for name, args in calls:
        if name in WRITES or (name == "openat" and "cgroup.kill" in args):
            name, flags, texts = facts(name.replace("unlinkat", "unlink"), args)
            if texts and ".rm-" in texts[-1] and name == "unlink":
                continue  # what a tree held
            found.append((name, flags - {"AT_FDCWD", "AT_REMOVEDIR"}, texts))
    return found


def strace(nano: Nano, log: Path, *words: str) -> list[tuple[str, str]]:
    command = ["strace", "-f", "-s", "4096", "-o", str(log), COMMAND, *words]
    assert subprocess.run(command, env=nano.env, capture_output=True, timeout=120).returncode == 0
    found = (_LINE.match(line) for line in log.read_text(errors="replace").splitlines())
    return [(line[2], line[3]) for line in found if line and line[4] != "-1"]


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
def test_a_removal_changes_what_was_explained(clean: Nano, tmp_path: Path) -> None:
    clean("create", "--name", "gone", "-v", "/data", "tiny", "true")
    data = shown(clean, "rm", "-v", "gone")
    assert clean("ps", "-aq").out, "explaining has removed it"
    wanted = [(call["name"], ", ".join(call["args"])) for part in data["undo"] for call in part["calls"]]
    seen = changes(strace(clean, tmp_path / "log", "rm", "-v", "gone"))
    deleted = [one for one in changes(wanted) if "$" not in str(one)]
    assert {"rename", "unlink", "rmdir"} <= {name for name, _, _ in deleted}
    assert [one for one in deleted if one in seen] == deleted
    order = [seen.index(one) for one in deleted]
    assert order == sorted(order)


def test_a_stop_is_explained_from_the_containers_own_journal(clean: Nano) -> None:
    words = ["--name", "web", "--network", "bridge", "-p", "18081:80", "tiny", "sleep", "100"]
    id = clean("run", "-d", *words).out.strip()
    lines = Path(f"{clean.root}/containers/{id}/journal").read_text().split("\n")
    left = [json.loads(line)["step"] for line in lines if line]
    data = shown(clean, "stop", "web")
    assert [step["name"] for step in data["steps"]] == [
        "SendSignal", "WaitForEnd", "SendSignal", "WaitForEnd", "KillAll",
    ]  # fmt: skip
    assert "SIGTERM" in str(data["steps"][0]["calls"]) and "SIGKILL" in str(data["steps"][2]["calls"])
    assert [undo["name"] for undo in data["undo"]] == [*reversed(left), "DropJournal", "SaveState"]
    assert clean("ps", "-q").out.strip() == id[:12], "explaining has stopped it"
    assert "it is running" in clean("rm", "--explain", "web", check=False).err
    assert shown(clean, "rm", "-f", "web")["steps"][0]["name"] == "SendSignal"
    assert "is running" in clean("start", "--explain", "web", check=False).err
    steps = shown(clean, "exec", "web", "ls", "/")["steps"]
    assert steps[0]["name"] == "OpenProcess" and steps[-1]["name"] == "Exec"
    clean("stop", "-t", "0", "web")
    assert shown(clean, "start", "web")["steps"][-1]["name"] == "Exec"
    for verb in ("stop", "exec"):
        done = clean(verb, "--explain", "web", *(["ls"] if verb == "exec" else []), check=False)
        assert done.code == 1 and "is not running" in done.err
    assert "no such container" in clean("rm", "--explain", "nobody", check=False).err


def test_a_kill_is_explained_and_its_end_where_it_is_one(clean: Nano) -> None:
    id = clean("run", "-d", "--name", "web", "--network", "none", "tiny", "sleep", "100").out.strip()
    data = shown(clean, "kill", "web")
    assert [step["name"] for step in data["steps"]] == ["SendSignal", "WaitForEnd"]
    assert "SIGKILL" in str(data["steps"][0]["calls"])
    assert data["undo"] == shown(clean, "stop", "web")["undo"]
    data = shown(clean, "kill", "--signal", "HUP", "web")
    assert [step["name"] for step in data["steps"]] == ["SendSignal"] and not data["undo"]
    assert "SIGHUP" in str(data["steps"][0]["calls"])
    assert clean("ps", "-q").out.strip() == id[:12], "explaining has killed it"
    clean("kill", "web")
    done = clean("kill", "--explain", "web", check=False)
    assert done.code == 1 and "it is not running" in done.err


def test_a_restart_is_a_stop_and_a_start(clean: Nano) -> None:
    clean("run", "-d", "--name", "web", "--network", "none", "tiny", "sleep", "100")
    pid = clean("inspect", "--format", "{{.State.Pid}}", "web").out
    stop, start = clean("restart", "--explain=short", "web").out.split("This is the short form", 1)
    assert "SendSignal" in stop and "Then taken back" in stop
    assert " Exec " in start
    done = clean("restart", "--explain=html", "web", check=False)
    assert done.code == 1 and "stop --explain=html, start --explain=html" in done.err
    assert clean("inspect", "--format", "{{.State.Pid}}", "web").out == pid
    clean("stop", "-t", "0", "web")
    assert "SendSignal" not in clean("restart", "--explain=short", "web").out


def test_a_create_is_explained_and_makes_nothing(clean: Nano) -> None:
    data = shown(clean, "create", "--name", "later", "tiny", "true")
    assert [step["name"] for step in data["steps"]] == ["ClaimName", "MakeDirectories", "SaveState", "NoteEvent"]
    assert not clean("ps", "-aq").out
    done = clean("create", "--explain=script", "tiny", check=False)
    assert done.code == 125 and "is for run" in done.err


def test_without_root_the_word_is_clear(nano: Nano) -> None:
    command = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", COMMAND, "stop", "--explain", "web"]
    done = subprocess.run(command, env=nano.env, capture_output=True, text=True)
    assert done.returncode == 1 and "this needs root" in done.stderr
