"""The host's clock is set while a container runs: a day forward, or back. No deadline and no order hangs on it.

The clock of this process and its forks (commands, keepers) is a shared number away from the real one.
"""

from __future__ import annotations

import json
import mmap
import re
import time

import pytest

from .faulting import command
from .nano import Nano

DAY = 86_400 * 10**9  # nanoseconds
WAITS = "trap 'echo two; exit 3' TERM; echo one; while :; do sleep 0.05; done"


class Clock:
    """jump: nanoseconds that the wall clock is wrong by, for all forks at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.memory = mmap.mmap(-1, 4096)
        real = time.time_ns
        monkeypatch.setattr(time, "time_ns", lambda: real() + self.jump)
        monkeypatch.setattr(time, "time", lambda: (real() + self.jump) / 1e9)

    @property
    def jump(self) -> int:
        return int.from_bytes(self.memory[:8], "little", signed=True)

    @jump.setter
    def jump(self, value: int) -> None:
        self.memory[:8] = value.to_bytes(8, "little", signed=True)


@pytest.mark.parametrize("jump", [DAY, -DAY], ids=["forward", "back"])
def test_the_clock_is_set_while_a_container_runs(clean: Nano, monkeypatch: pytest.MonkeyPatch, jump: int) -> None:
    clock = Clock(monkeypatch)
    begin = time.monotonic()
    assert command(clean, "run", "-d", "--name", "it", "--network", "none", "tiny", "sh", "-c", WAITS).code == 0
    while command(clean, "logs", "it").out != "one\n":
        assert time.monotonic() < begin + 10
    clock.jump = jump
    listed = command(clean, "ps", "--format", "{{.State}}: {{.Status}}, {{.RunningFor}}")
    assert listed.out.startswith("running: Up ") and "-" not in listed.out, listed.out
    assert command(clean, "exec", "it", "sh", "-c", "exit 7").code == 7
    asked = time.monotonic()
    assert command(clean, "stop", "-t", "5", "it").code == 0
    assert time.monotonic() - asked < 5, "it was not waited for, or killed by a deadline of the wall clock"
    state = json.loads(command(clean, "inspect", "it").out)[0]["State"]
    assert (state["Status"], state["ExitCode"]) == ("exited", 3)
    assert (state["FinishedAt"] > state["StartedAt"]) is (jump > 0)  # the truth, as the host's clock had it
    assert command(clean, "logs", "it").out == "one\ntwo\n"
    assert len(re.findall("(?m)^20", command(clean, "logs", "-t", "it").out)) == 2
    exited = command(clean, "ps", "-a", "--format", "{{.Status}}").out
    assert exited.startswith("Exited (3) ") and "-" not in exited, exited
    clock.jump = 0
    assert command(clean, "start", "it").code == 0
    assert command(clean, "rm", "-f", "it").code == 0
