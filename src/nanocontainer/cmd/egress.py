"""egress: what a container may reach, changed while it runs; what it was refused, and the rule that would allow it."""

from __future__ import annotations

import time

from ..errors import InvalidInput
from .flags import Command
from .output import STDOUT, out, width
from .paint import Paint
from .sheet import Sheet
from .units import duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..container.egress import Egress, Refused
    from .flags import Given
    from .main import App

_RULES = (
    "A RULE is a host name (api.example.com), all names below one (*.example.com), an address or a subnet (10.0.0.0/8, "
    "2001:db8::/32), with :PORT or :PORT/udp behind it where not all ports are meant ([2001:db8::1]:443), or none for "
    "nothing at all."
)


def ls(app: App, given: Given) -> int:
    """`egress ls CONTAINER`."""
    found = app.engine.egress(given.args[0])
    if given["json"]:
        import json

        out(json.dumps(found.as_dict(), indent=2) + "\n")
    else:
        out(text(found, Paint.of(STDOUT), width()))
    return 0


def add(app: App, given: Given) -> int:
    """`egress add CONTAINER RULE...`."""
    if given["explain"]:
        from .explain import show, wanted

        if form := wanted(given, root="cannot look at containers"):
            return show(form, lambda: app.engine.explain_egress(given.args[0], given.args[1:]))
    app.engine.allow_out(given.args[0], given.args[1:])
    return 0


def rm(app: App, given: Given) -> int:
    """`egress rm CONTAINER RULE...`, or --all."""
    ref, rules = given.args[0], given.args[1:]
    if given["all"] and rules:
        raise InvalidInput("--all takes all rules away", "and no others can be named")
    if not (given["all"] or rules):
        raise InvalidInput("no rule is given", "", f"name some, or lift the limit altogether: egress rm --all {ref}")
    if given["explain"]:
        from .explain import show, wanted

        if form := wanted(given, root="cannot look at containers"):
            return show(form, lambda: app.engine.explain_egress(ref, rules, less=True))
    if given["all"]:
        app.engine.lift_out(ref)
    else:
        app.engine.forbid_out(ref, rules)
    return 0


def text(found: Egress, paint: Paint, width: int) -> str:
    """For people."""
    sheet = Sheet(paint, width)
    sheet.title("egress", found.name)
    if not found.rules:
        sheet.say("It may reach everything. To limit it:")
        sheet.table([(f"nanocontainer egress add {found.name} RULE", "such as api.example.com:443 or 10.0.0.0/8")],
                    ("green", "dim"))  # fmt: skip
        return sheet.text()
    if found.rules == ("none",):
        sheet.say("It may reach nothing but its neighbours on the network.")
    else:
        sheet.say("It may reach this, its neighbours on the network, and nothing else:")
        sheet.table([(rule, _addresses(found, rule)) for rule in found.rules], ("bold", "dim"))
    refusals(sheet, found)
    return sheet.text()


def _addresses(found: Egress, rule: str) -> str:
    """What the resolver has opened for a rule of a name."""
    from ..network import egress

    it = egress.rule(rule)
    ours = [one for one in found.opened if it.name and it.fits(one.name) and one.port == it.port]
    shown = [f"{one.address}{f' for {one.seconds} s' if one.seconds else ' (old connections)'}" for one in ours]
    more = f", and {len(shown) - 4} more" if len(shown) > 4 else ""
    return f"{', '.join(shown[:4])}{more}"


def refusals(sheet: Sheet, found: Egress, most: int = 20) -> None:
    """What was refused, as a section of a page; for `why` too."""
    sheet.title("refused", "what it has tried to reach" if found.refused else "")
    if not found.refused:
        sheet.say("Nothing yet.")
        return
    rows = [(one.what, f"{one.count}x, {_ago(one)}", f"--allow-out {one.allow}") for one in found.refused[:most]]
    sheet.table(rows, ("bold", "dim", "green"))
    for one in found.refused[:most]:
        if "leads to" in one.why:
            sheet.say(f"{one.what}: {one.why}", "dim")
    if len(found.refused) > most:
        sheet.say(f"and {len(found.refused) - most} more: egress ls --json {found.name}", "dim")


def _ago(one: Refused) -> str:
    seconds = max(int(time.time() - one.last / 1e9), 0)
    return f"{seconds} s ago" if seconds < 60 else f"{duration(seconds).lower()} ago"


_EXPLAIN = ("explain", "", "optional", "text", "Only show what it would do (short, text, json, markdown, html)")

LS = Command(
    "ls",
    "[OPTIONS] CONTAINER",
    "Show what a container may reach, which addresses its names have opened, and what it has tried to reach and was "
    "refused: by name (not resolved) or by address and port (answered with a reset or an ICMP error), how often, when "
    "last, and the rule that would allow it.",
    (("json", "", "bool", False, "Print one JSON object"),),
    ls,
    least=1,
    most=1,
    examples=(
        ("What may it reach, and what was it refused?", "nanocontainer egress ls web"),
        ("The rules that would have allowed it all", "nanocontainer egress ls --json web | jq -r '.refused[].allow'"),
    ),
)
ADD = Command(
    "add",
    "[OPTIONS] CONTAINER RULE...",
    f"Let a container reach more; where it runs that counts at once, and it stays so when it is started anew. {_RULES} "
    "The first rules of a container without any limit it to them.",
    (_EXPLAIN,),
    add,
    least=2,
    examples=(
        ("One more server", "nanocontainer egress add web api.example.com:443"),
        ("Cut a container off that may reach everything", "nanocontainer egress add web none"),
    ),
)
RM = Command(
    "rm",
    "[OPTIONS] CONTAINER [RULE...]",
    "Take rules away: what only they allowed cannot be reached any more, and connections to it end with their next "
    f"packet. When the last one goes, nothing may be reached. {_RULES}",
    (("all", "", "bool", False, "Take the limit itself away: everything may be reached"), _EXPLAIN),
    rm,
    least=1,
    examples=(
        ("That server no more", "nanocontainer egress rm web api.example.com:443"),
        ("No limit any more", "nanocontainer egress rm --all web"),
    ),
)
