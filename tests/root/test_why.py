"""why: each cause is really provoked, and the advised flag really takes it away; ends; the tracer is not felt."""

from __future__ import annotations

import json
import os
import shlex
import signal
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nanocontainer.kernel.abi import MACHINE

from .nano import Nano

FOREIGN = {"x86_64": (183, "aarch64"), "aarch64": (62, "x86_64")}[MACHINE]  # e_machine, name


def told(nano: Nano, name: str) -> dict[str, Any]:
    """What `why --json` says of a container."""
    found: dict[str, Any] = json.loads(nano("why", "--json", name).out)
    return found


def findings(nano: Nano, name: str) -> list[dict[str, Any]]:
    """Those that text would show."""
    return [one for one in told(nano, name)["findings"] if not one["harmless"] and one["cause"] != "kernel"]


def until(true: Callable[[], object], patience: float = 10) -> None:
    deadline = time.monotonic() + patience
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# flags of the container, its command, the call that is refused, the cause, the advised flags; {}: what is made up there
CASES: dict[str, tuple[list[str], str, str, str, list[str]]] = {
    "mount": ([], "mount -t tmpfs none /mnt", "mount", "seccomp", ["--cap-add SYS_ADMIN"]),
    "mount, no filter": (
        ["--security-opt", "seccomp=unconfined"], "mount -t tmpfs none /mnt", "mount", "capability",
        ["--cap-add SYS_ADMIN"],
    ),
    "hostname": ([], "hostname x", "sethostname", "seccomp", ["--cap-add SYS_ADMIN"]),
    "chroot": (["--cap-drop", "SYS_CHROOT"], "chroot / true", "chroot", "seccomp", ["--cap-add SYS_CHROOT"]),
    "chown": (["--cap-drop", "CHOWN"], "chown 5 /tmp", "chown", "capability", ["--cap-add CHOWN"]),
    "chown as a user": (["-u", "1000"], "chown 5 /tmp", "chown", "capability", ["-u 0"]),
    "mknod": (["--cap-drop", "MKNOD"], "mknod /n c 1 3", "mknod", "capability", ["--cap-add MKNOD"]),
    "raw socket": (["--cap-drop", "NET_RAW"], "ping -c1 -W1 127.0.0.1", "socket", "capability", ["--cap-add NET_RAW"]),
    "device": ([], "mknod /zram c 10 200 && cat </zram", "open", "device", ["--device /dev/net/tun"]),
    "device rule": ([], "mknod /odd c 252 77 && cat </odd", "open", "device", ["--device-cgroup-rule 'c 252:77 rwm'"]),
    "read-only root": (["--read-only"], "echo x >/tmp/x", "open", "read-only", ["--tmpfs /tmp"]),
    "read-only root, on top": (["--read-only"], "touch /x", "open", "read-only", ["--read-only=false"]),
    "kernel setting": (
        [], "echo $(cat /proc/sys/kernel/panic) >/proc/sys/kernel/panic", "open", "read-only",
        ["--security-opt systempaths=unconfined"],
    ),
    "masked": ([], "cat /proc/keys", "openat", "masked", ["--security-opt systempaths=unconfined"]),
    "file of root's": (["-u", "1000"], "cat /secret", "open", "permissions", ["-u 0"]),
    "directory of root's": (["-u", "1000"], "touch /x", "open", "permissions", ["-u 0"]),
    "root without override": (
        ["--cap-drop", "DAC_OVERRIDE"], "cat /theirs", "open", "permissions", ["--cap-add DAC_OVERRIDE"],
    ),
    "noexec": (
        ["--tmpfs", "/t"], "cp /bin/busybox /t/busybox && /t/busybox true", "execve", "noexec", ["--tmpfs /t:exec"],
    ),
    "read-only volume": (["-v", "{here}:/v:ro"], "touch /v/x", "open", "read-only", ["-v {here}:/v"]),
    "open files": (
        ["--ulimit", "nofile=16"], "tail $(for i in $(seq 20); do echo /etc/passwd; done)", "open", "limit",
        ["--ulimit nofile=32"],
    ),
    "processes": (
        ["--pids-limit", "3"], "sleep 1 & sleep 1 & sleep 1 & sleep 1 & wait", "fork", "pids", ["--pids-limit 6"],
    ),
    "no network": ([], "nc -w1 192.0.2.1 80", "connect", "network", ["--network bridge"]),
    "file size": (["--ulimit", "fsize=1024"], "dd if=/dev/zero of=/f bs=2048 count=2", "write", "limit",
                  ["--ulimit fsize=2048"]),
    "shared memory": (["--shm-size", "1m"], "dd if=/dev/zero of=/dev/shm/f bs=1024 count=1500", "write", "space",
                      ["--shm-size 2m"]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_cause_and_its_flag(clean: Nano, name: str, tmp_path: Path) -> None:
    given, script, call, cause, advised = CASES[name]
    given = [word.format(here=tmp_path) for word in given]
    advised = [word.format(here=tmp_path) for word in advised]
    for path, owner in (("secret", 0), ("theirs", 1000)):
        file = tmp_path / path
        file.write_text("x")
        os.chown(file, owner, owner)
        file.chmod(0o600)
        given += ["-v", f"{file}:/{path}"]
    network = [] if "--network" in " ".join(advised) else ["--network", "none"]
    first = network or ["--network", "none"]
    clean("run", "--why", "--name", "before", *first, *given, "tiny", "sh", "-c", script, check=False)
    met = [one for one in findings(clean, "before") if one["cause"] == cause]
    assert met, told(clean, "before")
    assert {call, call + "at"} & {one["call"] for one in met} or call in ("fork", "open", "openat"), met
    assert met[0]["flags"] == advised
    assert met[0]["cost"]
    flags = shlex.split(" ".join(advised))
    if flags[0] in ("--tmpfs", "-v") and flags[0] in CASES[name][0]:
        given = given[2:]  # it says the same mount in another way
    clean("run", "--why", "--name", "after", *network, *given, *flags, "tiny", "sh", "-c", script, check=False)
    left = [one for one in findings(clean, "after") if (one["cause"], one["what"]) == (cause, met[0]["what"])]
    assert not [one for one in left if cause != "limit"], left
    if name != "file size":  # one of 2048 bytes fits, two do not
        assert not left


def test_the_report_at_the_end(clean: Nano) -> None:
    """On stderr, behind what the command says; code and output as without."""
    ended = clean("run", "--rm", "--why", "--network", "none", "tiny", "sh", "-c",
                  "echo out; echo err >&2; mount -t tmpfs none /mnt; exit 7", check=False)  # fmt: skip
    assert ended.code == 7 and ended.out == "out\n"
    assert ended.err.startswith("err\n") and "tried to mount none at /mnt: EPERM" in ended.err
    assert "--cap-add SYS_ADMIN" in ended.err and "safer" in ended.err
    silent = clean("run", "--rm", "--why", "--network", "none", "tiny", "true")
    assert "Nothing was refused." in silent.err


def test_a_hostile_path_does_nothing_to_a_terminal(clean: Nano) -> None:
    script = "printf '\\033]0;x\\007' >/n; mkdir -m 0 \"/$(cat /n)\"; chown 1 /n; cat \"/$(cat /n)/a\""
    ended = clean("run", "--rm", "--why", "--network", "none", "--cap-drop", "ALL", "tiny", "sh", "-c", script,
                  check=False)  # fmt: skip
    assert "tried to open" in ended.err
    assert "\x1b" not in ended.err.partition("DENIED")[2]


TRANSPARENT = {
    "an exit code": ("exit 42", 42),
    "children": ("for i in 1 2 3 4 5; do sh -c 'exit 3'; done; exit 5", 5),
    "a pipe": ("seq 1000 | wc -l", 0),
    "a signal's death": ("kill -SEGV $$", 139),
    "a handler": ("trap 'echo got; exit 9' USR1; kill -USR1 $$; sleep 5", 9),
    "stop and continue": ("sleep 1000 & p=$!; kill -STOP $p; sleep 0.1; kill -CONT $p; kill $p; wait $p", 143),
    "background": ("(sleep 0.1; echo late) & wait", 0),
    "a long chain": ("exec sh -c 'exec sh -c \"exec true\"'", 0),
}


@pytest.mark.parametrize("name", TRANSPARENT)
def test_it_is_not_felt(clean: Nano, name: str) -> None:
    script, code = TRANSPARENT[name]
    results = [
        clean("run", "--rm", *why, "--init", "--network", "none", "tiny", "sh", "-c", script, check=False)
        for why in ((), ("--why",))
    ]
    assert [one.code for one in results] == [code, code]
    assert results[0].out == results[1].out


def test_threads_and_programs_are_followed(clean: Nano, pulled: Callable[[str], str], debian_image: str) -> None:
    """Threads of Python's, one of which executes; each is refused something."""
    code = (
        "import os, threading, sys\n"
        "def ask(n):\n"
        "    try: os.chroot('/') if n % 2 else os.mknod('/x', 0o020600, 5)\n"
        "    except OSError as error: print(error.errno, flush=True)\n"
        "threads = [threading.Thread(target=ask, args=(n,)) for n in range(20)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]\n"
        "t = threading.Thread(target=lambda: os.execv('/bin/sh', ['sh', '-c', 'hostname x; exit 6']))\n"
        "t.start(); t.join()\n"
    )
    ended = clean("run", "--name", "threads", "--why", "--network", "none", "--cap-drop", "ALL", pulled(debian_image),
                  "python3", "-c", code, check=False, timeout=120)  # fmt: skip
    assert ended.code == 6
    assert ended.out.split() == ["1"] * 20
    found = {one["call"]: one["count"] for one in findings(clean, "threads")}
    assert found["chroot"] == 10 and found.get("mknodat", found.get("mknod")) == 10 and "sethostname" in found


def test_set_user_id_programs_on_debian(clean: Nano, pulled: Callable[[str], str], debian_image: str) -> None:
    image = pulled(debian_image)
    run = ["run", "--why", "--network", "none", "-u", "1000"]
    clean(*run, "--name", "held", "--security-opt", "no-new-privileges", image, "su", "-c", "id", check=False)
    met = [one for one in findings(clean, "held") if one["cause"] == "no-new-privileges"]
    assert met and met[0]["flags"] == ["--security-opt no-new-privileges=false"]
    clean(*run, "--name", "raised", *shlex.split(met[0]["flags"][0]), image, "su", "-c", "id", check=False)
    assert not [one for one in findings(clean, "raised") if one["cause"] == "no-new-privileges"]


def test_clone3_is_harmless(clean: Nano, pulled: Callable[[str], str], debian_image: str) -> None:
    """glibc asks for clone3(2), gets ENOSYS, and takes clone(2): no reason to tell anybody."""
    code = "import threading; t = threading.Thread(target=print); t.start(); t.join()"
    clean("run", "--name", "quiet", "--why", "--network", "none", pulled(debian_image), "python3", "-c", code)
    clones = [one for one in told(clean, "quiet")["findings"] if one["call"] == "clone3"]
    assert clones and all(one["harmless"] and one["cause"] == "seccomp" for one in clones)


def test_a_terminal_and_ctrl_c(clean: Nano) -> None:
    with clean.pty("run", "--rm", "--why", "-it", "--network", "none", "tiny", "sh") as screen:
        screen.expect("[#$] ")
        screen.send("tty; sleep 1000\n")
        screen.expect("/dev/pts/0")
        time.sleep(0.2)
        screen.send("\x03")
        screen.expect("[#$] ")
        screen.send("hostname x; exit 4\n")
        screen.expect("tried to set the host name: EPERM")
        assert screen.wait() == 4


def test_detached(clean: Nano) -> None:
    """The recording goes on behind, and is there afterwards."""
    clean("run", "-d", "--why", "--name", "behind", "--network", "none", "tiny", "sh", "-c",
          "hostname a; sleep 0.3; hostname b")  # fmt: skip
    assert clean("wait", "behind").out == "1\n"
    until(lambda: told(clean, "behind")["sources"][0]["end"])
    assert findings(clean, "behind")[0]["count"] == 2


def test_exec(clean: Nano) -> None:
    clean("run", "-d", "--name", "host", "--network", "none", "tiny", "sleep", "1000")
    ended = clean("exec", "--why", "host", "sh", "-c", "echo hi; mount -t tmpfs none /mnt; exit 8", check=False)
    assert ended.code == 8 and ended.out == "hi\n" and "none at /mnt: EPERM" in ended.err
    assert [one["call"] for one in findings(clean, "host")] == ["mount"]
    assert told(clean, "host")["ending"]["headline"] == "It runs."


def test_start(clean: Nano) -> None:
    clean("create", "--name", "again", "--network", "none", "tiny", "hostname", "x")
    ended = clean("start", "-a", "--why", "again", check=False)
    assert ended.code == 1 and "set the host name" in ended.err


LOOP = "i=0; while :; do hostname x 2>/dev/null; i=$((i+1)); echo $i; usleep 20000; done"


def traced(pid: int) -> str:
    return next(line.split()[1] for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "TracerPid" in line)


def test_watching_for_a_while(clean: Nano) -> None:
    """What runs is attached to, with what it starts, and runs on as before."""
    clean("run", "-d", "--name", "busy", "--network", "none", "tiny", "sh", "-c", LOOP)
    init = clean("inspect", "-f", "{{.State.Pid}}", "busy").out.strip()
    found = json.loads(clean("why", "--json", "--watch", "1", "busy").out)
    assert found["findings"][0]["call"] == "sethostname" and found["findings"][0]["count"] > 3
    assert traced(int(init)) == "0"
    count = int(clean("logs", "--tail", "1", "busy").out)
    until(lambda: int(clean("logs", "--tail", "1", "busy").out) > count + 3)
    assert findings(clean, "busy")  # kept
    assert clean("why", "--watch", "0.2", "busy").code == 0  # and once more
    assert "It runs" in clean("why", "busy").out


def test_a_watch_ends_with_ctrl_c_and_with_the_container(clean: Nano) -> None:
    clean("run", "-d", "--name", "busy", "--network", "none", "tiny", "sh", "-c", LOOP)
    with clean.pty("why", "--watch", "100", "busy") as screen:
        screen.expect("Watching")
        time.sleep(0.7)
        screen.send("\x03")
        screen.expect("set the host name")
        assert screen.wait() == 0
    begin = time.monotonic()
    process = clean.popen("why", "--watch", "100", "busy", stdout=-1, stderr=-3)
    time.sleep(0.5)
    clean("kill", "busy")
    assert b"set the host name" in process.communicate(timeout=20)[0]
    assert time.monotonic() - begin < 20 and process.returncode == 0


def test_a_killed_tracer_is_not_missed(clean: Nano) -> None:
    clean("run", "-d", "--why", "--name", "busy", "--network", "none", "tiny", "sh", "-c", LOOP)
    init = int(clean("inspect", "-f", "{{.State.Pid}}", "busy").out)
    tracer = int(traced(init))
    assert tracer
    until(lambda: findings(clean, "busy"))
    os.kill(tracer, signal.SIGKILL)
    until(lambda: traced(init) == "0")
    count = int(clean("logs", "--tail", "1", "busy").out)
    until(lambda: int(clean("logs", "--tail", "1", "busy").out) > count + 3)
    assert "its tracer was killed" in " ".join(clean("why", "busy").out.split())
    process = clean.popen("why", "--watch", "100", "busy", stdout=-1, stderr=-3)
    until(lambda: traced(init) == str(process.pid))
    process.kill()
    process.communicate()
    until(lambda: traced(init) == "0")
    count = int(clean("logs", "--tail", "1", "busy").out)
    until(lambda: int(clean("logs", "--tail", "1", "busy").out) > count + 3)


STORM = "while :; do for i in 1 2 3 4 5 6; do (sh -c true; hostname x 2>/dev/null) & done; wait; echo round; done"


def test_a_storm_of_processes_is_watched_and_let_go(clean: Nano) -> None:
    """Processes that come and go while they are attached to and let go of: none is left standing."""
    clean("run", "-d", "--name", "storm", "--network", "none", "tiny", "sh", "-c", STORM)
    for _ in range(5):
        found = json.loads(clean("why", "--json", "--watch", "0.5", "storm").out)
        assert found["findings"][0]["call"] == "sethostname"
    rounds = len(clean("logs", "storm").out.split())
    until(lambda: len(clean("logs", "storm").out.split()) > rounds + 3)
    group = json.loads(Path(clean.root, "containers", found["id"], "state.json").read_text())["cgroup"]
    for pid in Path(group, "cgroup.procs").read_text().split():
        try:
            assert traced(int(pid)) == "0"
        except OSError:
            continue  # it has ended
    clean("rm", "-f", "storm")


def test_killed_by_a_filter(clean: Nano, tmp_path: Path) -> None:
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["sethostname"], "action": "SCMP_ACT_KILL_PROCESS"},
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13},
    ]}  # fmt: skip
    (tmp_path / "profile.json").write_text(json.dumps(profile))
    ended = clean("run", "--why", "--name", "shot", "--network", "none", "--security-opt",
                  f"seccomp={tmp_path}/profile.json", "tiny", "sh", "-c", "mkdir /x; exec hostname x",
                  check=False)  # fmt: skip
    assert ended.code == 159
    made, shot = findings(clean, "shot")
    assert (made["cause"], made["error"], made["flags"]) == ("seccomp", "EACCES", ["--security-opt seccomp=unconfined"])
    assert shot["error"] == "SIGSYS" and "kills whoever" in shot["why"]
    ending = told(clean, "shot")["ending"]
    assert ending["signal"] == "SIGSYS" and "--why" in ending["hints"][0]


def test_one_tracer_at_a_time(clean: Nano) -> None:
    clean("run", "-d", "--why", "--name", "busy", "--network", "none", "tiny", "sleep", "1000")
    refused = clean("why", "--watch", "1", "busy", check=False)
    assert refused.code == 1 and "one tracer" in refused.err


def test_bad_input(clean: Nano) -> None:
    assert "no such container" in clean("why", "nobody", check=False).err
    clean("create", "--name", "idle", "--network", "none", "tiny", "true")
    assert "not running" in clean("why", "--watch", "1", "idle", check=False).err
    assert "It was created and never started" in clean("why", "idle").out
    for words in (("--watch", "x", "idle"), ("--watch=0", "idle"), ("idle", "idle"), ("--format", "yaml", "idle")):
        assert clean("why", *words, check=False).code == 1
    assert "one watcher" in clean("run", "--why", "--explain=live", "tiny", "true", check=False).err


# --- ends


def headline(nano: Nano, name: str) -> str:
    return str(told(nano, name)["ending"]["headline"])


def test_out_of_memory(clean: Nano) -> None:
    code = clean("run", "--name", "big", "-m", "16m", "--network", "none", "tiny", "sh", "-c",
                 "x=a; while :; do x=$x$x; done", check=False).code  # fmt: skip
    ending = told(clean, "big")["ending"]
    assert code == 137 and "out of memory" in ending["headline"]
    assert "-m 32m" in ending["hints"][0] and ending["limits"][0]["bad"]


def test_who_has_ended_it(clean: Nano) -> None:
    for name, script, command in (
        ("stopped", "trap 'exit 0' TERM; while :; do sleep 0.1; done", ("stop", "stopped")),
        ("hard", "sleep 1000", ("stop", "-t", "0", "hard")), ("killed", "sleep 1000", ("kill", "killed")),
    ):  # fmt: skip
        clean("run", "-d", "--name", name, "--network", "none", "tiny", "sh", "-c", script)
        time.sleep(0.2)
        clean(*command)
    stopped, hard, killed = (told(clean, name)["ending"] for name in ("stopped", "hard", "killed"))
    assert "success (0)" in stopped["headline"] and "`stop` sent it SIGTERM" in stopped["reasons"][0]
    assert "SIGKILL ended it" in hard["headline"] and "did not end of the first signal" in hard["reasons"][0]
    assert "`kill` sent it SIGKILL: run by user" in killed["reasons"][0]
    clean("run", "-d", "--name", "shot", "--network", "none", "tiny", "sleep", "1000")
    os.kill(int(clean("inspect", "-f", "{{.State.Pid}}", "shot").out), signal.SIGKILL)
    clean("wait", "shot")
    assert "No command of ours" in told(clean, "shot")["ending"]["reasons"][0]


def test_a_lost_keeper(clean: Nano) -> None:
    clean("run", "-d", "--name", "lost", "--network", "none", "tiny", "sleep", "1000")
    id = clean("inspect", "-f", "{{.Id}}", "lost").out.strip()
    state = json.loads(Path(clean.root, "containers", id, "state.json").read_text())
    os.kill(state["keeper"], signal.SIGKILL)
    until(lambda: "keeper was killed" in headline(clean, "lost"))


def elf(machine: int, interpreter: bytes = b"", needed: bytes = b"") -> bytes:
    """A program of a machine: headers, and what it needs."""
    head = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 2, machine, 1, 0x400078, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    body = interpreter + b"\0"
    return head + struct.pack("<IIQQQQQQ", 3 if interpreter else 1, 5, 120, 0x400078, 0, len(body), len(body), 1) + body


COMMANDS = {
    "a wrong machine": (elf(FOREIGN[0]), 0o755, f"program for {FOREIGN[1]}, this host is {MACHINE}"),
    "no loader": (elf({"x86_64": 62, "aarch64": 183}[MACHINE], b"/lib/ld-no.so.1"), 0o755, "loader /lib/ld-no.so.1"),
    "no interpreter": (b"#!/usr/bin/python9\n", 0o755, "a script for /usr/bin/python9"),
    "a carriage return": (b"#!/bin/sh\r\necho\r\n", 0o755, "carriage return"),
    "env without its program": (b"#!/usr/bin/env ruby\n", 0o755, "is a script for"),
    "not executable": (b"#!/bin/sh\n", 0o644, "not executable: its mode is 0644"),
    "no program": (b"hello\n", 0o755, "neither a program for Linux"),
}


@pytest.mark.parametrize("kind", COMMANDS)
def test_a_command_that_cannot_be_run(clean: Nano, tmp_path: Path, kind: str) -> None:
    content, mode, words = COMMANDS[kind]
    place = tmp_path / "bin"
    place.mkdir()
    (place / "tool").write_bytes(content)
    (place / "tool").chmod(mode)
    run = clean("run", "--name", "broken", "--network", "none", "-v", f"{place}:/opt/bin", "tiny", "/opt/bin/tool",
                check=False)  # fmt: skip
    assert run.code in (126, 127)
    ending = told(clean, "broken")["ending"]
    assert words in " ".join(ending["reasons"]), ending
    assert ending["hints"]


def test_a_missing_command_and_its_likes(clean: Nano) -> None:
    assert clean("run", "--name", "typo", "--network", "none", "tiny", "slep", "1", check=False).code == 127
    ending = told(clean, "typo")["ending"]
    assert "(127)" in ending["headline"] and "sleep" in ending["hints"][0]
    assert clean("run", "--name", "dir", "--network", "none", "tiny", "/bin", check=False).code == 126
    assert "is a directory" in " ".join(told(clean, "dir")["ending"]["reasons"])


def test_a_missing_library_on_debian(clean: Nano, pulled: Callable[[str], str], debian_image: str) -> None:
    image = pulled(debian_image)
    clean("run", "--name", "cut", "--network", "none", image, "bash", "-c",
          "rm -f /usr/lib/*/libtinfo.so.6* /lib/*/libtinfo.so.6*; exec bash -c true", check=False)  # fmt: skip
    ending = told(clean, "cut")["ending"]
    assert ending["exit_code"] == 127
    assert "libtinfo.so.6" in " ".join([*ending["reasons"], *ending["log"]])
    assert "needs the library libtinfo.so.6" in " ".join(ending["reasons"])


def test_limits_of_one_that_has_ended_and_of_one_that_runs(clean: Nano) -> None:
    script = "sleep 0.2 & sleep 0.2 & sleep 0.2 & sleep 0.2 & wait"
    clean("run", "--name", "few", "--pids-limit", "3", "--network", "none", "tiny", "sh", "-c", script, check=False)
    limit = told(clean, "few")["ending"]["limits"][0]
    assert limit["bad"] and "refused" in limit["met"] and limit["hint"] == "--pids-limit 6"
    script = "while :; do :; done"
    clean("run", "-d", "--name", "slow", "--cpus", "0.1", "--network", "none", "tiny", "sh", "-c", script)
    until(lambda: "held back" in told(clean, "slow")["ending"]["limits"][0]["met"])
    clean("rm", "-f", "slow")


def test_the_last_lines(clean: Nano) -> None:
    clean("run", "--name", "loud", "--network", "none", "tiny", "sh", "-c", "seq 9; echo bad >&2; exit 3", check=False)
    out = clean("why", "loud").out
    assert "exit code 3" in out and out.endswith("  6\n  7\n  8\n  9\n  bad\n")
