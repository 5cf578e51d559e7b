"""Killed while a running container is changed."""

from __future__ import annotations

import os

import pytest

from . import tally
from .changes import CHANGES
from .crew import LONG, Crew

ALL = bool(os.environ.get("NANOCONTAINER_CRASH_ALL"))  # else a sample: see the numbers below


@pytest.mark.timeout(LONG)
@pytest.mark.parametrize("change", CHANGES)
def test_a_running_container_is_changed(crew: Crew, change: str) -> None:
    (count,) = crew.run("count_in_change", [{"change": change}])
    assert count > 15
    cases = [
        {"change": change, "who": who, "at": at, "torn": torn}
        for at in range(1, count + 1)
        for who, torn, each in (("command", False, 2), ("command", True, 5), ("keeper", False, 6))
        if ALL or at % each == 0
    ]
    tally.judge(cases, crew.run("kill_in_change", cases))


def test_a_cable_that_stays_is_seen(crew: Crew) -> None:
    """The test of the test: a change that is not taken back whole is found."""
    (count,) = crew.run("count_in_change", [{"change": "connect"}])
    killed = [{"change": "connect", "who": "command", "at": count * part // 10} for part in range(4, 8)]
    cases = [{"method": "PlugCable.undo", "job": "kill_in_change", "case": case} for case in killed]
    assert any("cables: inside" in line for found in crew.run("with_broken", cases) for line in found)
