"""A plan: a list of steps that has been checked.

What is checked, and why
 1. A slot has one writer, which stands before its readers: a step can rely on what it reads.
 2. Exactly one Clone, if there are inside steps; they stand after it.
 3. The last step is inside: it becomes the user's command, so nothing can follow it.
 4. Each step with a residue has an undo, and no other has.
 5. Security steps stand in an order in which none of them undoes another or is in another's way (see ORDER).
 6. Whatever runs can be found and killed: where there is a MakeCgroup it stands before the Clone.
"""

from __future__ import annotations

from ..errors import NanoError
from ..record import Record
from .step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import ClassVar

# Changing ids needs capabilities, and dropping to the final capabilities comes after it. Without no_new_privs a filter
# may be loaded only by CAP_SYS_ADMIN (seccomp(2)): then the filter comes before the ids ("early"), and allows what
# follows it; with no_new_privs it is the last thing before Exec ("late").
LATE = ("BoundCapabilities", "SetIds", "SetCapabilities", "NoNewPrivs", "LoadSeccomp", "Exec")
EARLY = ("LoadSeccomp", "BoundCapabilities", "SetIds", "SetCapabilities", "Exec")


class BadPlan(NanoError):
    """A plan that breaks a rule: a bug of the planner, found before anything ran."""


class Plan(Record):
    """The steps of one start, exec or build step, in the order in which they happen.

    given: slots that are filled before the first step (the caller's open files).
    """

    steps: tuple[Step, ...]
    given: tuple[str, ...] = ()

    clone: ClassVar[tuple[str, ...]] = ("Clone",)

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)

    def find(self, kind: str) -> int:
        """The index of the first step of this class name, or -1."""
        for index, step in enumerate(self.steps):
            if type(step).__name__ == kind:
                return index
        return -1

    def validate(self) -> Plan:
        """This plan, or BadPlan with the rule that is broken."""
        filled = set(self.given)
        names = [type(step).__name__ for step in self.steps]
        for index, step in enumerate(self.steps):
            where = f"step {index + 1}, {names[index]}"
            for slot in step.reads():
                if slot not in filled:
                    raise BadPlan("bad plan", f"{where}, reads slot {slot!r}, which no step before it fills")
            for slot in step.writes():
                if slot in filled:
                    raise BadPlan("bad plan", f"{where}, fills slot {slot!r} a second time")
                filled.add(slot)
            if (step.residue != "init") is not (type(step).undo is not Step.undo):
                raise BadPlan("bad plan", f"{where}, has residue {step.residue!r} and its undo does not fit that")
            if step.residue != "init" and step.side != "host":
                raise BadPlan("bad plan", f"{where}, leaves something behind from inside a namespace")
        clones = [index for index, name in enumerate(names) if name == "Clone"]
        first = next((index for index, step in enumerate(self.steps) if step.side == "inside"), len(self.steps))
        if first < len(self.steps):
            if len(clones) != 1 or clones[0] > first:
                raise BadPlan("bad plan", "inside steps need exactly one Clone, before them")
            if self.steps[-1].side != "inside":
                raise BadPlan("bad plan", f"{names[-1]} stands after the command has been executed")
        if "MakeCgroup" in names and clones and names.index("MakeCgroup") > clones[0]:
            raise BadPlan("bad plan", "the cgroup must be there before the clone, or a lost init cannot be found")
        secured = tuple(name for name in names if name in LATE)
        if secured not in (_only(LATE, secured), _only(EARLY, secured)):
            raise BadPlan("bad plan", f"security steps in the wrong order: {', '.join(secured)}")
        return self


def _only(order: tuple[str, ...], present: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in order if name in present)
