"""What workers can do, by name: job(bench, **case), all JSON."""

from __future__ import annotations

from typing import Any

from nanocontainer.container.lifecycle import Lifecycle
from nanocontainer.container.store import ContainerStore
from nanocontainer.plan.step import Step

from . import calls, changes, images, meanwhile
from .bench import Bench, kill_at_step
from .crew import Job
from .shapes import REGISTRY


def plan(bench: Bench, shape: str) -> list[list[str]]:
    return bench.plan(REGISTRY[shape])


def with_broken(bench: Bench, method: str, job: str, case: dict[str, Any]) -> list[str]:
    """A case of a job with a method that does nothing."""
    owner, _, name = method.partition(".")
    kind: type = {**Step.kinds, "Lifecycle": Lifecycle, "ContainerStore": ContainerStore}[owner]
    whole = getattr(kind, name)
    setattr(kind, name, lambda *_, **__: None)
    try:
        found: list[str] = JOBS[job](bench, **case)
        return found
    finally:
        setattr(kind, name, whole)
        bench.clean_up()


JOBS: dict[str, Job] = {
    "plan": plan, "with_broken": with_broken, "kill_at_step": kill_at_step, **calls.JOBS, **meanwhile.JOBS,
    **changes.JOBS, **images.JOBS,
}  # fmt: skip
