"""Killed at every step: before and after it, every process that takes part in it. One sweep, and all is as it was."""

from __future__ import annotations

import os

import pytest

from nanocontainer.container import residues  # noqa: F401 (so that all steps that leave something are known)
from nanocontainer.kernel.facts import probe
from nanocontainer.network import publish  # noqa: F401 (the same)
from nanocontainer.plan.step import Step

from . import tally
from .bench import cases_of
from .crew import LONG, Crew
from .shapes import REGISTRY

# In virtual machines, which are slow, only some kinds of steps: their names
ONLY = os.environ.get("NANOCONTAINER_CRASH_STEPS", "").split()

ALL = bool(os.environ.get("NANOCONTAINER_CRASH_ALL"))
WHOLE = ("none", "bridge", "exec")  # also before each step, where it is the same moment as after the last one

# Where it shows that the undo of a step does nothing: in a sweep after a killed keeper, but for two. The firewall's
# elements go with the last bridge, so there must be another container; a copy is half made in the middle of its step.
RESIDUES = [name for name, kind in Step.kinds.items() if kind.residue != "init" and kind.__module__.startswith("nano")]


@pytest.mark.timeout(240)
def test_a_leak_is_seen(crew: Crew) -> None:
    """The test of the test: where a step is not undone, or the next command does not sweep, it is found."""
    (plan,) = crew.run("plan", [{"shape": "bridge shared"}])
    (count,) = crew.run("count_in_life", [{"life": "all", "who": "keeper"}])
    at_its_end = {"shape": "bridge shared", "who": "keeper", "when": "before", "index": len(plan) - 1, "inside": True}
    killed = {"job": "kill_at_step", "case": at_its_end}
    lost = {"job": "kill_in_recover", "case": {"at": 0}}
    halfway = [
        {"job": "kill_in_life", "case": {"life": "all", "who": "keeper", "at": count * part // 20}}
        for part in range(10, 15)
    ]
    ways = {f"{name}.undo": [lost] for name in RESIDUES if name != "MakeCgroup1" or probe().cgroup1}
    ways.pop("PlugCable.undo", None)  # of a container that lives on: test_changes.py
    ways |= {"PublishPorts.undo": [killed], "FillVolume.undo": halfway}
    ways |= {"ContainerStore.remove": [killed], "Lifecycle.sweep": [killed]}
    cases = [{"method": method, **way} for method, some in ways.items() for way in some]
    results = crew.run("with_broken", cases)
    seen = {
        str(case["method"]) for case, found in zip(cases, results, strict=True) if any("+ " in line for line in found)
    }
    assert set(ways) - seen == set(), results
    assert len(seen) >= 9


@pytest.mark.timeout(LONG)
@pytest.mark.parametrize("shape", REGISTRY)
def test_killed_at_every_step(crew: Crew, shape: str) -> None:
    (plan,) = crew.run("plan", [{"shape": shape}])
    names = [name for name, _ in plan]
    assert {"Clone", "Exec"} <= set(names)
    every = ALL or bool(ONLY) or bool(REGISTRY[shape].only) or shape in WHOLE
    cases = [case for case in cases_of(shape, plan, every=every) if not ONLY or names[int(str(case["index"]))] in ONLY]
    results = crew.run("kill_at_step", cases)
    tally.judge([{**case, "step": names[int(str(case["index"]))]} for case in cases], results, shape)
