"""--without: says what the missing steps open, before the container starts."""

from __future__ import annotations

from ..plan.omission import dangers, opening
from .output import STDERR, err, width
from .paint import Paint, wrap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..container.spec import Spec
    from ..plan.plan import Plan
    from .main import App


def announce(app: App, spec: Spec) -> None:
    """Check what is left out, and say to stderr what it opens. InvalidInput as omission.leave_out says."""
    app.engine.explain(spec)
    whole = app.engine.explain(spec.replace(without=()))
    err("".join(f"{line}\n" for line in lessons(whole, spec.without, Paint.of(STDERR), width(STDERR))))


def lessons(plan: Plan, names: tuple[str, ...], paint: Paint, columns: int) -> list[str]:
    """What each of these steps was for, as lines."""
    left = {index for index, step in enumerate(plan) if type(step).__name__ in names}
    risky = dangers(plan, left)
    lines = []
    for name in names:
        first, *rest = wrap(f"Without {name}: {opening(plan.steps[plan.find(name)]).opens}", columns, hang="  ")
        lines += [first.replace(name, paint(name, "yellow", "bold"), 1), *rest]
    for name, why in risky.items():
        first, *rest = wrap(f"Danger ({name}): {why}.", columns, hang="  ")
        lines += [paint(first, "red", "bold"), *(paint(line, "red") for line in rest)]
    return lines
