"""Each wall and what it holds: an attack that works where the step is left out, and fails where it is not.

What endangers the host is done with care: it reads, or changes what is the test's own.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from . import isolation
from .nano import Nano, Result

NONE = ("--network", "none")


def run(nano: Nano, without: str, *args: str, options: tuple[str, ...] = ()) -> Result:
    left = [word for name in without.split() for word in ("--without", name)]
    force = ("--force-without",) if without else ()
    return nano("run", "--rm", *NONE, *options, *left, *force, "tiny", *args, check=False)


def both(nano: Nano, without: str, *args: str, options: tuple[str, ...] = ()) -> tuple[Result, Result]:
    """(with the step, without it)."""
    return run(nano, "", *args, options=options), run(nano, without, *args, options=options)


def test_it_says_what_it_opens(clean: Nano) -> None:
    done = run(clean, "LoadSeccomp", "true")
    assert done.code == 0
    assert done.err.startswith("Without LoadSeccomp: All system calls pass")
    done = clean("run", "--rm", "--without", "PivotRoot", "tiny", "true", check=False)
    assert done.code == 125
    assert "endangers the host" in done.err
    assert "--force-without" in done.err
    assert clean("ps", "-aq").out == ""


def test_without_pivot_root_the_hosts_files_are_there(clean: Nano, tmp_path: Path) -> None:
    mine = tmp_path / "of-the-host"
    mine.write_text("secret")
    closed, opened = both(clean, "PivotRoot", "cat", str(mine))
    assert closed.code != 0
    assert opened.out == "secret"


def test_without_proc_and_pivot_root_the_hosts_processes_are_seen(clean: Nano) -> None:
    names = "MountProc SetSysctls MaskPaths ProtectPaths PivotRoot"
    sleeper = subprocess.Popen(["sleep", "987654"])
    try:
        closed, opened = both(clean, names, "cat", f"/proc/{sleeper.pid}/cmdline")
    finally:
        sleeper.kill()
        sleeper.wait()
    assert closed.code != 0
    assert opened.out.split("\0")[1] == "987654"


def test_without_proc_alone_there_is_none(clean: Nano) -> None:
    closed, opened = both(clean, "mountproc", "sh", "-c", "ls /proc | wc -l")
    assert int(closed.out) > 10
    assert int(opened.out) == 0


def test_who_needs_a_step_goes_with_it_and_that_is_said(clean: Nano) -> None:
    done = clean("run", "--rm", *NONE, "--without", "mountproc", "tiny", "true")
    said = " ".join(done.err.split())
    assert said.startswith("Without MountProc: Nothing is at /proc")
    assert said.endswith("With it go what needs it: SetSysctls, MaskPaths, ProtectPaths.")


def test_without_a_filter_refused_calls_pass(clean: Nano) -> None:
    closed, opened = both(clean, "LoadSeccomp", "unshare", "-U", "true")
    assert closed.code != 0
    assert opened.code == 0, opened
    seccomp = ("grep", "^Seccomp:", "/proc/self/status")
    assert [one.out.split()[1] for one in both(clean, "LoadSeccomp", *seccomp)] == ["2", "0"]


def test_without_a_bounding_set_root_is_root(clean: Nano) -> None:
    closed, opened = both(clean, "BoundCapabilities", "grep", "CapEff", "/proc/self/status")
    assert int(closed.out.split()[1], 16).bit_count() == 14
    assert int(opened.out.split()[1], 16).bit_count() > 30
    closed, opened = both(clean, "BoundCapabilities LoadSeccomp", "mount", "-t", "tmpfs", "none", "/mnt")
    assert (closed.code == 0, opened.code) == (False, 0)


def test_without_device_rules_the_hosts_devices_can_be_opened(clean: Nano) -> None:
    """One that the host has and a container is not given; a disk is opened in the same way."""
    for path in ("/dev/loop-control", "/dev/fuse", "/dev/kvm", "/dev/net/tun", "/dev/vcs"):
        try:
            os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            continue
        device = os.stat(path).st_rdev
        break
    else:
        pytest.skip("this host has none of these devices, or does not open them itself")
    command = f"mknod /tmp/device c {os.major(device)} {os.minor(device)} && : < /tmp/device"
    closed, opened = both(clean, "AllowDevices", "sh", "-c", command)
    assert "not permitted" in closed.err
    assert opened.code == 0, opened


def test_without_protected_paths_the_hosts_settings_can_be_written(clean: Nano) -> None:
    # opened for writing, and nothing written
    closed, opened = both(clean, "ProtectPaths", "sh", "-c", ": >> /proc/sys/kernel/core_pattern")
    assert closed.code != 0
    assert "Read-only" in closed.err
    assert opened.code == 0, opened


def test_without_masked_paths_the_kernels_timers_and_keys_show(clean: Nano) -> None:
    closed, opened = both(clean, "MaskPaths", "sh", "-c", "cat /proc/keys /proc/timer_list | wc -c")
    assert int(closed.out) == 0
    assert int(opened.out) > 0


def test_without_its_network_namespace_the_hosts_interfaces_show(clean: Nano) -> None:
    names = "EnterNetworkNamespace SetSysctls"
    closed, opened = both(clean, names, "ls", "/sys/class/net")
    assert closed.out.split() == ["lo"]
    readlink = ("readlink", "/proc/self/ns/net")
    closed, opened = both(clean, names, *readlink)
    assert closed.out.strip() != os.readlink("/proc/self/ns/net")
    assert opened.out.strip() == os.readlink("/proc/self/ns/net")


def test_without_a_host_name_it_has_the_hosts(clean: Nano) -> None:
    closed, opened = both(clean, "SetHostname", "hostname")
    assert closed.out.strip() != os.uname().nodename
    assert opened.out.strip() == os.uname().nodename


def test_without_set_ids_it_is_root(clean: Nano) -> None:
    closed, opened = both(clean, "SetIds", "id", "-u", options=("--user", "1234"))
    assert (closed.out, opened.out) == ("1234\n", "0\n")


def test_without_a_read_only_root_it_is_written(clean: Nano) -> None:
    closed, opened = both(clean, "ProtectRootfs", "touch", "/etc/new", options=("--read-only",))
    assert (closed.code == 0, opened.code) == (False, 0)


def test_without_no_new_privs_programs_can_gain(clean: Nano) -> None:
    options = ("--security-opt", "no-new-privileges")
    command = ("grep", "NoNewPrivs", "/proc/self/status")
    closed, opened = both(clean, "NoNewPrivs LoadSeccomp", *command, options=options)
    assert (closed.out.split()[1], opened.out.split()[1]) == ("1", "0")


def test_without_private_mounts_the_host_gets_them(clean: Nano, tmp_path: Path) -> None:
    """In a mount namespace of its own, whose root is shared as systemd makes the host's."""
    seen = []
    for without in ("", "PrivatizeMounts"):
        pid = os.fork()
        if pid == 0:
            code = 99
            try:
                isolation._call("unshare", isolation.CLONE_NEWNS)
                isolation.mount("none", "/", None, isolation.MS_REC | isolation.MS_PRIVATE)  # nobody else's
                isolation.mount("none", "/", None, isolation.MS_REC | (1 << 20))  # MS_SHARED
                done = run(clean, without, "true")
                lines = Path("/proc/self/mountinfo").read_text().splitlines()
                layers = f"{clean.runroot}/layers/"  # the image's, which are the host's business
                there = [line.split()[4] for line in lines if clean.runroot in line.split()[4]]
                there = [place for place in there if not place.startswith(layers)]
                code = 10 + bool(there) if done.code == 0 else 50
                for place in there[:1]:
                    isolation.umount(place, isolation.MNT_DETACH)
                    os.rmdir(place)
            finally:
                os._exit(code)
        seen.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    assert seen == [10, 11]


def test_the_container_remembers(clean: Nano) -> None:
    clean("run", "-d", "--name", "open", *NONE, "--without", "SetHostname,LoadSeccomp", "tiny", "sleep", "1000")
    assert json.loads(clean("inspect", "open").out)[0]["Without"] == ["SetHostname", "LoadSeccomp"]
    assert "(without SetHostname, LoadSeccomp)" in clean("ps").out
    clean("stop", "-t", "0", "open")
    clean("start", "open")
    assert clean("exec", "open", "hostname").out.strip() == os.uname().nodename
    assert clean("exec", "open", "grep", "^Seccomp:", "/proc/1/status").out.split()[1] == "0"


@pytest.mark.parametrize("name", ["Clone", "Exec", "MakeCgroup", "HoldAddress", "Nonsense"])
def test_what_cannot_be_left_out(clean: Nano, name: str) -> None:
    done = clean("run", "--rm", "--force-without", "--without", name, "tiny", "true", check=False)
    assert done.code == 125
    assert "cannot be left out" in done.err or "no step" in done.err
    assert clean("ps", "-aq").out == ""
