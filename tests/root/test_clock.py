"""The machine's clock is set: an hour ahead, a day back, while containers run. What waits does not notice (all waiting
is by the monotonic clock, clock_gettime(2)), and what shows times says nothing strange."""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable, Iterator

import pytest

from .faulting import Ended, command
from .nano import Nano

DAY = 86_400


@pytest.fixture
def set_clock(clean: Nano, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Set the wall clock of this process, its forks and their keepers, so many seconds ahead of the true one."""
    shared = mmap.mmap(-1, 16)
    true, true_ns = time.time, time.time_ns

    def ahead() -> int:
        return int.from_bytes(shared[:8], "little", signed=True)

    monkeypatch.setattr(time, "time", lambda: true() + ahead())
    monkeypatch.setattr(time, "time_ns", lambda: true_ns() + ahead() * 10**9)

    def put(seconds: int) -> None:
        shared[:8] = seconds.to_bytes(8, "little", signed=True)

    yield put
    put(0)


def run(nano: Nano, words: str, *more: str) -> Ended:
    return command(nano, *words.split(), *more, patience=15)


@pytest.mark.parametrize("jump", [3600, -DAY, 400 * DAY, -400 * DAY])
def test_a_clock_that_is_set_while_a_container_runs(
    clean: Nano, set_clock: Callable[[int], None], jump: int
) -> None:
    script = "echo 1; read a; echo 2; trap : TERM; while :; do sleep 0.1; done"
    started = run(clean, "run -d -i --name it --network none tiny sh -c", script)
    assert started.code == 0, started.err
    set_clock(jump)
    listed = run(clean, "ps --format", "{{.Status}}|{{.RunningFor}}").out
    assert "-" not in listed, listed
    if jump < 0:
        assert listed == "Up Less than a second|Less than a second ago\n"
    clean("exec", "it", "true")
    begin = time.monotonic()
    assert run(clean, "stop -t 1 it").code == 0  # it takes no notice of SIGTERM
    assert 0.9 < time.monotonic() - begin < 8
    assert run(clean, "inspect -f {{.State.ExitCode}} it").out == "137\n"
    assert "-" not in run(clean, "ps -a --format", "{{.Status}}|{{.RunningFor}}").out
    assert run(clean, "start it").code == 0
    assert run(clean, "restart -t 0 it").code == 0
    set_clock(0)
    assert run(clean, "logs it").out == "1\n1\n1\n"  # in the order in which it was said
    set_clock(-jump)
    assert run(clean, "rm -f it").code == 0
    assert run(clean, "run --rm --network none tiny sh -c", "exit 7").code == 7


def test_logs_of_a_container_whose_clock_was_set_back(clean: Nano, set_clock: Callable[[int], None]) -> None:
    set_clock(DAY)
    assert run(clean, "run --name it --network none tiny echo tomorrow").code == 0
    set_clock(0)
    assert run(clean, "start -a it").code == 0
    assert run(clean, "logs it").out == "tomorrow\ntomorrow\n"
    assert run(clean, "logs --until 0s it").out == "tomorrow\n"  # the later line is the second one
    assert run(clean, "logs --since 10m it").out == "tomorrow\ntomorrow\n"
    assert run(clean, "logs --since", "-10m", "it").out in ("", "tomorrow\n")
    begin = time.monotonic()
    assert run(clean, "logs -f it").out == "tomorrow\ntomorrow\n"
    assert time.monotonic() - begin < 5
    run(clean, "rm it")
