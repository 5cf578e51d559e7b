"""After a restart of the host: what ran is told to have exited, and why; what is on the disk is kept, and used again.

A restart is played: all processes of an engine killed at once, its cgroups, bridge and rules gone, the run directory
(a tmpfs) empty, and another boot id in all that was written before. tests/vm/test_reboot.py does it with a real one.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nanocontainer.container.diagnosis import Diagnosis
from nanocontainer.kernel.calls import Kernel
from nanocontainer.network.model import NetworkStore, table_name
from nanocontainer.paths import Paths
from nanocontainer.plan.journal import boot_id

from . import census
from .isolation import MNT_DETACH, umount
from .nano import Nano
from .test_doctor import nft_of_this_process, tops

__all__ = ["nft_of_this_process"]

BEFORE = "0b0b0b0b-0000-4000-8000-000000000000"  # the boot that has ended


def crash(nano: Nano) -> None:
    """The power goes, and comes back."""
    paths = Paths(nano.root, nano.runroot)
    now = boot_id()
    pids: set[int] = set()
    for state in Path(paths.containers).glob("*/state.json"):
        text = state.read_text()
        if "running" in text:
            pids |= {json.loads(text)["keeper"], json.loads(text)["pid"]}
    files = [pidfd for pid in pids if (pidfd := _open(pid)) >= 0]
    for root in tops():  # frozen ones too
        for thaw in Path(root, paths.group).glob("*/cgroup.freeze"):
            thaw.write_text("0")
    for pidfd in files:
        try:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        except ProcessLookupError:
            pass  # a first process goes with its keeper
    deadline = time.monotonic() + 5
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for pidfd in files:
        os.close(pidfd)
    for place in census.cgroups_of(nano.root):
        os.rmdir(place)
    with Kernel().links() as links:
        for network in NetworkStore(paths).all():
            if links.link(network.interface):
                links.delete_link(network.interface)
        if links.has_table(table_name(paths)):
            Kernel().nft(f"delete table inet {table_name(paths)}\n")
    for layer in Path(nano.runroot, "layers").iterdir():
        if layer.is_mount():
            umount(str(layer), MNT_DETACH)
    shutil.rmtree(nano.runroot)
    for name in ("journal", "state.json"):
        for written in Path(paths.containers).glob(f"*/{name}"):
            written.write_text(written.read_text().replace(now, BEFORE))


def _open(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return -1


def status(nano: Nano, name: str) -> str:
    return nano("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}", name).out.strip()


def volume(nano: Nano, name: str) -> Path:
    return Path(nano.root, "volumes", name, "_data")


@pytest.fixture
def host(another_nano: Callable[[], Nano]) -> Nano:
    """An engine with a container of each kind, after a restart of its host."""
    nano = another_nano()
    nano("run", "-d", "--name", "web", "-p", "127.0.0.1:18077:80", "-v", "data:/data", "--memory", "64m", "tiny", "sh",
         "-c", "test -e /mine && exec sleep 2000; echo written > /mine; echo kept > /data/file; echo ready; "
         "exec sleep 1000")  # fmt: skip
    nano("run", "-d", "--rm", "--name", "passing", "-v", "/anonymous", "tiny", "sleep", "1000")
    nano("run", "-d", "--name", "frozen", "tiny", "sleep", "1000")
    nano("pause", "frozen")
    nano("create", "--name", "new", "tiny", "true")
    nano("run", "--name", "done", "tiny", "sh", "-c", "exit 3", check=False)
    deadline = time.monotonic() + 5
    while "ready" not in nano("logs", "web").out and time.monotonic() < deadline:
        time.sleep(0.02)
    crash(nano)
    return nano


def test_what_is_told_and_what_is_kept(host: Nano) -> None:
    lost = "exited 255 the host was restarted"
    assert sorted(host("ps", "-a", "--format", "{{.Names}} {{.State}}").out.split("\n")[:-1]) == [
        "done exited", "frozen exited", "new created", "web exited",
    ]  # fmt: skip
    assert [status(host, name) for name in ("web", "frozen", "new", "done")] == [lost, lost, "created 0", "exited 3"]
    assert "Exited (255)" in host("ps", "-a", "--filter", "name=web").out
    assert host("ps", "-q").out == ""
    assert len(os.listdir(f"{host.root}/volumes")) == 1  # the anonymous one went with its --rm container
    assert volume(host, "data").joinpath("file").read_text() == "kept\n"
    assert os.listdir(f"{host.root}/ports") == os.listdir(f"{host.root}/networks/bridge/leases") == []
    assert host("logs", "web").out == "ready\n"
    assert '"exitCode": "255"' in Path(host.root, "events.log").read_text()


def test_all_can_be_started_again(host: Nano) -> None:
    """With the file systems they had, and the same ports."""
    host("start", "web", "frozen")
    assert [status(host, name) for name in ("web", "frozen")] == ["running 0"] * 2
    assert host("exec", "web", "cat", "/mine", "/data/file").out == "written\nkept\n"
    assert "127.0.0.1:18077->80/tcp" in host("ps").out
    assert host("start", "-a", "new").code == 0
    assert host("wait", "done").out == "3\n"
    assert host("run", "--rm", "--name", "passing", "tiny", "true").code == 0  # its name is free


def test_each_of_them_can_be_removed_at_once(host: Nano) -> None:
    """No command has swept before."""
    for name in ("frozen", "web", "new", "done"):
        host("rm", name)
    assert host("ps", "-aq").out == ""
    assert os.listdir(f"{host.root}/containers") == []


def test_doctor_says_what_a_restart_has_left(host: Nano) -> None:
    looked = Diagnosis.from_dict(json.loads(host("doctor", "--json", check=False).out))
    ours = [one for one in looked.leftovers if not one.kind.startswith("foreign-")]
    assert {(one.kind, one.subject, one.detail) for one in ours} == {
        ("lost-keeper", name, "it ran: the host was restarted") for name in ("web", "frozen", "passing")
    }
    host("doctor", "--repair", check=False)
    assert status(host, "web") == "exited 255 the host was restarted"
    looked = Diagnosis.from_dict(json.loads(host("doctor", "--json", check=False).out))
    assert [one for one in looked.leftovers if not one.kind.startswith("foreign-")] == []


def test_what_has_the_old_names_and_numbers_now_is_not_touched(host: Nano) -> None:
    """Another process may have a pid of before, a cgroup may have been made anew: what the old kernel had is gone."""
    paths = Paths(host.root, host.runroot)
    sleeper = subprocess.Popen(["sleep", "1000"])
    (state,) = [path for path in Path(paths.containers).glob("*/state.json") if "18077" in path.read_text()]
    told = json.loads(state.read_text())
    try:
        os.makedirs(told["cgroup"])
        Path(told["cgroup"], "cgroup.procs").write_text(str(sleeper.pid))
        state.write_text(json.dumps({**told, "pid": sleeper.pid, "keeper": sleeper.pid}))
        assert host("exec", "web", "true", check=False).code == 1
        assert host("kill", "web", check=False).code == 1
        host("stop", "web")
        assert status(host, "web") == "exited 255 the host was restarted"
        assert sleeper.poll() is None
    finally:
        sleeper.kill()
        sleeper.wait()
        os.rmdir(told["cgroup"])


def test_a_run_directory_that_is_not_a_tmpfs(another_nano: Callable[[], Nano]) -> None:
    """With --root alone it lies in the state directory, and outlives a restart: locks that nobody holds, facts of the
    host as it was."""
    nano = another_nano()
    nano("run", "-d", "--name", "web", "tiny", "sleep", "1000")
    kept = f"{nano.root}-kept"
    shutil.copytree(nano.runroot, kept, ignore=shutil.ignore_patterns("attach.sock", "layers"))
    crash(nano)
    shutil.move(kept, nano.runroot)
    facts = Path(nano.runroot, "facts.json")
    facts.write_text(facts.read_text().replace(boot_id(), BEFORE).replace('"machine": "x86_64"', '"machine": "pdp11"'))
    assert status(nano, "web") == "exited 255 the host was restarted"
    nano("start", "web")
    assert "pdp11" not in facts.read_text()


def test_a_power_cut_that_emptied_the_state(host: Nano) -> None:
    """Some file systems do that to files that were not fsynced. The container is no less there."""
    for state in Path(host.root, "containers").glob("*/state.json"):
        state.write_bytes(b"")
    for name in ("web", "frozen", "new", "done"):
        assert status(host, name) == "exited 255 its state was lost in a power cut"
    assert os.listdir(f"{host.root}/ports") == []
    host("start", "web")
    assert host("exec", "web", "cat", "/mine").out == "written\n"
