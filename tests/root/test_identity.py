"""Who a container's command is: users, groups, capabilities, rlimits, environment, directory."""

from __future__ import annotations

import pytest

from .nano import Nano


def inside(nano: Nano, script: str, *options: str, check: bool = True) -> str:
    return nano("run", "--rm", "--network", "none", *options, "tiny", "sh", "-c", script, check=check).out


@pytest.mark.parametrize(
    ("user", "uid", "gid", "groups"),
    [("", "0", "0", None), ("1000", "1000", "0", "0"), ("1000:2000", "1000", "2000", "2000"), ("root", "0", "0", None),
     ("4294967294:4294967294", "4294967294", "4294967294", "4294967294")],
)  # fmt: skip
def test_users(nano: Nano, user: str, uid: str, gid: str, groups: str | None) -> None:
    options = ("--user", user) if user else ()
    rows = dict(line.split(":", 1) for line in inside(nano, "cat /proc/self/status", *options).splitlines())
    assert rows["Uid"].split() == [uid] * 4
    assert rows["Gid"].split() == [gid] * 4
    if groups is not None:
        assert rows["Groups"].split() == groups.split()


@pytest.mark.parametrize("user", ["nobody-there", "0:nogroup-there", "4294967295", "-1", "²"])
def test_users_that_are_none(nano: Nano, user: str) -> None:
    done = nano("run", "--rm", "--network", "none", f"--user={user}", "tiny", "true", check=False)
    assert done.code == 125
    assert done.err.startswith("Error: ")
    assert "bug" not in done.err


def status(nano: Nano, *options: str) -> dict[str, str]:
    said = inside(nano, "cat /proc/self/status", *options)
    return {key: value.strip() for key, _, value in (line.partition(":") for line in said.splitlines())}


DOCKER = "00000000a80425fb"
NONE = "0" * 16


def test_capabilities_of_root(nano: Nano) -> None:
    rows = status(nano)
    assert rows["CapPrm"] == rows["CapEff"] == rows["CapBnd"] == DOCKER
    assert rows["CapInh"] == rows["CapAmb"] == NONE
    assert rows["Seccomp"] == "2"
    assert rows["NoNewPrivs"] == "0"


def test_capabilities_of_a_user(nano: Nano) -> None:
    rows = status(nano, "--user", "1000")
    assert rows["CapPrm"] == rows["CapEff"] == rows["CapInh"] == rows["CapAmb"] == NONE
    assert rows["CapBnd"] == DOCKER


def test_fewer_and_more_capabilities(nano: Nano) -> None:
    assert status(nano, "--cap-drop", "ALL")["CapBnd"] == NONE
    assert status(nano, "--cap-drop", "ALL", "--cap-add", "CHOWN")["CapEff"] == f"{1:016x}"
    assert int(status(nano, "--privileged")["CapEff"], 16) > int(DOCKER, 16)
    assert status(nano, "--privileged")["Seccomp"] == "0"


@pytest.mark.parametrize("user", ["0", "1000"])
def test_no_new_privileges(nano: Nano, user: str) -> None:
    rows = status(nano, "--security-opt", "no-new-privileges", "--user", user)
    assert (rows["NoNewPrivs"], rows["Seccomp"]) == ("1", "2")


def test_a_user_may_open_its_own_streams_again(nano: Nano) -> None:
    script = "echo out > /dev/stdout; echo err > /dev/stderr"
    done = nano("run", "--rm", "--network", "none", "--user", "1000", "tiny", "sh", "-c", script)
    assert (done.out, done.err) == ("out\n", "err\n")
    id = nano("run", "-d", "--network", "none", "tiny", "sleep", "1000").out.strip()
    done = nano("exec", "--user", "1000", id, "sh", "-c", script)
    assert (done.out, done.err) == ("out\n", "err\n")
    nano("rm", "-f", id)


def test_rlimits_also_in_exec(nano: Nano) -> None:
    options = ("--ulimit", "nofile=123:456", "--oom-score-adj", "300")
    script = "ulimit -Sn; ulimit -Hn; cat /proc/self/oom_score_adj"
    assert inside(nano, script, *options).split() == ["123", "456", "300"]
    id = nano("run", "-d", "--network", "none", *options, "tiny", "sleep", "1000").out.strip()
    assert nano("exec", id, "sh", "-c", script).out.split() == ["123", "456", "300"]
    nano("rm", "-f", id)


def test_environment_and_directory(nano: Nano) -> None:
    said = inside(nano, "echo $A-$HOME-$HOSTNAME; pwd; umask", "-e", "A=1", "-w", "/new/place", "--hostname", "box")
    assert said.splitlines() == ["1-/root-box" if "/root" in said else "1-/-box", "/new/place", "0022"]


def test_hostname(nano: Nano) -> None:
    said = inside(nano, "cat /proc/sys/kernel/hostname /etc/hostname; grep -c box /etc/hosts", "--hostname", "box")
    assert said.split() == ["box", "box", "1"]


def test_sysctls(nano: Nano) -> None:
    assert inside(nano, "cat /proc/sys/kernel/shmmni", "--sysctl", "kernel.shmmni=123") == "123\n"
    done = nano("run", "--rm", "--sysctl", "kernel.core_pattern=x", "tiny", "true", check=False)
    assert done.code == 125
    assert "not allowed" in done.err


def test_init_reaps_and_passes_signals_on(clean: Nano) -> None:
    script = "trap 'echo got; exit 3' TERM; (sleep 0.05 &); echo ready; while :; do sleep 0.05; done"
    clean("run", "-d", "--name", "i1", "--init", "--network", "none", "tiny", "sh", "-c", script)
    clean("stop", "-t", "5", "i1")
    assert clean("inspect", "-f", "{{.State.ExitCode}}", "i1").out == "3\n"
    assert "got" in clean("logs", "i1").out


def test_no_signal_is_ignored_or_blocked(clean: Nano) -> None:
    """Python ignores SIGPIPE; what is ignored stays ignored in a program that is executed (signal(7))."""
    clean("run", "-d", "--name", "quiet", "--network", "none", "tiny", "sleep", "60")
    for place in ("run --rm --network none tiny", "run --rm --init --network none tiny", "exec quiet"):
        said = clean(*place.split(), "grep", "-E", "Sig(Ign|Blk)", "/proc/self/status").out
        assert [line.split()[1] for line in said.splitlines()] == ["0" * 16] * 2, (place, said)
    clean("rm", "-f", "quiet")
