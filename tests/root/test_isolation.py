"""What a container sees of the host, and what the host sees of a container: nothing that is not meant."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from .nano import Nano


@pytest.fixture
def running(clean: Nano) -> str:
    """A container with the defaults, running."""
    return clean("run", "-d", "--network", "none", "tiny", "sleep", "1000").out.strip()


def inside(nano: Nano, script: str, *options: str) -> str:
    return nano("run", "--rm", "--network", "none", *options, "tiny", "sh", "-c", script).out


def test_the_hosts_mount_table_does_not_show_a_container(clean: Nano) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    clean("run", "-d", "--network", "none", "-v", "vol:/data", "--tmpfs", "/t", "tiny", "sleep", "1000")
    assert Path("/proc/self/mountinfo").read_text() == before
    clean("rm", "-f", *clean("ps", "-q").out.split(), "-v")
    assert Path("/proc/self/mountinfo").read_text() == before
    subprocess.run(["rm", "-r", f"{clean.root}/volumes/vol"], check=True)


def test_a_containers_mount_table_does_not_show_the_host(nano: Nano) -> None:
    rows = [line.split() for line in inside(nano, "cat /proc/self/mountinfo").splitlines()]
    places = {row[4] for row in rows}
    assert {"/", "/proc", "/sys", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys/fs/cgroup"} <= places
    allowed = ("/proc", "/sys", "/dev", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf")
    assert all(place == "/" or place.startswith(allowed) for place in places), places
    assert not any("shared:" in " ".join(row) or "master:" in " ".join(row) for row in rows)


@pytest.mark.parametrize("path", ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/interrupts"])
def test_masked_files_are_empty(nano: Nano, path: str) -> None:
    assert inside(nano, f"! test -e {path} || head -c 10 {path}") == ""


@pytest.mark.parametrize("path", ["/sys/firmware", "/proc/acpi", "/proc/scsi"])
def test_masked_directories_are_empty_and_read_only(nano: Nano, path: str) -> None:
    if os.path.isdir(path):
        assert inside(nano, f"ls {path}; touch {path}/x 2>/dev/null || echo no") == "no\n"


def test_the_kernels_settings_cannot_be_changed(nano: Nano) -> None:
    files = "/proc/sys/kernel/core_pattern /proc/sysrq-trigger /sys/kernel/mm/ksm/run"
    script = f"for f in {files}; do (echo x > $f) 2>/dev/null && echo $f; done"
    assert inside(nano, f"{script}; mkdir /sys/fs/cgroup/x 2>/dev/null && echo cgroup; true") == ""


def test_mounts_cannot_be_changed(nano: Nano) -> None:
    script = "umount /proc/keys 2>/dev/null && echo umount; mount -t tmpfs x /mnt 2>/dev/null && echo mount; true"
    assert inside(nano, script) == ""


def test_no_file_of_the_host_is_open_inside(nano: Nano) -> None:
    for script in ("ls -l /proc/self/fd", "ls -l /proc/1/fd"):
        rows = [line.split(" -> ")[1] for line in inside(nano, script).splitlines() if " -> " in line]
        rows = [row for row in rows if row != "/proc/self/fd" and "/proc/" not in row]
        assert len(rows) == 3, rows
        assert rows[0] == "/dev/null"
        assert all(row.startswith("pipe:") for row in rows[1:])


def test_the_hosts_null_device_stays_as_it_is(nano: Nano) -> None:
    """Its inode must not be open inside: a chmod of /proc/self/fd/0 would reach the whole host."""
    before = os.stat("/dev/null")
    inside(nano, "chmod 0600 /proc/self/fd/0; chown 7 /proc/self/fd/0")
    inside(nano, "true", "--user", "1000")
    id = nano("run", "-d", "--network", "none", "tiny", "sleep", "1000").out.strip()
    script = "chmod 0600 /proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2"
    for options in ((), ("-d",), ("-i",)):
        nano("exec", *options, id, "sh", "-c", script, check=False)
    nano("exec", "--user", "1000", id, "true")
    nano("rm", "-f", id)
    after = os.stat("/dev/null")
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)


def test_nothing_tells_of_the_command_that_started_it(nano: Nano) -> None:
    secret = {"HOST_SECRET": "from-the-host"}
    script = "cat /proc/1/environ /proc/*/environ /proc/*/cmdline /proc/*/comm | tr '\\0' '\\n'"
    for init in ((), ("--init",)):
        args = ["run", "--rm", "--network", "none", *init, "-e", "OWN=1", "--label", "l=labelsecret"]
        said = nano(*args, "tiny", "sh", "-c", script, env=secret).out
        assert "OWN=1" in said
        for word in ("from-the-host", "HOST_SECRET", "NANOCONTAINER", nano.root, "labelsecret", "python"):
            assert word not in said, word


def test_namespaces_of_its_own(nano: Nano, running: str) -> None:
    pid = nano("inspect", "-f", "{{.State.Pid}}", running).out.strip()
    for kind in ("mnt", "pid", "uts", "ipc", "net", "cgroup"):
        assert os.readlink(f"/proc/{pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}"), kind


def test_only_its_own_processes(nano: Nano) -> None:
    said = inside(nano, "for p in /proc/[0-9]*; do echo ${p#/proc/}; done").split()
    assert "1" in said
    assert len(said) <= 2


def test_host_namespaces_where_they_are_asked_for(nano: Nano) -> None:
    wanted = {kind: os.readlink(f"/proc/self/ns/{kind}") for kind in ("pid", "uts", "ipc", "net")}
    args = ("--pid", "host", "--uts", "host", "--ipc", "host", "--network", "host")
    script = "for n in pid uts ipc net; do echo $n $(readlink /proc/self/ns/$n); done"
    said = nano("run", "--rm", *args, "tiny", "sh", "-c", script).out
    assert dict(line.split() for line in said.splitlines()) == wanted


def test_everything_is_in_its_cgroup_and_goes_with_it(nano: Nano, clean: Nano) -> None:
    """Also a child that has left the session, where no PID namespace takes it along."""
    id = nano("run", "-d", "--network", "none", "--pid", "host", "tiny", "sh", "-c",
              "(setsid sleep 997 &) ; exec sleep 1000").out.strip()  # fmt: skip
    nano("exec", "-d", id, "sleep", "998")
    pid = nano("inspect", "-f", "{{.State.Pid}}", id).out.strip()
    rows = dict(line.split(":")[::2] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines())
    assert rows["0"].endswith(id)
    top = "/sys/fs/cgroup/unified" if os.path.isdir("/sys/fs/cgroup/unified") else "/sys/fs/cgroup"
    members = Path(f"{top}{rows['0']}/cgroup.procs").read_text().split()
    names = sorted(Path(f"/proc/{member}/cmdline").read_text().replace("\0", " ").strip() for member in members)
    assert names == ["sleep 1000", "sleep 997", "sleep 998"]
    nano("kill", id)
    assert not any(os.path.exists(f"/proc/{member}") for member in members)


def test_a_keyring_of_its_own(nano: Nano, running: str) -> None:
    pid = nano("inspect", "-f", "{{.State.Pid}}", running).out.strip()
    assert Path(f"/proc/{pid}/status").exists()
    keys = Path("/proc/keys").read_text()
    assert running in keys  # the session keyring is named after the container
    assert nano("exec", running, "cat", "/proc/keys").out == ""


def test_devices_that_were_not_given_cannot_be_used(nano: Nano) -> None:
    said = inside(nano, "mknod /mem c 1 1 && cat /mem 2>&1 | head -c 300")
    assert "not permitted" in said.lower()
    for name in ("null", "zero", "full", "random", "urandom"):
        assert inside(nano, f"head -c 1 /dev/{name} >/dev/null && echo ok") == "ok\n"


def test_read_only(nano: Nano) -> None:
    said = inside(nano, "touch /x 2>/dev/null || echo root; touch /t/x && echo tmp; touch /dev/shm/x && echo shm",
                  "--read-only", "--tmpfs", "/t")  # fmt: skip
    assert said.split() == ["root", "tmp", "shm"]


def test_shared_with_another_container(nano: Nano, running: str) -> None:
    script = "readlink /proc/self/ns/net; readlink /proc/self/ns/pid; readlink /proc/self/ns/ipc"
    same = (f"--network=container:{running}", f"--pid=container:{running}", f"--ipc=container:{running}")
    assert nano("run", "--rm", *same, "tiny", "sh", "-c", script).out == nano("exec", running, "sh", "-c", script).out


def test_a_mount_on_etc_does_not_hide_the_containers_own_files(nano: Nano, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    assert "127.0.0.1" in inside(nano, "cat /etc/mine /etc/hosts", "-v", f"{tmp_path}:/etc")
