"""exec: one more command in a running container, confined as it is."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nanocontainer.engine import Engine
from nanocontainer.errors import CommandNotFound, NotRunning

from .nano import COMMAND, Nano


@pytest.fixture
def box(clean: Nano) -> Iterator[str]:
    clean("run", "-d", "--name", "box", "--network", "none", "-e", "A=1", "-w", "/bin", "tiny", "sleep", "1000")
    yield "box"


def test_output_input_and_code(clean: Nano, box: str) -> None:
    done = clean("exec", "-i", box, "sh", "-c", "cat; echo err >&2; exit 6", input=b"in\n", check=False)
    assert (done.out, done.err, done.code) == ("in\n", "err\n", 6)
    assert clean("exec", box, "cat", input=b"lost").out == ""
    assert clean("exec", box, "sh", "-c", "kill -9 $$", check=False).code == 137


@pytest.mark.parametrize(("command", "code"), [("nowhere", 127), ("/etc", 126)])
def test_what_cannot_be_executed(clean: Nano, box: str, command: str, code: int) -> None:
    assert clean("exec", box, command, check=False).code == code


def test_environment_directory_user(clean: Nano, box: str) -> None:
    said = clean("exec", "-e", "B=2", box, "sh", "-c", "echo $A$B; pwd").out
    assert said == "12\n/bin\n"
    assert clean("exec", "-w", "/etc", "-u", "1000:7", box, "sh", "-c", "pwd; id -u; id -g").out == "/etc\n1000\n7\n"
    done = clean("exec", "-w", "/nowhere", box, "true", check=False)
    assert "/nowhere" in done.err
    assert "bug" not in done.err


def test_the_same_namespaces_cgroup_and_confinement(clean: Nano, box: str) -> None:
    look = "for n in mnt pid uts ipc net cgroup; do readlink /proc/$1/ns/$n; done; grep -E 'Cap|Secc' /proc/$1/status"
    assert clean("exec", box, "sh", "-c", look, "-", "self").out == clean("exec", box, "sh", "-c", look, "-", "1").out
    pid = clean("inspect", "-f", "{{.State.Pid}}", box).out.strip()
    inner = clean("exec", box, "cat", "/proc/self/cgroup").out
    assert "0::/\n" in inner or inner.endswith("0::/")
    assert Path(f"/proc/{pid}/cgroup").exists()


def test_privileged(clean: Nano, box: str) -> None:
    rows = clean("exec", "--privileged", box, "grep", "-E", "CapEff|Seccomp:", "/proc/self/status").out.split()
    assert int(rows[1], 16) > 0xA80425FB
    assert rows[3] == "0"


def test_detached(clean: Nano, box: str) -> None:
    clean("exec", "-d", box, "sh", "-c", "sleep 0.1; echo done > /mark")
    assert clean("exec", box, "sh", "-c", "while [ ! -e /mark ]; do sleep 0.02; done; cat /mark").out == "done\n"


def test_a_terminal(clean: Nano, box: str) -> None:
    with clean.pty("exec", "-it", box, "sh", rows=33, cols=77) as terminal:
        terminal.expect("[#$] ")
        terminal.send("tty; stty size; echo $((6*7))\n")
        terminal.expect("/dev/pts/0")
        terminal.expect("33 77")
        terminal.expect("42")
        terminal.send("exit 3\n")
        assert terminal.wait() == 3


@pytest.mark.parametrize("background", ["sleep 1000", "while :; do echo x; done"])
def test_what_is_left_behind_is_not_waited_for(clean: Nano, box: str, background: str) -> None:
    engine = Engine(clean.root, clean.runroot)
    begin = time.monotonic()
    done = engine.execute(box, ["sh", "-c", f"({background}) & echo said; exit 4"])
    assert done.exit_code == 4
    assert b"said\n" in done.stdout
    assert time.monotonic() - begin < 10


def test_not_running(clean: Nano) -> None:
    clean("create", "--name", "idle", "--network", "none", "tiny", "true")
    done = clean("exec", "idle", "true", check=False)
    assert done.code == 1
    assert "not running" in done.err


@pytest.mark.parametrize("how", ["exec", "pid", "network", "ipc"])
def test_a_number_that_means_a_process_of_the_host_is_not_joined(clean: Nano, box: str, how: str) -> None:
    path = Path(f"{clean.root}/containers/{clean('ps', '-q', '--no-trunc').out.strip()}/state.json")
    kept = path.read_text()
    stranger = subprocess.Popen(["sleep", "1000"])
    try:
        path.write_text(json.dumps({**json.loads(kept), "pid": stranger.pid}))
        if how == "exec":
            done = clean("exec", box, "ls", "/", check=False)
        else:
            options = ("--network", "none") if how != "network" else ()
            done = clean("run", "--rm", *options, f"--{how}", f"container:{box}", "tiny", "ls", "/", check=False)
        assert (done.code, done.out) == (1 if how == "exec" else 125, "")
        assert "is not running" in done.err
    finally:
        path.write_text(kept)
        stranger.kill()
        stranger.wait()
    assert clean("run", "--rm", f"--network=container:{box}", "tiny", "true").code == 0


def test_a_command_ends_with_its_container(clean: Nano, box: str) -> None:
    command = clean.popen("exec", box, "sleep", "1000")
    while "sleep 1000" not in clean("exec", box, "sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '").out[11:]:
        pass
    clean("kill", box)
    assert command.wait(10) == 137


def test_failures_leave_no_file_open_and_no_process(clean: Nano, box: str) -> None:
    engine = Engine(clean.root, clean.runroot)
    assert engine.execute(box, ["echo", "hi"]).stdout == b"hi\n"
    before = os.listdir("/proc/self/fd")
    for tty in (False, True):
        for _ in range(3):
            with pytest.raises(CommandNotFound):
                engine.exec(box, ["nowhere"], tty=tty)
    for _ in range(3):
        assert engine.execute(box, ["cat"], input=b"x" * 200_000).stdout == b"x" * 200_000
    assert len(os.listdir("/proc/self/fd")) == len(before)
    clean("kill", box)
    with pytest.raises(NotRunning):
        engine.exec(box, ["true"])


def test_a_hostile_containers_null_device_is_refused(clean: Nano, box: str) -> None:
    clean("exec", box, "sh", "-c", "rm /dev/null && mkfifo /dev/null")
    done = clean("exec", box, "true", check=False, timeout=10)
    assert done.code == 1
    assert "not the null device" in done.err


def test_no_link_leads_to_what_the_engine_has_open(clean: Nano, box: str) -> None:
    """CVE-2024-21626: neither as a working directory nor as a command, whatever number the file has."""
    clean("exec", box, "sh", "-c", "mkdir /links; for n in $(seq 3 30); do ln -s /proc/self/fd/$n /links/$n; done")
    for number in range(3, 31):
        done = clean("exec", "-w", f"/links/{number}", box, "pwd", check=False)
        assert done.code != 0, (number, done.out)
        up = f"/links/{number}/" + "../" * 12 + "bin/true"
        done = clean("exec", box, up, check=False)
        assert done.code in (126, 127), number
        assert "loader" not in done.err, (number, done.err)  # a program of the host, that lacks its libraries here


def test_a_command_that_nobody_reads_any_more_leaves_no_zombie(clean: Nano) -> None:
    clean("run", "-d", "--name", "box", "--network", "none", "tiny", "sleep", "60")
    for _ in range(3):
        script = f"{COMMAND} exec box yes | head -1"
        subprocess.run(["sh", "-c", script], check=True, env=clean.env, capture_output=True)
    assert "[yes]" not in clean("exec", "box", "ps").out
    clean("rm", "-f", "box")
