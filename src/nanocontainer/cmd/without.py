"""--without: says what the missing steps open, before the container starts."""

from __future__ import annotations

from ..plan.omission import chosen, dangers, opening
from .output import STDERR, err, width
from .paint import Paint, wrap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..container.spec import Spec
    from ..plan.plan import Plan
    from .main import App


def announce(app: App, spec: Spec) -> Spec:
    """Check what is left out, and say to stderr what it opens. The specification, with the names as the steps have
    them. InvalidInput as omission.leave_out says."""
    app.engine.explain(spec)
    whole = app.engine.explain(spec.replace(without=()))
    err("".join(f"{line}\n" for line in lessons(whole, spec.without, Paint.of(STDERR), width(STDERR))))
    return spec.replace(without=tuple(dict.fromkeys(chosen(whole, spec.without).values())))


def lessons(plan: Plan, names: tuple[str, ...], paint: Paint, columns: int) -> list[str]:
    """What each of these steps was for, what goes with it, and what of all that endangers the host, as lines."""
    left = chosen(plan, names)
    kinds = {type(plan.steps[index]).__name__: cause for index, cause in left.items()}
    lines = []
    for name in dict.fromkeys(kinds.values()):
        more = [kind for kind, cause in kinds.items() if cause == name != kind]
        goes = f" With it {'goes' if len(more) == 1 else 'go'} what needs it: {', '.join(more)}." if more else ""
        first, *rest = wrap(f"Without {name}: {opening(plan.steps[plan.find(name)]).opens}{goes}", columns, hang="  ")
        lines += [first.replace(name, paint(name, "yellow", "bold"), 1), *rest]
    for name, why in dangers(plan, set(left)).items():
        first, *rest = wrap(f"Danger ({name}): {why}.", columns, hang="  ")
        lines += [paint(first, "red", "bold"), *(paint(line, "red") for line in rest)]
    return lines
