"""Signals by name, to the right process only; waiting for an end."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest

from nanocontainer.container.signalling import number_of, send, wait_for_end
from nanocontainer.container.spec import Container, Spec, State
from nanocontainer.errors import InvalidInput, NotRunning


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("TERM", 15), ("SIGTERM", 15), ("sigterm", 15), (" term ", 15), ("15", 15), ("9", 9), ("64", 64), ("KILL", 9),
        ("RTMIN", signal.SIGRTMIN), ("RTMIN+3", signal.SIGRTMIN + 3), ("SIGRTMAX-2", signal.SIGRTMAX - 2),
        ("WINCH", signal.SIGWINCH), ("CLD", signal.SIGCHLD),
    ],
)  # fmt: skip
def test_numbers(text: str, number: int) -> None:
    assert number_of(text) == number


@pytest.mark.parametrize(
    "text",
    ["", "0", "65", "-1", "²", "NOPE", "SIG", "SIGSIG", "_DFL", "SIG_IGN", "_BLOCK", "RTMIN+31", "RTMIN-1", "RTMAX+1",
     "RTMIN+²", "TERM+1", "9" * 5000, "a b", "__name__"],
)  # fmt: skip
def test_what_is_no_signal(text: str) -> None:
    with pytest.raises(InvalidInput, match="invalid signal"):
        number_of(text)


class Life:
    def __init__(self, running: bool = True) -> None:
        self.is_running = running

    def running(self, id: str) -> bool:
        return self.is_running


def container(pid: int, keeper: int) -> Container:
    return Container(Spec(image="x", id="i", name="web"), State(status="running", pid=pid, keeper=keeper))


@pytest.fixture
def sleeper() -> object:
    process = subprocess.Popen(["sleep", "100"])
    yield process
    process.kill()
    process.wait()


def test_the_signal_arrives(sleeper: subprocess.Popen[bytes]) -> None:
    send(Life(), container(sleeper.pid, os.getpid()), 15)  # type: ignore[arg-type]
    assert sleeper.wait(5) == -15


def test_a_pid_that_somebody_else_has_by_now_is_left_alone(sleeper: subprocess.Popen[bytes]) -> None:
    with pytest.raises(NotRunning):
        send(Life(), container(sleeper.pid, 1), 9)  # type: ignore[arg-type]
    with pytest.raises(NotRunning):
        send(Life(running=False), container(sleeper.pid, os.getpid()), 9)  # type: ignore[arg-type]
    assert sleeper.poll() is None


def test_a_pid_that_is_gone(sleeper: subprocess.Popen[bytes]) -> None:
    sleeper.kill()
    sleeper.wait()
    with pytest.raises(NotRunning):
        send(Life(), container(sleeper.pid, os.getpid()), 9)  # type: ignore[arg-type]


def test_waiting_for_a_process(sleeper: subprocess.Popen[bytes]) -> None:
    def keeper() -> int:
        return 0 if sleeper.returncode is not None else sleeper.pid

    begin = time.monotonic()
    assert not wait_for_end(keeper, 0.1)
    assert 0.09 < time.monotonic() - begin < 2
    sleeper.kill()
    sleeper.wait()
    assert wait_for_end(keeper, 5)
    assert wait_for_end(keeper, None)


def test_a_holder_that_lets_go_and_lives_on_is_not_waited_for(sleeper: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 0.3
    assert wait_for_end(lambda: sleeper.pid if time.monotonic() < until else 0, None)
    assert time.monotonic() < until + 2


def test_no_file_is_left_open(sleeper: subprocess.Popen[bytes]) -> None:
    before = len(os.listdir("/proc/self/fd"))
    wait_for_end(lambda: sleeper.pid, 0.01)
    with pytest.raises(NotRunning):
        send(Life(), container(sleeper.pid, 1), 9)  # type: ignore[arg-type]
    assert len(os.listdir("/proc/self/fd")) == before
