"""Run a plan: one half on the host, one half inside the new process.

    host:    before → (journal) → do → after, for each host step; at Clone the child leaves this loop
    inside:  before → do → after, for each inside step; the last one becomes the user's command

Where the next step is on the other side, this side says "go" or waits for it (wire.py). Nothing else is shared: the
plan itself was inherited by the clone.
"""

from __future__ import annotations

import os
import sys

from ..errors import NanoError, StepFailed, reason
from .step import Reporter, Step, World
from .wire import Wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from .journal import Journal
    from .plan import Plan

class Execution:
    """A plan being executed. After run(), init lives and `world` has the slots pid and pidfd."""

    def __init__(self, plan: Plan, world: World, journal: Journal | None = None, reporter: Reporter | None = None):
        self.plan, self.world, self.journal = plan, world, journal
        self.reporter = reporter or Reporter()
        self.wire: Wire | None = None
        self.far: Wire | None = None
        if plan.find("Clone") >= 0:
            self.wire, self.far = Wire.pair()
            world["wire"] = self.far.fileno()

    def run(self) -> None:
        """Execute. Returns when the last step has succeeded; StepFailed or another NanoError when one has not.

        What a failed plan left behind is in the journal: the caller recovers.
        """
        steps, wire = self.plan.steps, self.wire
        self.reporter.planned(self.plan)
        inside = False  # whether the turn is the other side's
        for index, step in enumerate(steps):
            if step.side == "inside":
                if not inside and wire and type(steps[index - 1]).__name__ != "Clone":
                    wire.go()
                inside = True
                continue
            if inside:
                self._await_inside(expect_go=True)
                inside = False
            self._one(index, step)
            if type(step).__name__ == "Clone":
                if self.world["pid"] == 0:
                    self._inside(index + 1)
                assert self.far
                self.far.close()
        if inside:
            self._await_inside(expect_go=False)
        if wire:
            wire.close()
        self.reporter.done()

    def _one(self, index: int, step: Step) -> None:
        try:
            if self.reporter.before(index, step):
                return
            if step.residue != "init" and self.journal:
                self.journal.note(step)
            step.do(self.world)
        except (OSError, NanoError) as error:
            self.reporter.failed(index, step, error)
            if self.world.slots.get("pid"):  # the other half waits for us, and ends with the wire
                self.close()
                self.world.kernel.waitpid(self.world["pid"])
            raise failure_of(step, error) from error
        self.reporter.after(index, step)

    def _await_inside(self, *, expect_go: bool) -> None:
        assert self.wire
        word = self.wire.wait()
        if word is expect_go:
            return
        self.world.kernel.waitpid(self.world["pid"])  # it is our child, and has ended or is about to
        if isinstance(word, dict):
            raise NanoError.from_dict(word)
        if isinstance(word, bytes):
            raise self.plan.steps[-1].refused(self.world, word)
        raise StepFailed("the container's first process is gone", "it was killed before it ran its command")

    def _inside(self, first: int) -> NoReturn:
        """The child: never returns into its parent's frames, whatever happens."""
        index = first
        assert self.wire and self.far
        try:
            self.wire.close()
            sys.meta_path.clear()  # a late import would load code from the container's files: it must fail loudly
            wire, steps = self.far, self.plan.steps
            if steps[first].side == "host" and wire.wait() is not True:
                os._exit(125)
            while True:
                while steps[index].side == "host":
                    index += 1
                step = steps[index]
                if not self.reporter.before(index, step):
                    step.do(self.world)
                    self.reporter.after(index, step)
                if steps[index + 1].side == "host":
                    wire.go()
                    if wire.wait() is not True:
                        os._exit(125)
                index += 1
        except BaseException as error:
            try:
                step = self.plan.steps[index]
                self.reporter.failed(index, step, error)
                self.far.say(failure_of(step, error).as_dict())
            finally:
                os._exit(125)
        os._exit(125)

    def close(self) -> None:
        """Drop the wire's ends that are still open, after a failure."""
        for end in (self.wire, self.far):
            if end:
                end.close()


def failure_of(step: Step, error: BaseException) -> NanoError:
    """An error as people shall read it: a NanoError is one already, an OSError gets the step's name and a hint."""
    if isinstance(error, NanoError):
        return error
    name = type(step).__name__
    if isinstance(error, OSError):
        return StepFailed(f"step {name} failed", *reason(error))
    return StepFailed(f"step {name} failed", f"{type(error).__name__}: {error}", "this is a bug: please report it")
