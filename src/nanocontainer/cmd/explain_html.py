"""--explain=html: an explanation as a page that is whole in one file.

First all steps at a glance, each a link to what is told of it. There, on a desktop, the host's steps stand on the left
and the inside ones on the right, time runs down; on a phone they follow each other, told apart by colour and by a mark.
"""

from __future__ import annotations

import re

from . import explain_calls
from .page import Html, chip, contents, escape, join, page, section, tag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..plan.explanation import ExplainedStep, ExplainedUndo, Explanation, ShownCall

_STYLE = """
.glance ol{list-style:none;margin:0;padding:0}.glance h2{font-size:1.02em}
.glance li{display:flex;gap:9px;padding:1px 0;font-size:.9em;min-width:0}
.glance li .n{color:var(--soft);font-variant-numeric:tabular-nums;min-width:1.5em;text-align:right;flex:none}
.glance li a{text-decoration:none;font-weight:600;flex:none}.glance li a:hover{text-decoration:underline}
.glance .host a,.glance .host h2{color:var(--host)}.glance .inside a,.glance .inside h2{color:var(--inside)}
.glance li .what{color:var(--soft);white-space:nowrap;overflow:hidden;text-overflow:ellipsis;min-width:0}
.glance .left{color:var(--warn);flex:none;font-size:.8em}
.glance .grid{align-items:start;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr))}
.steps{display:grid;grid-template-columns:1fr 2fr 1fr;gap:10px 0;margin:0 0 24px;position:relative}
.steps>.card{margin:0;padding:12px 16px;min-width:0}
.steps>.host{grid-column:1/3}.steps>.inside{grid-column:2/4}
.steps>.head{padding:8px 2px;font-weight:600;grid-row:1}.steps>.head.inside{text-align:right}
.steps>.head.host{color:var(--host)}.steps>.head.inside{color:var(--inside)}
.steps>.sync{grid-column:1/4;text-align:center;color:var(--soft);font-size:.88em}
.step h3{margin:0 0 .2em;display:flex;flex-wrap:wrap;gap:4px 10px;align-items:baseline}
.step h3 .n{color:var(--soft);font-weight:400;font-variant-numeric:tabular-nums}
.step p{margin:.2em 0 .4em}
.calls{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;font-size:.78em;
line-height:1.45;background:var(--code);border-radius:8px;padding:.55em .8em;overflow-wrap:anywhere}
.calls div{padding-left:2em;text-indent:-2em}.calls .quiet{color:var(--soft)}
.calls pre{margin:0;padding:0 0 0 1em;background:none;font-size:1em;white-space:pre-wrap;overflow-wrap:anywhere}
.manual{display:flex;flex-wrap:wrap;gap:3px 5px;margin-top:6px}
.manual .chip{font-size:.74em}
.side{display:none}
.step:target{outline:2px solid var(--link);outline-offset:2px}
@media(max-width:820px){.steps{grid-template-columns:1fr}.steps>*,.steps>.sync{grid-column:1!important}
.steps>.head{display:none}.side{display:inline-block}}
"""
_LEFT = {"kernel": "leaves an object in the kernel", "disk": "leaves a file"}
_SIDES = {"host": "On the host", "inside": "Inside the new process"}
_PAGES = re.compile(r" \((?:[\w.+-]+\(\d(?:const)?\)(?:, )?)+\)(?=\.$)")  # at a sentence's end; they are chips here
_FEW = 12  # calls that are shown at once; more are behind a click


def show(explanation: Explanation) -> str:
    """The whole page."""
    heads = (tag("div", "On the host", cls="head host"), tag("div", "Inside", cls="head inside"))
    steps = tag("div", *heads, *(part for step in explanation.steps for part in _step(step)), cls="steps")
    undo = [("undo", "What is undone")] if explanation.undo else []
    body = [contents([("glance", "At a glance"), ("steps", "Steps"), *undo, ("notes", "Notes")]), _glance(explanation)]
    body.append(tag("div", steps, id="steps"))
    if explanation.undo:
        body.append(section("What is undone, newest first", *map(_undo, explanation.undo), id="undo"))
    notes = [*explanation.notes, "Calls in grey only open, close, or ask."]
    body.append(section("Notes", tag("ul", *(tag("li", note) for note in notes)), id="notes"))
    title = f"nanocontainer {explanation.command}, step by step"
    return page(title, join(body), lead=explanation.about, style=_STYLE)


def _glance(explanation: Explanation) -> Html:
    """All steps at a glance."""
    from ..plan.explanation import clause
    from .explain_short import MARK, shortened

    lists = []
    for side, title in _SIDES.items():
        lines = [
            tag("li", tag("span", str(step.number), cls="n"), tag("a", step.name, href=f"#step-{step.number}"),
                tag("span", MARK, cls="left", title=_LEFT[step.residue]) if step.residue in _LEFT else "",
                tag("span", shortened(clause(step.sentence)), cls="what"), title=step.sentence)
            for step in explanation.steps if step.side == side
        ]  # fmt: skip
        if lines:
            lists.append(tag("div", tag("h2", title), tag("ol", *lines), cls=f"card {side}"))
    return tag("div", tag("div", *lists, cls="grid"), cls="glance", id="glance") if lists else Html("")


def _step(step: ExplainedStep) -> list[Html]:
    head = tag(
        "h3",
        tag("span", str(step.number), cls="n"),
        tag("span", step.name),
        tag("span", chip(step.side, step.side), cls="side"),
        chip(_LEFT[step.residue], "warn") if step.residue in _LEFT else "",
    )
    manual = tag("div", *(chip(name) for name in step.manual), cls="manual") if step.manual else ""
    sentence = _PAGES.sub("", step.sentence)
    look = f"card step {step.side}"
    card = tag("article", head, tag("p", sentence), _calls(step.calls), manual, cls=look, id=f"step-{step.number}")
    return [tag("div", f"— {step.sync} —", cls="sync"), card] if step.sync else [card]


def _undo(undo: ExplainedUndo) -> Html:
    head = tag("h3", tag("span", str(undo.number or ""), cls="n"), tag("span", undo.name))
    return tag("div", head, tag("p", undo.sentence), _calls(undo.calls), cls="step")


def _calls(calls: tuple[ShownCall, ...]) -> Html:
    lines = [_call(call) for call in calls]
    shown = tag("div", *lines, cls="calls") if lines else Html("")
    if len(lines) <= _FEW:
        return shown
    return tag("details", tag("summary", f"{len(lines)} system calls"), shown)


def _call(call: ShownCall) -> Html:
    if call.name == "nft":
        return tag("div", tag("b", "nft -f -"), tag("pre", call.args[0]))
    result = tag("span", f"\u00a0= {call.result}".replace(" ", "\u00a0")) if call.result else ""
    text = join((tag("b", call.name), escape(f"({', '.join(call.args)})"), result))
    return tag("div", text, cls="quiet" if call.name in explain_calls.QUIET else "")
