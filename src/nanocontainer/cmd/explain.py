"""--explain: a plan shown instead of run, in one of several forms. Each form is a row here, and lives in its own file.

Nothing is imported before it is asked for: a plain `run` pays nothing for this.
"""

from __future__ import annotations

from ..errors import InvalidInput
from .output import out

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..plan.explanation import Explanation
    from .flags import Given

# form → (its module, which has show(explanation) -> str; what it is)
FORMS = {
    "short": ("explain_short", "the first look: one line a step"),
    "text": ("explain_text", "for people: steps, calls, what is undone"),
    "json": ("explain_json", "the same as data"),
    "markdown": ("explain_markdown", "the same as a document"),
    "html": ("explain_html", "the same as a page for a browser"),
}
OTHER = ("script", "live")  # made from the steps (export.py, run alone); run, and told as they happen (live.py)


def form_of(said: str) -> str:
    """The form that a value of --explain names; "" where nothing shall be explained. InvalidInput."""
    if said in ("", "false"):
        return ""
    form = "text" if said == "true" else said
    if form not in FORMS and form not in OTHER:
        known = ", ".join((*FORMS, *OTHER))
        raise InvalidInput(f"invalid --explain={said}", f"the forms are {known}", "--explain alone is text")
    return form


def wanted(given: Given, *, root: str = "") -> str:
    """The form that --explain of this verb asks for; "" for none. root: what cannot be looked at without it."""
    form = form_of(given["explain"])
    if form == "live":
        raise InvalidInput("--explain=live is for run, start and exec", "this verb has no steps to watch")
    if form == "script":
        raise InvalidInput("--explain=script is for run", "", "export --script makes a script of a container")
    if form and root:
        from .process import check_root

        check_root(root)
    return form


def show_each(form: str, refs: list[str], make: Callable[[str], Explanation]) -> int:
    """Print the explanation of each; the exit code."""
    return show_all(form, [make(ref) for ref in refs])


def show_all(form: str, explanations: list[Explanation]) -> int:
    """Print one explanation after the other; the exit code. InvalidInput where a page would have to be several."""
    if form == "html" and len(explanations) > 1:
        verbs = ", ".join(f"{one.command} --explain=html" for one in explanations)
        raise InvalidInput("cannot put several explanations on one page", "", f"ask for one at a time: {verbs}")
    for explanation in explanations:
        show(form, lambda: explanation)  # noqa: B023 (called at once)
    return 0


def show(form: str, make: Callable[[], Explanation]) -> int:
    """Print an explanation; the exit code."""
    name = f"{__package__}.{FORMS[form][0]}"
    __import__(name)
    import sys

    text: str = sys.modules[name].show(make())
    out(text if text.endswith("\n") else f"{text}\n")
    return 0
