"""Somebody has stopped what should move (SIGSTOP): a keeper, a first process, all of a container.

No command waits for ever: what needs no keeper works, what ends the container wakes it, and who would have to speak to
it is told why that cannot be.
"""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from .nano import Nano
from .test_keeper import is_attached, keeper_of, state, wait_until


@pytest.fixture
def stopped(clean: Nano) -> Nano:
    """An engine with a container named it, whose keeper is stopped."""
    clean("run", "-d", "--name", "it", "--network", "none", "tiny", "sh", "-c", "echo said; exec sleep 1000")
    os.kill(keeper_of(int(state(clean, "it", "Pid"))), signal.SIGSTOP)
    return clean


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("ps -q", ""),
        ("inspect -f {{.State.Status}} it", "running\n"),
        ("logs it", "said\n"),
        ("exec it echo more", "more\n"),
        ("pause it", "it\n"),
    ],
)
def test_what_needs_no_keeper_works(stopped: Nano, words: str, said: str) -> None:
    assert stopped(*words.split(), timeout=10).out.endswith(said)


@pytest.mark.parametrize("words", ["attach --no-stdin it", "wait it"])
def test_who_would_wait_for_a_keeper_that_does_not_answer_is_told(stopped: Nano, words: str) -> None:
    done = stopped(*words.split(), check=False, timeout=10)
    assert done.code == 1
    assert "the keeper of container it does not answer: process" in done.err
    assert "kill -CONT" in done.err


@pytest.mark.parametrize("words", ["stop -t 1 it", "kill it", "rm -f it", "restart -t 0 it"])
def test_a_stopped_keeper_stops_nobody_from_ending_the_container(stopped: Nano, words: str) -> None:
    stopped(*words.split(), timeout=20)
    assert ("it" in stopped("ps", "--format", "{{.Names}}").out) is words.startswith("restart")


@pytest.mark.parametrize("words", ["stop -t 1 it", "kill it", "rm -f it"])
@pytest.mark.parametrize("how", ["stopped", "paused", "both"])
def test_a_container_that_does_not_move_can_be_ended(clean: Nano, words: str, how: str) -> None:
    clean("run", "-d", "--name", "it", "--network", "none", "tiny", "sleep", "1000")
    pid = int(state(clean, "it", "Pid"))
    if how != "paused":
        os.kill(pid, signal.SIGSTOP)
    if how != "stopped":
        clean("pause", "it")
    if how == "both":
        os.kill(keeper_of(pid), signal.SIGSTOP)
    clean(*words.split(), timeout=20)
    assert clean("ps", "-q").out == ""
    if "rm" not in words:
        assert state(clean, "it", "ExitCode") == "137"


def test_one_that_ended_while_its_keeper_was_stopped(stopped: Nano) -> None:
    os.kill(int(state(stopped, "it", "Pid")), signal.SIGKILL)
    stopped("stop", "-t", "1", "it", timeout=20)
    assert state(stopped, "it", "ExitCode") == "137"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_who_is_attached_when_the_keeper_is_stopped_can_leave(clean: Nano, number: int) -> None:
    clean("run", "-d", "--name", "it", "--network", "none", "tiny", "sh", "-c", "echo ready; exec sleep 1000")
    attached = clean.popen("attach", "it", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    keeper = keeper_of(int(state(clean, "it", "Pid")))
    wait_until(lambda: is_attached(attached.pid))
    os.kill(keeper, signal.SIGSTOP)
    attached.send_signal(number)
    _, said = attached.communicate(timeout=15)
    assert attached.returncode == 1
    assert b"its keeper does not take what it is sent" in said
    os.kill(keeper, signal.SIGCONT)


def test_who_typed_can_detach_from_a_stopped_keeper(clean: Nano) -> None:
    clean("run", "-d", "-it", "--name", "it", "--network", "none", "tiny", "sh")
    with clean.pty("attach", "it") as terminal:
        terminal.send("echo a''b\n")
        terminal.expect("ab")
        os.kill(keeper_of(int(state(clean, "it", "Pid"))), signal.SIGSTOP)
        terminal.send("echo lost\n")
        terminal.send("\x10\x11")
        assert terminal.wait() == 0
