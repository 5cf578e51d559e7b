"""The keeper: killed, outlived, attached to by several, with much to carry."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from nanocontainer.container.watch import AFTER

from .nano import COMMAND, Nano


def state(nano: Nano, ref: str, field: str) -> str:
    return nano("inspect", "-f", f"{{{{.State.{field}}}}}", ref).out.strip()


def keeper_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def is_attached(pid: int) -> bool:
    """Whether a command carries bytes by now: only then it catches SIGWINCH (proc_pid_status(5), SigCgt)."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = int(status.partition("SigCgt:")[2].split()[0], 16)
    return bool(caught >> (signal.SIGWINCH - 1) & 1)


def wait_until(condition: object, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def connected() -> int:
    """How many clients keepers have: the listener's end of each connection has its name."""
    rows = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()]
    return sum(row[5] == "03" and row[-1].endswith("/attach.sock") for row in rows[1:])  # 03: connected


def test_a_killed_keeper_takes_init_along_and_the_next_command_says_so(clean: Nano) -> None:
    id = clean("run", "-d", "--name", "lost", "tiny", "sh", "-c", "sleep 999 & sleep 1000").out.strip()
    pid = int(state(clean, "lost", "Pid"))
    os.kill(keeper_of(pid), signal.SIGKILL)
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"))
    assert "Exited (255)" in clean("ps", "-a").out
    assert state(clean, "lost", "ExitCode") == "255"
    assert "keeper lost" in state(clean, "lost", "Error")
    assert clean("start", "lost").code == 0
    assert state(clean, "lost", "Running") == "true"
    clean("rm", "-f", id)


def test_a_killed_keeper_of_a_container_to_be_removed(clean: Nano) -> None:
    clean("run", "-d", "--rm", "--name", "lost", "-v", "/data", "tiny", "sleep", "1000")
    pid = int(state(clean, "lost", "Pid"))
    os.kill(keeper_of(pid), signal.SIGKILL)
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"))
    assert clean("ps", "-aq").out == ""
    assert os.listdir(f"{clean.root}/volumes") == []


@pytest.mark.parametrize("command", ["kill stopped", "stop -t 0 stopped", "rm -f stopped"])
def test_a_stopped_keeper_is_woken_by_who_ends_the_container(clean: Nano, command: str) -> None:
    clean("run", "-d", "--name", "stopped", "--network", "none", "tiny", "sleep", "1000")
    os.kill(keeper_of(int(state(clean, "stopped", "Pid"))), signal.SIGSTOP)
    assert clean(*command.split(), timeout=8).code == 0
    assert clean("ps", "-q").out == ""


def test_who_waits_for_a_container_whose_keeper_is_killed(clean: Nano) -> None:
    clean("run", "-d", "--name", "lost", "--network", "none", "tiny", "sleep", "1000")
    waiting = clean.popen("wait", "lost", stdout=subprocess.PIPE)
    time.sleep(0.2)
    os.kill(keeper_of(int(state(clean, "lost", "Pid"))), signal.SIGKILL)
    assert waiting.communicate(timeout=10)[0] == b"255\n"


def test_the_container_goes_on_when_the_command_is_killed(clean: Nano) -> None:
    script = "echo up; sleep 0.5; echo end"
    args = ("run", "--name", "on", "--network", "none", "tiny", "sh", "-c", script)
    command = clean.popen(*args, stdout=subprocess.PIPE)
    assert command.stdout
    assert command.stdout.readline() == b"up\n"
    command.kill()
    command.wait()
    command.stdout.close()
    assert state(clean, "on", "Running") == "true"
    assert clean("wait", "on").out == "0\n"
    assert clean("logs", "on").out == "up\nend\n"


def test_several_clients_see_the_same(clean: Nano) -> None:
    script = "read go; i=0; while [ $i -lt 1000 ]; do echo line $i; i=$((i+1)); done; exit 5"
    clean("run", "-d", "-i", "--name", "many", "--network", "none", "tiny", "sh", "-c", script)
    before = connected()
    clients = [clean.popen("attach", "--no-stdin", "many", stdout=subprocess.PIPE) for _ in range(4)]
    wait_until(lambda: connected() == before + len(clients))
    assert clean("attach", "many", input=b"go\n", check=False).code == 5
    outputs = [client.communicate(timeout=10)[0] for client in clients]
    assert len(set(outputs)) == 1
    assert outputs[0].endswith(b"line 999\n")
    assert {client.returncode for client in clients} == {5}


def test_much_data_both_ways_without_loss(nano: Nano) -> None:
    size = 100 << 20
    block = hashlib.sha256(b"seed").digest() * (1 << 15)
    command = ("run", "--rm", "-i", "--network", "none", "--log-driver", "none", "tiny", "cat")
    process = nano.popen(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin
    assert process.stdout
    if os.fork() == 0:
        process.stdout.close()
        for _ in range(size // len(block)):
            process.stdin.write(block)
        process.stdin.close()
        os._exit(0)
    process.stdin.close()
    sent, got, length = hashlib.sha256(), hashlib.sha256(), 0
    while part := process.stdout.read(1 << 20):
        got.update(part)
        length += len(part)
    process.stdout.close()
    assert process.wait(10) == 0
    os.wait()
    for _ in range(size // len(block)):
        sent.update(block)
    assert length == size
    assert got.digest() == sent.digest()


def test_a_half_closed_input(nano: Nano) -> None:
    command = ("run", "--rm", "-i", "--network", "none", "tiny", "sh", "-c", "cat; echo end; exit 4")
    done = nano(*command, input=b"hi\n", check=False)
    assert (done.out, done.code) == ("hi\nend\n", 4)


def test_no_input_at_all(nano: Nano) -> None:
    assert nano("run", "--rm", "--network", "none", "tiny", "sh", "-c", "cat; echo end", input=b"lost").out == "end\n"


def test_attach_to_what_was_started_before(clean: Nano) -> None:
    script = "read x; echo got $x >&2; exit 9"
    clean("run", "-d", "-i", "--name", "late", "--network", "none", "tiny", "sh", "-c", script)
    done = clean("attach", "late", input=b"word\n", check=False)
    assert (done.out, done.err, done.code) == ("", "got word\n", 9)
    assert clean("logs", "late").err == "got word\n"


def test_two_starts_at_once_make_one_container(clean: Nano) -> None:
    clean("create", "--name", "one", "--network", "none", "tiny", "sleep", "1000")
    starts = [clean.popen("start", "one", stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(6)]
    for start in starts:
        start.communicate(timeout=10)
    assert any(start.returncode == 0 for start in starts)
    assert state(clean, "one", "Running") == "true"
    pid = int(state(clean, "one", "Pid"))
    assert len(Path(f"/proc/{keeper_of(pid)}/task/{keeper_of(pid)}/children").read_text().split()) == 1


def test_an_idle_keeper_makes_itself_small_and_knows_the_rest(clean: Nano) -> None:
    clean("run", "-d", "-i", "--name", "idle", "--network", "none", "tiny", "sh", "-c", "read x; echo got $x; exit 9")
    pid = int(state(clean, "idle", "Pid"))
    keeper = keeper_of(pid)
    wait_until(lambda: b"resume.py" in Path(f"/proc/{keeper}/cmdline").read_bytes(), 15)
    assert keeper_of(pid) == keeper
    assert clean("attach", "idle", input=b"word\n", check=False).code == 9
    assert clean("logs", "idle").out == "got word\n"
    assert state(clean, "idle", "ExitCode") == "9"


@pytest.mark.parametrize("harm", ["moved", "torn"])
def test_sources_that_are_moved_or_being_replaced_kill_no_container(clean: Nano, tmp_path: Path, harm: str) -> None:
    copy = tmp_path / "copy"
    (copy / "src").mkdir(parents=True)
    source = Path(COMMAND).parent
    shutil.copy(COMMAND, copy)
    shutil.copytree(source / "src/nanocontainer", copy / "src/nanocontainer")
    args = ["run", "-d", "-i", "--name", "idle", "--network", "none", "tiny", "sh", "-c", "read x; exit 9"]
    subprocess.run([copy / "nanocontainer", *args], env=clean.env, check=True, capture_output=True)
    if harm == "moved":
        copy.rename(tmp_path / "elsewhere")
    else:
        (copy / "src/nanocontainer/container/streams.py").write_text("class Streams")
    time.sleep(AFTER + 2)
    assert state(clean, "idle", "Running") == "true"
    assert clean("attach", "idle", input=b"word\n", check=False).code == 9
    assert clean("wait", "idle").out == "9\n"
    assert state(clean, "idle", "ExitCode") == "9"


def test_sources_that_are_gone_at_the_end_do_not_take_the_exit_code_along(clean: Nano, tmp_path: Path) -> None:
    """A small keeper loads the engine to take its container down; where that fails the next command does it."""
    copy = tmp_path / "copy"
    (copy / "src").mkdir(parents=True)
    shutil.copy(COMMAND, copy)
    shutil.copytree(Path(COMMAND).parent / "src/nanocontainer", copy / "src/nanocontainer")
    args = ["run", "-d", "-i", "--name", "idle", "--network", "none", "tiny", "sh", "-c", "read x; exit 9"]
    subprocess.run([copy / "nanocontainer", *args], env=clean.env, check=True, capture_output=True)
    keeper = keeper_of(int(state(clean, "idle", "Pid")))
    wait_until(lambda: b"resume.py" in Path(f"/proc/{keeper}/cmdline").read_bytes(), 15)
    copy.rename(tmp_path / "elsewhere")
    assert clean("attach", "idle", input=b"word\n", check=False).code == 9
    assert clean("wait", "idle").out == "9\n"
    assert state(clean, "idle", "ExitCode") == "9"
    assert state(clean, "idle", "Error") == ""


def test_who_presses_ctrl_c_in_vain_is_told_why_and_what_stays(clean: Nano) -> None:
    client = clean.popen("run", "--network", "none", "--name", "deaf", "tiny", "sleep", "1000", stderr=subprocess.PIPE)
    assert client.stderr is not None
    wait_until(lambda: "deaf" in clean("ps").out)
    time.sleep(0.3)  # until it is attached
    client.send_signal(signal.SIGINT)
    time.sleep(0.3)
    client.send_signal(signal.SIGINT)
    assert b"process 1 ignores signals" in client.stderr.readline()
    client.send_signal(signal.SIGINT)
    assert b"leaving; the container runs on" in client.stderr.readline()
    assert client.wait(5) == 1
    client.stderr.close()
    assert clean("ps", "--format", "{{.Names}}").out.strip() == "deaf"
    clean("rm", "-f", "deaf")
