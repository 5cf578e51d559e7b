"""Killed at every step: before and after it, every process that takes part in it. One sweep, and all is as it was."""

from __future__ import annotations

import os

import pytest

from . import tally
from .bench import cases_of
from .crew import Crew
from .shapes import REGISTRY

# In virtual machines, which are slow, only some kinds of steps: their names
ONLY = os.environ.get("NANOCONTAINER_CRASH_STEPS", "").split()


def test_a_leak_is_seen(crew: Crew) -> None:
    """The test of the test: where a step is not undone, or the next command does not sweep, it is found."""
    (plan,) = crew.run("plan", [{"shape": "none"}])
    at = [name for name, _ in plan].index("MountProc")
    case = {"shape": "none", "who": "keeper", "when": "after", "index": at, "inside": True}
    broken = ["MakeCgroup.undo", "WriteFile.undo", "ContainerStore.remove", "Lifecycle.sweep"]
    results = crew.run("with_broken", [{"method": method, "case": case} for method in broken])
    assert [bool(found) for found in results] == [True] * len(broken), results
    assert any("cgroup" in line for line in results[0])


@pytest.mark.timeout(240)
@pytest.mark.parametrize("shape", REGISTRY)
def test_killed_at_every_step(crew: Crew, shape: str) -> None:
    (plan,) = crew.run("plan", [{"shape": shape}])
    names = [name for name, _ in plan]
    assert {"Clone", "Exec"} <= set(names)
    cases = [case for case in cases_of(shape, plan) if not ONLY or names[int(str(case["index"]))] in ONLY]
    results = crew.run("kill_at_step", cases)
    tally.judge([{**case, "step": names[int(str(case["index"]))]} for case in cases], results, shape)
