"""compare on the real kernel: our containers, the host, docker's, podman's, crun's and runc's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nanocontainer.kernel import abi, filters
from nanocontainer.kernel import seccomp as profiles

from .isolation import descendants
from .nano import Nano

BUSYBOX = "/usr/bin/busybox"
PARENT = f"nanocontainer-compare-{os.getpid()}"  # the other engines' cgroups, in every hierarchy


def compare(nano: Nano, a: str, b: str, *flags: str) -> dict[str, dict[str, Any]]:
    found = json.loads(nano("compare", "-f", "json", *flags, a, b).out)
    return {row["subject"]: row for row in found["rows"]}


def verdicts(rows: dict[str, dict[str, Any]], verdict: str) -> set[str]:
    return {subject for subject, row in rows.items() if row["verdict"] == verdict}


@pytest.fixture
def plain(clean: Nano) -> Nano:
    """An engine with a default container "plain"."""
    clean("run", "-d", "--name", "plain", "tiny", "sleep", "1000")
    return clean


def test_two_default_containers_are_the_same(plain: Nano) -> None:
    plain("run", "-d", "--name", "twin", "tiny", "sleep", "1000")
    rows = compare(plain, "plain", "twin", "--filters")
    assert verdicts(rows, "same") == set(rows)
    assert "the same 76 calls" in rows["seccomp"]["why"] or "calls never pass" in rows["seccomp"]["why"]
    assert "Neither is weaker" in plain("compare", "plain", "twin").out
    assert plain("compare", "-w", "plain", "twin").out.count("\n") < 6


def test_the_host_is_weaker_than_a_container_in_every_respect_that_differs(plain: Nano) -> None:
    rows = compare(plain, "plain", "host")
    assert verdicts(rows, "A weaker") == set() and verdicts(rows, "different") == set()
    assert verdicts(rows, "B weaker") >= {
        "namespaces mnt pid net uts ipc cgroup", "capabilities it holds", "seccomp", "root file system",
        "writable host files",
        "writable /proc and /sys", "unhidden /proc and /sys", "network",
    }  # fmt: skip
    assert compare(plain, "host", "plain")["seccomp"]["verdict"] == "A weaker"


@pytest.mark.parametrize(
    ("flags", "weaker"),
    [
        (["--network", "host"], {"namespace net", "network"}),
        (["--pid", "host"], {"namespace pid"}),
        (["--ipc", "host"], {"namespace ipc"}),
        (["--uts", "host"], {"namespace uts"}),
        (["--cgroupns", "host"], {"namespace cgroup"}),
        (["--cap-add", "SYS_ADMIN"], {"capabilities it holds", "capabilities within reach", "seccomp"}),
        (["--security-opt", "seccomp=unconfined"], {"seccomp"}),
        (["--security-opt", "systempaths=unconfined"], {"writable /proc and /sys", "unhidden /proc and /sys"}),
        (["-v", "/srv:/srv"], {"writable host files"}),
        (["-v", "/srv:/srv:ro"], set()),
        (["-v", "compare:/data"], set()),
        (["-v", "/run:/host/run"], {"engine sockets", "writable host files"}),
    ],
)
def test_a_flag_that_opens_something_is_seen(plain: Nano, flags: list[str], weaker: set[str]) -> None:
    plain("run", "-d", "--name", "other", *flags, "tiny", "sleep", "1000")
    try:
        rows = compare(plain, "plain", "other", "--filters")
        found = verdicts(rows, "B weaker")
        if "/run:/host/run" in flags:  # whether /run is a mount of its own is the host's affair
            assert found & weaker
        else:
            assert found == weaker
        assert verdicts(rows, "A weaker") == set()
    finally:
        plain("rm", "-f", "other")
        shutil.rmtree(f"{plain.root}/volumes/compare", ignore_errors=True)


@pytest.mark.parametrize(
    ("flags", "weaker"),
    [
        (["-u", "1000"], {"user", "capabilities it holds"}),
        (["--cap-drop", "ALL"], {"capabilities it holds", "capabilities within reach"}),
        (["--security-opt", "no-new-privileges"], {"no_new_privs"}),
        (["--read-only"], {"root file system"}),
        (["--network", "none"], {"network"}),
        (["-m", "64m", "--pids-limit", "20", "--cpus", "0.5"], {"memory", "processes", "processors"}),
        (["--ulimit", "nofile=100:100"], {"ulimit open files"}),
    ],
)
def test_a_flag_that_closes_something_is_seen(plain: Nano, flags: list[str], weaker: set[str]) -> None:
    plain("run", "-d", "--name", "other", *flags, "tiny", "sleep", "1000")
    rows = compare(plain, "plain", "other")
    assert verdicts(rows, "A weaker") == weaker and verdicts(rows, "B weaker") == set()


def test_containers_that_share_say_so(plain: Nano) -> None:
    plain("run", "-d", "--name", "guest", "--network", "container:plain", "tiny", "sleep", "1000")
    row = compare(plain, "plain", "guest")["namespace net"]
    assert (row["a"], row["verdict"]) == ("one for both", "same") and "not separated from each other" in row["why"]


def test_the_filter_in_the_kernel_is_the_profile_s(plain: Nano) -> None:
    """And a process that was stopped to read it goes on."""
    pid = int(plain("inspect", "-f", "{{.State.Pid}}", "plain").out)
    held = int(Path(f"/proc/{pid}/status").read_text().split("CapBnd:")[1].split()[0], 16)
    (program,) = filters.filters(pid)
    expected = profiles.blocked("default", abi.MACHINE, held, os.uname().release)
    assert filters.blocked((program,), abi.MACHINE) == expected
    status = Path(f"/proc/{pid}/status").read_text()
    assert "TracerPid:\t0\n" in status and "State:\tS" in status


def test_a_paused_container_can_be_compared(plain: Nano) -> None:
    plain("pause", "plain")
    assert compare(plain, "plain", "host")["seccomp"]["verdict"] == "B weaker"
    done = plain("compare", "--filters", "plain", "host", check=False, timeout=20)
    assert done.code == 0 or "unpause" in done.err
    plain("unpause", "plain")
    assert plain("exec", "plain", "echo", "alive").out == "alive\n"


@pytest.mark.parametrize(
    ("args", "why"),
    [(["plain", "nosuch"], "no such container"), (["plain", "pid:x"], "must be like pid:1234"),
     (["plain", "pid:99999999"], "no process"), (["plain", "idle"], "start it first"),
     (["plain"], "requires exactly 2"),
     (["-f", "xml", "plain", "host"], "not one of text, json, html")],
)  # fmt: skip
def test_bad_input(plain: Nano, args: list[str], why: str) -> None:
    plain("create", "--name", "idle", "tiny", "true")
    done = plain("compare", *args, check=False)
    assert done.code == 1 and why in done.err and not done.out


# --- others' containers


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    """A tree with busybox as /bin/sleep."""
    if not os.path.exists(BUSYBOX):
        pytest.skip("a static busybox is not there: ./check setup installs it")
    place = tmp_path / "rootfs"
    for name in ("bin", "proc", "sys", "dev", "etc", "tmp"):
        (place / name).mkdir(parents=True)
    shutil.copy(BUSYBOX, place / "bin/busybox")
    for name in ("sleep", "true", "sh"):
        (place / "bin" / name).symlink_to("busybox")
    return place


@pytest.fixture
def tar(rootfs: Path, tmp_path: Path) -> Path:
    subprocess.run(["tar", "-C", str(rootfs), "-cf", str(tmp_path / "rootfs.tar"), "."], check=True)
    return tmp_path / "rootfs.tar"


@pytest.fixture
def apart() -> Iterator[Callable[..., list[str]]]:
    """Words in front of a command: it runs in mount and network namespaces of its own, which hold what other engines
    would leave on the host (bridges, firewall rules, mounts). Their cgroups and processes are removed at the end."""
    # crun takes a host with any cgroup2 mount for a host with version 2 alone
    hide = "! mountpoint -q /sys/fs/cgroup/unified || umount -l /sys/fs/cgroup/unified"
    holder = subprocess.Popen(
        ["unshare", "-m", "-n", "--propagation", "private", "sh", "-c", f"{hide}; echo; exec sleep 1000"],
        stdout=subprocess.PIPE,
    )
    assert holder.stdout
    holder.stdout.readline()
    before = set(descendants(os.getppid()))
    yield lambda *words: ["nsenter", "-t", str(holder.pid), "-m", "-n", *words]
    holder.kill()
    holder.wait()
    holder.stdout.close()
    for pid in set(descendants(os.getppid())) - before:
        try:
            os.kill(pid, 9)
        except ProcessLookupError:
            pass
    deadline = time.monotonic() + 5
    while (left := groups()) and time.monotonic() < deadline:
        for path in left:
            try:
                path.rmdir()
            except OSError:
                time.sleep(0.01)
    assert not left, left


def groups() -> list[Path]:
    """The cgroups of the other engines, the deepest first."""
    tops = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines() if " - cgroup" in line]
    found = [path for top in tops for path in Path(top).glob(f"{PARENT}*") if path.is_dir()]
    below = [below for path in found for below in path.rglob("*") if below.is_dir()]
    return sorted({*found, *below}, key=lambda path: -len(path.parts))


def must(words: list[str], **options: Any) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, **options)
    assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"
    return done.stdout.strip()


def needs(*programs: str) -> None:
    lacking = [program for program in programs if not shutil.which(program)]
    if lacking:
        pytest.skip(f"{', '.join(lacking)} not installed: no other engine is, for the tests alone")


def test_docker_s_default_container(plain: Nano, tar: Path, tmp_path: Path, apart: Callable[..., list[str]]) -> None:
    needs("docker", "dockerd", "containerd", "runc", "iptables")
    socket = f"unix://{tmp_path}/d.sock"
    with open(tmp_path / "log", "wb") as log:
        server = subprocess.Popen(
            apart("dockerd", "-H", socket, "--data-root", f"{tmp_path}/data", "--exec-root", f"{tmp_path}/exec", "-p",
                  f"{tmp_path}/pid", "--bip", "10.213.78.1/24", "--cgroup-parent", f"/{PARENT}"),
            stdout=log, stderr=log,
        )  # fmt: skip
    docker = apart("env", f"DOCKER_HOST={socket}", "docker")
    try:
        deadline = time.monotonic() + 30
        while not Path(tmp_path / "d.sock").exists() and server.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        if server.poll() is not None:
            pytest.skip(f"dockerd does not start here: {(tmp_path / 'log').read_text()[-300:]}")
        must([*docker, "import", str(tar), "sleeper"])
        must([*docker, "run", "-d", "--name", "one", "sleeper", "/bin/sleep", "1000"])
        pid = must([*docker, "inspect", "-f", "{{.State.Pid}}", "one"])
        rows = compare(plain, "plain", f"pid:{pid}", "--filters")
        assert verdicts(rows, "A weaker") <= {"security module"}, rows  # where docker has AppArmor
        for subject in ("capabilities it holds", "capabilities within reach", "user", "root file system", "network"):
            assert rows[subject]["verdict"] == "same", rows[subject]
        assert rows["seccomp"]["a"].startswith("filter") and "calls blocked" in rows["seccomp"]["b"]
        holes = ("-v", f"{tmp_path}:/mnt", "-v", f"{tmp_path}/d.sock:/run/docker.sock", "--network", "host")
        must([*docker, "run", "-d", "--name", "open", *holes, "--security-opt", "seccomp=unconfined", "sleeper",
              "/bin/sleep", "1000"])  # fmt: skip
        pid = must([*docker, "inspect", "-f", "{{.State.Pid}}", "open"])
        weaker = verdicts(compare(plain, "plain", f"pid:{pid}"), "B weaker")
        assert weaker >= {"seccomp", "engine sockets", "writable host files"}
    finally:
        subprocess.run([*docker, "rm", "-f", "one", "open"], capture_output=True, timeout=60)
        server.terminate()
        server.wait(30)


def test_podman_s_default_container(plain: Nano, tar: Path, tmp_path: Path, apart: Callable[..., list[str]]) -> None:
    needs("podman", "conmon", "crun")
    (tmp_path / "containers.conf").write_text(
        '[containers]\ndefault_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]\n'
    )
    short = f"/run/{PARENT}"  # 50 characters are allowed
    podman = apart(
        "env", f"CONTAINERS_CONF={tmp_path}/containers.conf", "podman", "--root", f"{tmp_path}/root", "--runroot",
        short, "--tmpdir", f"{tmp_path}/tmp", "--runtime", "crun", "--cgroup-manager", "cgroupfs",
    )  # fmt: skip
    must([*podman, "import", "-q", str(tar), "sleeper"])
    try:
        must([*podman, "run", "-d", "--name", "one", "--network", "none", "--cgroup-parent", f"/{PARENT}", "sleeper",
              "/bin/sleep", "1000"])  # fmt: skip
        pid = must([*podman, "inspect", "-f", "{{.State.Pid}}", "one"])
        rows = compare(plain, "plain", f"pid:{pid}", "--filters")
        assert rows["network"]["verdict"] == "A weaker"  # loopback alone there
        effective = Path(f"/proc/{pid}/status").read_text().split("CapEff:")[1].split()[0]
        assert rows["capabilities it holds"]["b"] == str(int(effective, 16).bit_count())  # 11 or 14, as it was packaged
        assert rows["namespaces user time"]["verdict"] == "same" and "calls blocked" in rows["seccomp"]["b"]
    finally:
        must([*podman, "rm", "-f", "-t", "0", "-a"])
        shutil.rmtree(short, ignore_errors=True)


@pytest.mark.parametrize("runtime", ["crun", "runc"])
def test_a_bundle_of(runtime: str, plain: Nano, rootfs: Path, tmp_path: Path, apart: Callable[..., list[str]]) -> None:
    needs(runtime)
    must(apart("sh", "-c", f"cd {tmp_path} && {runtime} spec"))
    spec = json.loads((tmp_path / "config.json").read_text())
    spec["process"].update(args=["/bin/sleep", "1000"], terminal=False)
    spec["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}]
    spec["linux"]["cgroupsPath"] = f"/{PARENT}/{runtime}"
    (tmp_path / "config.json").write_text(json.dumps(spec))
    base = apart(runtime, "--root", f"{tmp_path}/state")
    quiet = subprocess.DEVNULL  # the container would keep our pipes open
    subprocess.run(
        [*base, "run", "-d", "--bundle", str(tmp_path), "one"], check=True, stdin=quiet, stdout=quiet, stderr=quiet
    )
    try:
        pid = json.loads(must([*base, "state", "one"]))["pid"]
        rows = compare(plain, "plain", f"pid:{pid}", "--filters")
        assert rows["seccomp"]["verdict"] == "B weaker"  # `spec` writes none
        assert rows["capabilities it holds"]["verdict"] == "A weaker"  # and three capabilities
        assert rows["no_new_privs"]["verdict"] == "A weaker" and rows["root file system"]["b"] == "own, read-only"
    finally:
        must([*base, "delete", "-f", "one"])
