"""The form of what doctor finds; who finds it is in diagnosis.py and traces.py."""

from __future__ import annotations

from ..record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Leftover(Record):
    """One thing that is not as it should be.

    kind: its stable name. subject: a container's name, a path, an interface. detail: what is wrong. action: what
    --repair does about it, empty where nothing can be done safely; hint: what a person can do then.
    outcome: found, or after a repair: repaired, or left; why: the reason why it is left.
    """

    kind: str
    subject: str
    detail: str
    action: str = ""
    hint: str = ""
    outcome: str = "found"
    why: str = ""


class Found:
    """A leftover and its cure: a function that may be called for what is not there any more."""

    def __init__(self, leftover: Leftover, cure: Callable[[], object] | None = None) -> None:
        self.leftover, self.cure = leftover, cure

    @property
    def key(self) -> tuple[str, str]:
        return self.leftover.kind, self.leftover.subject
