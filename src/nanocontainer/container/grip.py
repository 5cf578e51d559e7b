"""A grip on the containers that a plan joins: whoever is joined is who was meant.

Steps name a container's first process by its number (/proc/PID/ns, pidfd_open(2)), and the kernel may use a number anew
at any moment, for a process of the host for one. So the process is opened and checked before the plan is executed
(signalling.py), and is kept open. When all that is to be joined has been opened, just before the new process comes to
be, it must still be there: then its number has meant nobody else in between.
"""

from __future__ import annotations

from ..errors import NotRunning
from ..lean import signals
from ..plan.step import Reporter, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..plan.plan import Plan


class Grip(Reporter):
    """Looks at processes that are held (pidfds) before Clone; passes all on to another reporter. NotRunning."""

    def __init__(self, held: Sequence[int], reporter: Reporter | None = None) -> None:
        self.held, self.reporter = held, reporter or Reporter()

    def planned(self, plan: Plan) -> None:
        self.reporter.planned(plan)

    def before(self, index: int, step: Step) -> bool | None:
        if type(step).__name__ == "Clone":
            for pidfd in self.held:
                try:
                    signals.pidfd_send_signal(pidfd, 0)
                except ProcessLookupError:
                    raise NotRunning("cannot join the container", "it has just ended") from None
        return self.reporter.before(index, step)

    def after(self, index: int, step: Step) -> None:
        self.reporter.after(index, step)

    def failed(self, index: int, step: Step, error: BaseException) -> None:
        self.reporter.failed(index, step, error)

    def done(self) -> None:
        self.reporter.done()
