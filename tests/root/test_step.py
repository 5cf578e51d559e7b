"""A start that is stepped, on a terminal like a person's: what is shown, the two shells, left out, aborted, run on."""

from __future__ import annotations

import json
import os
import re

import pytest

from nanocontainer.container.spec import Spec
from nanocontainer.engine import Engine

from . import census
from .nano import Nano, Terminal

PROMPT = r"\(\d+ \w+\) "
NONE = ("--network", "none")


def at(terminal: Terminal, name: str) -> None:
    terminal.expect(rf"\(\d+ {name}\) ")


def names(nano: Nano, **fields: object) -> list[str]:
    spec = Spec(image="tiny", command=("true",), **{"network": "none", **fields})  # type: ignore[arg-type]
    return [type(step).__name__ for step in Engine(nano.root, nano.runroot).explain(spec)]


def test_every_step_is_a_stop_and_the_container_runs(clean: Nano) -> None:
    with clean.pty("run", "--rm", "--step", *NONE, "tiny", "echo", "it", "runs", cols=100, rows=50) as terminal:
        for name in names(clean):
            at(terminal, name)
            terminal.send("\n")
        terminal.expect("The command runs")
        assert terminal.wait() == 0
        assert "it runs" in terminal.seen.replace("\r\n", "\n").split("\n")


def test_what_each_step_changes_is_shown_when_it_has_changed(clean: Nano) -> None:
    with clean.pty("run", "--rm", "--step", "--name", "seen", *NONE, "tiny", "true", cols=120, rows=50) as terminal:

        def after(name: str) -> str:
            at(terminal, name)
            before = len(terminal.seen)
            terminal.send("next\n")
            terminal.expect(PROMPT)
            terminal._at -= len(terminal.seen) - terminal.seen.rindex("(")
            return terminal.seen[before:]

        def go(name: str) -> None:
            terminal.expect(PROMPT)
            terminal.send(f"to {name}\n")

        assert "cgroup" in after("MakeCgroup")
        go("Clone")
        born = after("Clone")
        assert re.search(r"pid namespace +\d+ new", born)
        assert re.search(r"user namespace +\d+ the host's", born)
        assert re.search(r"root +the host's", born)
        go("EnterNetworkNamespace")
        assert re.search(r"net namespace +\d+ the host's → \d+ new", after("EnterNetworkNamespace"))
        go("MountProc")
        assert re.search(r"inside +mounts +\+ \(root\)/proc  proc", after("MountProc"))
        go("SetHostname")
        assert re.search(r"host name +\S+ → [0-9a-f]{12}", after("SetHostname"))
        go("PivotRoot")
        assert re.search(r"root +the host's → the container's own", after("PivotRoot"))
        go("LoadSeccomp")
        assert re.search(r"seccomp +no filter → a filter", after("LoadSeccomp"))
        assert "bounding set" in after("BoundCapabilities")
        go("SetCapabilities")
        assert re.search(r"capabilities .*→ 14: ", after("SetCapabilities"))
        terminal.expect(PROMPT)
        terminal.send("continue\n")
        assert terminal.wait() == 0


def test_shells_on_both_sides(clean: Nano) -> None:
    args = ("run", "--rm", "--break-at", "pivotroot", "--break-at", "EnterWorkDir", *NONE, "tiny", "true")
    with clean.pty(*args, env={"SHELL": "/bin/sh"}, cols=120, rows=50) as terminal:
        at(terminal, "PivotRoot")
        terminal.send("outside\n")
        terminal.expect(r"[#$] $")
        terminal.send("echo PID=$PID; grep -c . $CGROUP/cgroup.procs; readlink /proc/$PID/ns/mnt; exit\n")
        outside = terminal.expect(r"PID=(\d+)\r\n1\r\nmnt:\[(\d+)\]")
        at(terminal, "PivotRoot")
        terminal.send("inside\n")
        terminal.expect("the root is still the host's")
        terminal.expect(r"[#$] $")
        terminal.send("readlink /proc/self/ns/mnt; ls -d /etc/debian_version; exit\n")
        assert terminal.expect(r"\r\nmnt:\[(\d+)\]\r\n/etc/debian_version")[1] == outside[2]
        at(terminal, "PivotRoot")
        terminal.send("c\n")
        at(terminal, "EnterWorkDir")
        terminal.send("inside\n")
        terminal.expect("the container's root")
        terminal.expect(r"[#$] ")
        terminal.send("ls -d /etc/debian_version; hostname; ps | grep -c sleep; exit\n")
        terminal.expect(r"No such file")
        terminal.expect(r"[0-9a-f]{12}\r\n")
        at(terminal, "EnterWorkDir")
        terminal.send("c\n")
        assert terminal.wait() == 0


def test_a_step_can_be_left_out_and_inspect_remembers(clean: Nano) -> None:
    with clean.pty("run", "--name", "less", "--break-at", "SetHostname", *NONE, "tiny", "hostname") as terminal:
        at(terminal, "SetHostname")
        terminal.send("explain\n")
        terminal.expect("Without it: The container sees the host's name")
        terminal.send("skip\n")
        terminal.expect("The container sees the host's name")
        assert terminal.wait() == 0
    assert os.uname().nodename in terminal.seen.split()
    assert json.loads(clean("inspect", "less").out)[0]["Without"] == ["SetHostname"]
    clean("start", "-a", "less")
    assert "Without" not in json.loads(clean("inspect", "less").out)[0]  # that start left nothing out


def test_skip_follows_the_rules(clean: Nano) -> None:
    with clean.pty("run", "--rm", "--step", *NONE, "tiny", "ls", "/proc", cols=120) as terminal:
        at(terminal, "MakeCgroup")
        terminal.send("skip\n")
        terminal.expect("cannot be left out: the container's processes could be neither found nor killed")
        at(terminal, "MakeCgroup")
        terminal.send("to ProtectPaths\n")
        at(terminal, "ProtectPaths")
        terminal.send("skip\n")
        terminal.expect("endangers the host")
        at(terminal, "ProtectPaths")
        terminal.send("abort\n")
        terminal.expect("Aborted before step")
        assert terminal.wait() == 125
    with clean.pty("run", "--rm", "--break-at", "MountProc", *NONE, "tiny", "ls", "/proc", cols=120) as terminal:
        at(terminal, "MountProc")
        terminal.send("skip\n")
        terminal.expect("needed by SetSysctls, MaskPaths, ProtectPaths")
        at(terminal, "MountProc")
        terminal.send("skip all\n")
        terminal.expect("ProtectPaths, is left out")
        terminal.expect("The command runs")
        assert terminal.wait() == 0


@pytest.mark.timeout(300)
def test_abort_at_every_step_takes_all_back(clean: Nano) -> None:
    args = ("run", "--rm", "-m", "64m", "-p", "127.0.0.1:18098:80", "tiny", "true")
    plan = re.findall(r"^ *\d+ +(?:host|inside) +(\w+)", clean("run", "--explain", *args[1:]).out, re.M)
    for name in dict.fromkeys(plan or names(clean, network="bridge")):
        before = census.take()
        with clean.pty("run", "--break-at", name, *args[1:]) as terminal:
            at(terminal, name)
            terminal.send("abort\n")
            terminal.expect("Aborted before step")
            assert terminal.wait() == 125, name
            assert "Still there" not in terminal.seen
        assert census.settle(before) == [], name


@pytest.mark.parametrize("how", ["\x03", "\x04", "kill", "terminate"])
def test_who_leaves_takes_all_back(clean: Nano, how: str) -> None:
    before = census.take()
    with clean.pty("run", "--rm", "--break-at", "MountProc", *NONE, "tiny", "true") as terminal:
        at(terminal, "MountProc")
        if how == "kill":
            terminal.process.kill()
        elif how == "terminate":
            terminal.process.terminate()
            assert terminal.wait() == 125
        else:
            terminal.send(how)
            assert terminal.wait() in (125, 130)
    assert census.settle(before) == []


def test_a_shell_of_the_container_gets_the_terminal(clean: Nano) -> None:
    with clean.pty("run", "--rm", "-it", "--break-at", "Exec", *NONE, "tiny", "sh") as terminal:
        at(terminal, "Exec")
        terminal.send("\n")
        terminal.expect(r"# ")
        terminal.send("echo $((6*7)); exit 3\r")
        terminal.expect("42")
        assert terminal.wait() == 3


def test_start_and_exec_are_stepped_too(clean: Nano) -> None:
    clean("create", "--name", "later", *NONE, "tiny", "sleep", "1000")
    with clean.pty("start", "--step", "later") as terminal:
        at(terminal, "MakeCgroup")
        terminal.send("to Exec\n")
        at(terminal, "Exec")
        terminal.send("\n")
        assert terminal.wait() == 0
    with clean.pty("exec", "--break-at", "SetIds", "later", "sh", "-c", "echo hi; exit 5") as terminal:
        at(terminal, "SetIds")
        terminal.send("show\n")
        terminal.expect("seccomp")
        at(terminal, "SetIds")
        terminal.send("c\n")
        terminal.expect("hi")
        assert terminal.wait() == 5


def test_without_a_terminal_it_says_what_to_use_instead(nano: Nano) -> None:
    for flag in ("--step", "--break-at=Clone"):
        done = nano("run", "--rm", flag, "tiny", "true", check=False)
        assert done.code == 125
        assert "--explain=live" in done.err
        assert "trace" in done.err


def test_a_step_that_does_not_exist_lists_those_that_do(clean: Nano) -> None:
    with clean.pty("run", "--rm", "--break-at", "PivotRoute", *NONE, "tiny", "true") as terminal:
        terminal.expect("no step 'PivotRoute' in this start.*did you mean PivotRoot")
        assert terminal.wait() == 125
    assert clean("ps", "-aq").out == ""
    with clean.pty("run", "--rm", "--step", *NONE, "tiny", "true") as terminal:
        at(terminal, "MakeCgroup")
        terminal.send("to nowhere\n")
        terminal.expect("no step 'nowhere'")
        at(terminal, "MakeCgroup")
        terminal.send("frobnicate\n")
        terminal.expect("is no command.*outside")
        at(terminal, "MakeCgroup")
        terminal.send("abort\n")
        assert terminal.wait() == 125


def test_live(clean: Nano) -> None:
    done = clean("run", "--rm", "--explain=live", *NONE, "tiny", "echo", "hello")
    assert done.out == "hello\n"
    rows = re.findall(r"^ *[\d.]+ ms +(?:\d[\d.]* (?:µs|ms))? +(\w+)", done.err, re.M)
    assert sorted(rows) == sorted(names(clean))
    assert re.search(r"^\d+ steps in ", done.err, re.M)
    clean("run", "-d", "--name", "up", "--explain=live", *NONE, "tiny", "sleep", "1000")
    done = clean("exec", "--explain=live", "up", "echo", "again")
    assert done.out == "again\n"
    assert "OpenContainerRoot" in done.err
    done = clean("run", "--rm", "--explain=live", "--network", "none", "tiny", "nothing", check=False)
    assert done.code == 127
    assert "Exec" in done.err


def test_a_first_process_that_is_killed_while_it_stands_still(clean: Nano) -> None:
    with clean.pty("run", "--rm", "--step", *NONE, "tiny", "true", cols=120, rows=50) as terminal:
        terminal.expect(PROMPT)
        terminal.send("to PivotRoot\n")
        at(terminal, "PivotRoot")
        terminal.send("outside\n")
        terminal.send("kill -9 $PID; sleep 0.2; exit\n")
        at(terminal, "PivotRoot")
        terminal.send("inside\n")
        terminal.expect("there is no inside any more")
        terminal.send("continue\n")
        terminal.expect(r"at step \d+, PivotRoot: the command never ran")
        assert terminal.wait() == 137
        assert "The command runs" not in terminal.seen
    assert clean("ps", "-aq").out == ""
