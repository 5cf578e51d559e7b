"""Limits hold: memory, processes, processors; on hosts of cgroup version 2 and hybrid ones."""

from __future__ import annotations

import pytest

from nanocontainer.kernel.facts import probe

from .nano import Nano

HAVE = {*probe().controllers, *probe().cgroup1}


def needs(controller: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(controller not in HAVE, reason=f"this host has no cgroup controller {controller}")


def run(nano: Nano, *args: str, check: bool = False) -> tuple[int, str, str]:
    done = nano("run", "--rm", "--network", "none", *args, check=check)
    return done.code, done.out, done.err


EAT = "x=$(head -c 200000000 /dev/zero | tr '\\0' x); echo survived ${#x}"


@needs("memory")
def test_memory_and_oom(clean: Nano) -> None:
    command = ("sh", "-c", f'exec sh -c "{EAT}"')
    clean("run", "--name", "fat", "--network", "none", "-m", "32m", "tiny", *command, check=False)
    assert "survived" not in clean("logs", "fat").out
    assert clean("inspect", "-f", "{{.State.OOMKilled}} {{.State.ExitCode}}", "fat").out == "true 137\n"


@needs("memory")
def test_memory_is_not_swapped_around_its_limit(clean: Nano) -> None:
    clean("run", "-d", "--name", "box", "--network", "none", "-m", "32m", "tiny", "sleep", "100")
    assert clean("exec", "box", "sh", "-c", EAT, check=False).code != 0


@needs("pids")
def test_processes(nano: Nano) -> None:
    script = "for i in 1 2 3 4 5 6 7 8 9; do sleep 1 & done; wait"
    code, _, err = run(nano, "--pids-limit", "5", "tiny", "sh", "-c", script)
    assert code != 0
    assert "fork" in err or "Resource temporarily unavailable" in err
    assert run(nano, "--pids-limit", "-1", "tiny", "true") == (0, "", "")


@needs("cpu")
def test_processor_time(nano: Nano) -> None:
    """A tenth of a processor: a busy loop of half a second gets about 50 ms."""
    script = "timeout 0.6 sh -c 'while :; do :; done'; cut -d' ' -f16 /proc/$$/stat /proc/self/stat | head -1; times"
    _, out, _ = run(nano, "--cpus", "0.1", "tiny", "sh", "-c", script)
    used = out.split("\n")[-2].split()[0]  # children's user time, "0m0.06s"
    minutes, _, seconds = used.rstrip("s").partition("m")
    assert float(minutes) * 60 + float(seconds) < 0.35


@needs("cpuset")
def test_processors(nano: Nano) -> None:
    _, out, _ = run(nano, "--cpuset-cpus", "0", "tiny", "grep", "Cpus_allowed_list", "/proc/self/status")
    assert out.split()[-1] == "0"
    code, _, err = run(nano, "--cpuset-cpus", "4095", "tiny", "true")
    assert code == 125
    assert "which processors" in err


@needs("memory")
def test_exec_is_in_the_same_limits(clean: Nano) -> None:
    clean("run", "-d", "--name", "box", "--network", "none", "-m", "64m", "--pids-limit", "20", "tiny", "sleep", "100")
    look = ("sh", "-c", "sed 's/.*://' /proc/$0/cgroup | sort -u")
    assert clean("exec", "box", *look, "self").out == clean("exec", "box", *look, "1").out


@pytest.mark.parametrize(
    "options", [("-m", "1m"), ("--memory-swap", "64m"), ("-m", "64m", "--memory-swap", "32m"), ("--cpus", "1000")]
)
def test_contradictions(nano: Nano, options: tuple[str, ...]) -> None:
    code, _, err = run(nano, *options, "tiny", "true")
    assert code == 125
    assert err.startswith("Error: ")
    assert "bug" not in err


def test_a_child_left_behind_does_not_hinder_the_end(clean: Nano) -> None:
    """Without a PID namespace of its own a limited container's children outlive its first process."""
    options = ("-m", "64m") if "memory" in HAVE else ()
    done = clean("run", "--rm", "--network", "none", "--pid", "host", *options, "tiny", "sh", "-c",
                 "setsid sleep 995 & exit 3", check=False, timeout=8)  # fmt: skip
    assert done.code == 3
