"""The exported script makes the same container: it is run, and what can be seen of both is compared.

DIFFERENCES is all in which they may differ, each with its reason.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .facts import facts
from .nano import Nano, Terminal

SLEEP = ("sleep", "600")

# name → flags of run. Each is a plan of another shape.
SHAPES: dict[str, tuple[str, ...]] = {
    "none": ("--network", "none"),
    "bridge": ("-p", "127.0.0.1:18083:80"),
    "host-network": ("--network", "host"),
    "mounts": ("--network", "none", "-v", "{tmp}/shared:/a", "-v", "{tmp}/shared/file:/etc/file:ro", "-v",
               "{tmp}/new:/n", "-v", "kept:/var/run/kept", "-v", "/anonymous", "--tmpfs", "/t:size=1m,mode=700"),
    "limits": ("--network", "none", "-m", "64m", "--cpus", "0.5", "--pids-limit", "50", "--cpuset-cpus", "0",
               "--cpu-shares", "512"),
    "user": ("--network", "none", "--read-only", "-u", "1000:1001", "--group-add", "1002", "-w", "/made/here", "-e",
             "A=b c", "-e", "QUOTED='\"$x\\", "-e", "PWD=/elsewhere", "--hostname", "named", "--domainname", "example"),
    "named-user": ("--network", "none", "-u", "nobody"),
    "capabilities": ("--network", "none", "--cap-drop", "ALL", "--cap-add", "NET_RAW", "--cap-add", "KILL"),
    "no-new-privileges": ("--network", "none", "-u", "1000", "--security-opt", "no-new-privileges"),
    "unconfined": ("--network", "none", "--security-opt", "seccomp=unconfined", "--security-opt",
                   "systempaths=unconfined"),
    "privileged": ("--privileged", "--network", "none"),
    "host-namespaces": ("--network", "host", "--pid", "host", "--ipc", "host", "--uts", "host", "--cgroupns", "host"),
    "settings": ("--network", "none", "--sysctl", "net.ipv4.ip_forward=1", "--sysctl", "kernel.shmmax=12345678",
                 "--ulimit", "nofile=100:200", "--ulimit", "core=-1", "--oom-score-adj", "100", "--shm-size", "1m"),
    "device": ("--network", "none", "--device", "/dev/fuse:/dev/deep/fuse:r"),
    "interactive": ("--network", "none", "-i"),
    "init": ("--network", "none", "--init"),
}  # fmt: skip

# Words that would act, were they not quoted, in the part inside and in the shell that becomes the command.
HOSTILE = "x\nINSIDE\n  touch {tmp}/struck\n$(touch {tmp}/struck)`touch {tmp}/struck`'\"; touch {tmp}/struck; \\"
SHAPES["hostile"] = (
    "--network", "none", "-e", f"A={HOSTILE}", "-e", f"PWD={HOSTILE}", "-w", f"/{HOSTILE}", "-v",
    f"{{tmp}}/shared:/{HOSTILE}", "--tmpfs", f"/t/{HOSTILE}",
)  # fmt: skip

# In what a script's container may differ: shape (or all of them) → fact → why.
DIFFERENCES: dict[str, dict[str, str]] = {
    "init": {
        "command line": "process 1 is the shell that waits for the command, and not the engine",
        "program": "the same",
        "SigCgt": "the shell catches the signals that it passes on, the engine has its own way",
        "SigIgn": "the engine is Python, which ignores SIGPIPE and SIGXFSZ, in process 1 as well",
        "Umask": "the engine sets it in the child alone",
        "environment": "process 1 of the engine is a fork of it, with the environment that it was started with",
        "open files": "the shell keeps the standard input that it gives to its child",
    },
}


class Script:
    """A script that runs: its process, and the first process of its container."""

    def __init__(self, path: Path, **options: Any) -> None:
        text = path.read_text()
        self.id = re.search(r"^id=(\w+)", text, re.M)[1]  # type: ignore[index]
        self.directory = re.search(r'^dir="(.*)"/"\$id"', text, re.M)[1] + f"/{self.id}"  # type: ignore[index]
        # Who started us may ignore signals, as nohup(1) does: a shell cannot trap those
        self.process = subprocess.Popen(["dash", str(path)], preexec_fn=_with_signals, **options)

    def init(self, command: tuple[str, ...]) -> int:
        """The pid of the first process, once it has become the command: a machine that is emulated takes its time."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            assert self.process.poll() is None, f"the script has ended with {self.process.returncode}"
            with contextlib.suppress(OSError, ValueError):
                pid = int(Path(self.directory, "init").read_text())
                line = Path(f"/proc/{pid}/cmdline").read_bytes()
                if line.startswith("\0".join(command).encode()) or (b"child=$!" in line and _has_child(pid)):
                    return pid
            time.sleep(0.01)
        raise AssertionError("the command did not start")

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(20)


def _with_signals() -> None:
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def _has_child(pid: int) -> bool:
    for name in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        if b"sleep" in Path(f"/proc/{name}/cmdline").read_bytes():
            return True
    return False


def script_file(nano: Nano, tmp_path: Path, *args: str) -> Path:
    path = tmp_path / "script.sh"
    path.write_text(nano("run", "--explain=script", *args).out)
    return path


@pytest.fixture
def at(tmp_path: Path) -> Callable[[tuple[str, ...]], list[str]]:
    """Flags with this test's directory in them."""
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/file").write_text("shared\n")
    return lambda flags: [flag.replace("{tmp}", str(tmp_path)) for flag in flags]


@pytest.fixture
def volumes(nano: Nano) -> Iterator[None]:
    """Named volumes that a test makes are no leftovers: they are to stay."""
    yield
    for name in ("kept", "filled"):
        shutil.rmtree(f"{nano.root}/volumes/{name}", ignore_errors=True)


def directory(path: str) -> dict[str, str]:
    """A common name for a directory: for its path, and for its path within the file system it is on (mountinfo)."""
    top = path
    while not os.path.ismount(top):
        top = os.path.dirname(top)
    return {path: "DIR", path.removeprefix(top.rstrip("/")): "DIR"}


def ours(nano: Nano, flags: list[str]) -> tuple[int, dict[str, str]]:
    """A container of the engine: its first process, and what its names are called."""
    id = nano("run", "-d", *flags, "tiny", *SLEEP).out.strip()
    pid = int(nano("inspect", "--format", "{{.State.Pid}}", id).out)
    group = re.search(r"/(nanocontainer\S*)/" + id, Path(f"/proc/{pid}/cgroup").read_text())[1]  # type: ignore[index]
    mounts = json.loads(nano("inspect", "--format", "{{json .Mounts}}", id).out)
    anonymous = [mount["Name"] for mount in mounts if len(mount.get("Name", "")) == 64]
    names = {**directory(f"{nano.root}/containers/{id}"), f"/{group}/{id}": "/GROUP", id[:12]: "ID"}
    networks = json.loads(nano("inspect", id).out)[0]["NetworkSettings"]["Networks"].values()
    addresses = {one["IPAddress"]: "ADDRESS" for one in networks} | {
        one["GlobalIPv6Address"]: "ADDRESS6" for one in networks
    }
    nameless = {f"{nano.root}/volumes/{name}": "ANONYMOUS" for name in anonymous}
    addresses.pop("", None)
    return pid, {**nameless, **names, **addresses}


@pytest.mark.parametrize("shape", SHAPES)
def test_makes_the_same_container(
    clean: Nano, tmp_path: Path, at: Callable[[tuple[str, ...]], list[str]], volumes: None, shape: str
) -> None:
    flags = at(SHAPES[shape])
    pid, names = ours(clean, flags)
    expected = facts(pid, names)
    clean.remove_all()  # both want the same port
    path = script_file(clean, tmp_path, *flags, "tiny", *SLEEP)
    stdin = subprocess.PIPE if "-i" in flags else subprocess.DEVNULL
    script = Script(path, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        added = re.findall(r"ip address add (\S+)/\d+ (?:broadcast \+|nodad) dev eth0", path.read_text())
        found = facts(script.init(SLEEP), {
            f"{script.directory}/volume": "ANONYMOUS",
            **directory(script.directory), f"/nanocontainer-script/{script.id}": "/GROUP", script.id: "ID",
            **{address: "ADDRESS6" if ":" in address else "ADDRESS" for address in added},
        })  # fmt: skip
        expected, found = _common(expected), _common(found)
    finally:
        code = script.end()
        out, err = script.process.communicate()
    allowed = {**DIFFERENCES.get(shape, {})}
    differ = {name: _difference(expected[name], found[name]) for name in expected if expected[name] != found[name]}
    assert {name: pair for name, pair in differ.items() if name not in allowed} == {}
    assert differ.keys() >= DIFFERENCES.get(shape, {}).keys()  # no excuse without a reason
    assert (code, out, err) == (128 + signal.SIGTERM, b"", b"")


def _difference(expected: Any, found: Any) -> Any:
    """To be read in a failure: what only one of two lists has, or both values."""
    if isinstance(expected, list):
        return [f"ours: {item}" for item in expected if item not in found], [
            f"script: {item}" for item in found if item not in expected
        ]
    return expected, found


def _common(table: dict[str, Any]) -> dict[str, Any]:
    mounts = [re.sub(r"ANONYMOUS\d*/", "ANONYMOUS/", line) for line in table["mounts"]]
    # As the kernel was told: mount(2) with "ro" makes a read-only file system and mount, fsmount(2) only such a mount.
    mounts = [line.replace("lowerdir+=", "lowerdir=") for line in mounts]
    mounts = [re.sub(r"[^=,: ]*/(?:layers/[0-9a-f]{64}|layer\d+)\b", "LAYER", line) for line in mounts]
    mounts = [re.sub(r"((?:sysfs|tmpfs) \S+ \S+ \S*\bro\b\S* \S*)\brw\b", r"\1ro", line) for line in mounts]
    mounts = [" ".join((*line.split()[:5], ",".join(sorted(line.split()[5].split(","))), *line.split()[6:]))
              for line in mounts]  # fmt: skip
    return {**table, "mounts": mounts}


def run(path: Path, *, input: bytes = b"", env: dict[str, str] | None = None) -> tuple[int, str, str]:
    """Run a script to its end: exit code, stdout, stderr."""
    done = subprocess.run(["dash", str(path)], input=input, capture_output=True, timeout=60, env=env)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def script_groups() -> list[str]:
    """Their common cgroups. Those of others come and go meanwhile, which glob minds less than Path.glob."""
    return glob.glob("/sys/fs/cgroup/**/nanocontainer-script", recursive=True)


def leftovers(nano: Nano) -> list[str]:
    """What scripts have left where the census does not look for theirs."""
    return script_groups() + [str(path) for path in Path(nano.root).glob("scripts")]


@pytest.fixture(autouse=True)
def nothing_left(nano: Nano) -> Iterator[None]:
    yield
    assert leftovers(nano) == []


def test_streams_and_the_exit_code_are_the_commands(nano: Nano, tmp_path: Path) -> None:
    path = script_file(nano, tmp_path, "-i", "--network", "none", "tiny", "sh", "-c", "cat; echo problem >&2; exit 7")
    assert run(path, input=b"asked") == (7, "asked", "problem\n")


@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        (("nosuch",), 127, "nosuch: not found"),
        (("/etc/passwd",), 126, "ermission denied"),
        (("sh", "-c", "kill -9 $$; exit 3"), 3, ""),
    ],
)
def test_commands_that_cannot_be_run_end_as_with_the_engine(
    nano: Nano, tmp_path: Path, command: tuple[str, ...], code: int, says: str
) -> None:
    path = script_file(nano, tmp_path, "--network", "none", "tiny", *command)
    assert nano("run", "--rm", "--network", "none", "tiny", *command, check=False).code == code
    found, _, err = run(path)
    assert found == code
    assert says in err


def test_init_hands_signals_and_the_exit_code_on(nano: Nano, tmp_path: Path) -> None:
    command = ("sh", "-c", "trap 'exit 5' TERM; echo up; while :; do sleep 0.05; done")
    path = script_file(nano, tmp_path, "--init", "--network", "none", "tiny", *command)
    script = Script(path, stdout=subprocess.PIPE)
    assert script.process.stdout
    assert script.process.stdout.readline() == b"up\n"
    os.kill(int(Path(script.directory, "init").read_text()), signal.SIGTERM)
    assert script.process.wait(20) == 5
    script.process.stdout.close()


def test_a_killed_command_ends_the_script_with_its_signal(nano: Nano, tmp_path: Path) -> None:
    script = Script(script_file(nano, tmp_path, "tiny", *SLEEP))
    os.kill(script.init(SLEEP), signal.SIGKILL)
    assert script.process.wait(20) == 128 + signal.SIGKILL


def test_killed_it_takes_the_container_along(nano: Nano, tmp_path: Path) -> None:
    """It cannot clean up then: what is left is what its header says."""
    script = Script(script_file(nano, tmp_path, "--network", "none", "tiny", *SLEEP))
    pid = script.init(SLEEP)
    script.process.kill()
    script.process.wait()
    for _ in range(500):
        if not Path(f"/proc/{pid}").exists():
            break
        time.sleep(0.01)
    assert not Path(f"/proc/{pid}").exists()
    for mounted in (f"{script.directory}/netns", *Path(script.directory).glob("layer*")):
        subprocess.run(["umount", mounted], check=True)
    shutil.rmtree(script.directory)
    Path(script.directory).parent.rmdir()
    for top in map(Path, script_groups()):
        (top / script.id).rmdir()
        top.rmdir()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_ended_at_any_moment_it_leaves_nothing(nano: Nano, tmp_path: Path, number: int) -> None:
    path = script_file(nano, tmp_path, "-m", "64m", "-p", "127.0.0.1:18083:80", "tiny", *SLEEP)
    for tenths in range(14):
        script = Script(path, stderr=subprocess.DEVNULL)
        time.sleep(tenths * 0.05)
        assert script.end(number) in (128 + number, -number, 2), tenths  # of it, before its traps; 2: open(2) was cut
        assert leftovers(nano) == [], tenths


@pytest.mark.parametrize(
    ("flags", "code", "says"),
    [
        (("-u", "nosuch"), 125, "unable to find user nosuch"),
        (("-u", "0:nosuch"), 125, "unable to find group nosuch"),
        (("--mount", "type=bind,source=/no/such/source,target=/x"), 125, "/no/such/source"),
        (("-w", "/etc/passwd/x"), 125, "Not a directory"),
    ],
)
def test_a_start_that_fails_says_why_and_leaves_nothing(
    nano: Nano, tmp_path: Path, flags: tuple[str, ...], code: int, says: str
) -> None:
    found, out, err = run(script_file(nano, tmp_path, *flags, "tiny", "echo", "ran"))
    assert (found, out) == (code, "")
    assert says in err


def test_a_port_or_bridge_in_use_is_refused_before_anything_is_made(clean: Nano, tmp_path: Path) -> None:
    path = script_file(clean, tmp_path, "-p", "127.0.0.1:18083:80", "tiny", *SLEEP)
    clean("run", "-d", "-p", "127.0.0.1:18083:80", "tiny", *SLEEP)
    code, _, err = run(path)
    assert code == 125
    assert "port 18083/tcp is in use on this host" in err
    clean.remove_all()
    bridge = re.search(r"ip link add (nanos\w+) ", path.read_text())[1]  # type: ignore[index]
    subprocess.run(["ip", "link", "add", bridge, "type", "bridge"], check=True)
    try:
        code, _, err = run(path)
        assert code == 125
        assert f"bridge {bridge} or its subnet" in err
        assert Path(f"/sys/class/net/{bridge}").exists()  # it is somebody else's
    finally:
        subprocess.run(["ip", "link", "delete", bridge], check=True)


def test_it_does_not_run_twice_at_once(nano: Nano, tmp_path: Path) -> None:
    path = script_file(nano, tmp_path, "--network", "none", "tiny", *SLEEP)
    first = Script(path)
    first.init(SLEEP)
    code, _, err = run(path)
    assert code == 125
    assert "is this script running already" in err
    assert first.process.poll() is None
    first.end()


def test_a_published_port_is_answered(nano: Nano, tmp_path: Path) -> None:
    serve = ("sh", "-c", "while :; do echo hello | nc -l -p 80; done")
    script = Script(script_file(nano, tmp_path, "-p", "127.0.0.1:18083:80", "tiny", *serve))
    try:
        script.init(serve)
        for _ in range(100):
            done = subprocess.run(["busybox", "nc", "-w", "2", "127.0.0.1", "18083"], capture_output=True, input=b"")
            if done.stdout:
                break
            time.sleep(0.05)
        assert done.stdout == b"hello\n"
    finally:
        script.end()


@pytest.mark.parametrize("flags", [(), ("--privileged",), ("--device-cgroup-rule", "c 1:11 r")])
def test_device_rules_are_the_same(nano: Nano, tmp_path: Path, flags: tuple[str, ...]) -> None:
    """1:11 is the kernel's log: /dev/kmsg."""
    try_it = "mknod /log c 1 11 && dd if=/log of=/dev/null bs=8192 count=1 2>/dev/null; echo $?"
    args = ("--network", "none", *flags, "tiny", "sh", "-c", try_it)
    assert run(script_file(nano, tmp_path, *args)) == (0, nano("run", "--rm", *args).out, "")


def test_the_seccomp_filter_is_the_same(nano: Nano, tmp_path: Path) -> None:
    try_it = "unshare -U true; mount -t tmpfs x /mnt; echo $?"
    args = ("--network", "none", "--cap-add", "SYS_ADMIN", "--cap-drop", "SYS_CHROOT", "tiny", "sh", "-c", try_it)
    result = nano("run", "--rm", *args)
    assert run(script_file(nano, tmp_path, *args)) == (0, result.out, result.err)


def test_without_perl_it_says_what_is_left_out(nano: Nano, tmp_path: Path) -> None:
    """And where there is perl it is not needed for anything else."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for directory in ("/usr/local/bin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"):
        for name in os.listdir(directory):
            if not name.startswith("perl") and not (tools / name).exists():
                (tools / name).symlink_to(f"{directory}/{name}")
    path = script_file(nano, tmp_path, "--network", "none", "tiny", "grep", "Seccomp:", "/proc/self/status")
    text = path.read_text().replace("PATH=$PATH:/usr/sbin:/sbin\n", "")
    path.write_text(text)
    code, out, err = run(path, env={"PATH": str(tools)})
    assert code == 0
    assert "warning: device rules are not loaded: needs perl" in err
    assert "warning: the session keyring stays the caller's: needs perl" in err
    if "--seccomp-filter" in subprocess.run(["setpriv", "--help"], capture_output=True, text=True).stdout:
        assert out == "Seccomp:\t2\n"
    else:
        assert out == "Seccomp:\t0\n"
        assert "warning: the seccomp filter is not loaded: needs perl, or a setpriv" in err


def test_a_volume_is_filled_and_kept(nano: Nano, tmp_path: Path, volumes: None) -> None:
    args = ("--network", "none", "-v", "filled:/etc", "tiny", "sh", "-c", "test -f /etc/passwd && touch /etc/mine")
    assert run(script_file(nano, tmp_path, *args))[0] == 0
    assert Path(nano.root, "volumes/filled/_data/mine").exists()


def test_a_link_of_the_image_leads_nowhere_on_the_host(nano: Nano, tmp_path: Path, volumes: None) -> None:
    """Mounts over links that an earlier container has left in a volume: absolute ones, and ones that climb."""
    for link in ("/tmp", "../../../../../../tmp"):
        make = ("--network", "none", "-v", "kept:/v", "tiny", "ln", "-sfn", link, "/v/link")
        assert run(script_file(nano, tmp_path, *make))[0] == 0
        use = ("--network", "none", "-v", "kept:/v", "--tmpfs", "/v/link/deep", "tiny")
        code, out, err = run(script_file(nano, tmp_path, *use, "grep", " /tmp/deep ", "/proc/mounts"))
        assert (code, err) == (0, "")
        assert out.startswith("tmpfs /tmp/deep ")
        assert not os.path.exists("/tmp/deep")


def test_a_running_container_and_its_script_live_side_by_side(clean: Nano, tmp_path: Path) -> None:
    id = clean("run", "-d", "--name", "web", "-m", "64m", "-e", "A=b", "tiny", *SLEEP).out.strip()
    path = tmp_path / "web.sh"
    clean("export", "--script", "-o", str(path), "web")
    script = Script(path)
    try:
        pid = script.init(SLEEP)
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        assert {b"A=b", f"HOSTNAME={id[:12]}".encode()} <= set(environment)
        assert clean("exec", "web", "echo", "here").out == "here\n"
    finally:
        script.end()
    assert clean("exec", "web", "echo", "still here").out == "still here\n"


def test_other_containers_are_joined(clean: Nano, tmp_path: Path) -> None:
    clean("run", "-d", "--name", "first", "tiny", *SLEEP)
    args = ("--network", "container:first", "--pid", "container:first", "--ipc", "container:first", "tiny")
    show = ("sh", "-c", "for kind in net pid ipc; do readlink /proc/self/ns/$kind; done; cat /proc/1/cmdline")
    assert run(script_file(clean, tmp_path, *args, *show)) == (0, clean("exec", "first", *show).out, "")


def test_a_terminal_is_the_callers(nano: Nano, tmp_path: Path) -> None:
    path = script_file(nano, tmp_path, "-it", "--network", "none", "tiny", "sh")
    with Terminal(["dash", str(path)], {**os.environ, "TERM": "xterm"}, 24, 80) as terminal:
        terminal.expect("# ")
        terminal.send("test -t 0 && test -c /dev/console && echo a-$TERM-\r")
        terminal.expect("a-xterm-\r")
        terminal.send("\x03")  # is the shell's business
        terminal.send("exit 9\r")
        assert terminal.wait() == 9


def test_a_real_image(nano: Nano, tmp_path: Path, debian_image: str, pulled: Callable[..., Any]) -> None:
    show = "id; pwd; cat /etc/hosts | wc -l; python3 -c 'print(6*7)'"
    args = ("-u", "daemon", "-w", "/tmp", debian_image, "bash", "-c", show)
    pulled(debian_image)
    result = nano("run", "--rm", *args)
    assert run(script_file(nano, tmp_path, *args)) == (0, result.out, "")


def test_an_export_of_nothing_is_refused(clean: Nano) -> None:
    assert clean("export", "--script", "nosuch", check=False).code == 1
