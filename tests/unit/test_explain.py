"""--explain: every step is rehearsed, nothing of the host is touched, and what is shown can be read at any width."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nanocontainer.cmd import explain as forms
from nanocontainer.cmd import explain_calls, explain_html, explain_json, explain_markdown, explain_short, explain_text
from nanocontainer.cmd.paint import Paint, columns, plain
from nanocontainer.errors import InvalidInput
from nanocontainer.kernel import notation
from nanocontainer.plan.explanation import ExplainedStep, Explanation, ShownCall, clause, explain
from nanocontainer.plan.plan import Plan
from nanocontainer.plan.rehearsal import Rehearsal
from nanocontainer.plan.step import Step
from nanocontainer.runtime.process import Exec

from .pages import Seen
from .test_planner import PLANS, plan
from .test_steps import CONCRETE, example

SRC = Path(forms.__file__).parents[2]


def calls(step: Step, *, undo: bool = False) -> list[str]:
    stage = Rehearsal((), owner="/x")
    noted = stage.undo(step) if undo else stage.do(step)
    return [f"{call.name}({', '.join(call.texts(stage.machine.names))})" for call in noted]


@pytest.mark.parametrize("kind", CONCRETE, ids=lambda kind: kind.__name__)
def test_every_step_can_be_rehearsed_and_so_can_its_undo(kind: type[Step]) -> None:
    made = calls(example(kind))
    assert made, "a step that makes no call does nothing"
    assert all(re.fullmatch(r"[a-z_0-9]+\(.*\)", call, re.DOTALL) for call in made)
    if kind.residue != "init":
        assert calls(example(kind), undo=True)


@pytest.mark.parametrize("name", PLANS)
def test_every_plan_can_be_explained(name: str) -> None:
    made = PLANS[name]()
    explained = explain(made)
    assert [step.name for step in explained.steps] == [type(step).__name__ for step in made]
    assert [undo.number for undo in explained.undo] == sorted((undo.number for undo in explained.undo), reverse=True)
    shown = [call.text for step in explained.steps for call in step.calls if call.name != "nft"]
    # No number that stands for something is shown as a number, and no flag as one
    assert not [text for text in shown if re.search(r"\b5368\d{5}\b", text)]
    assert not [text for text in shown if re.search(r"\|0x|flags=0x", text)]
    for form in forms.FORMS:
        forms.show(form, lambda: explained)


def test_nothing_of_the_host_is_touched() -> None:
    """An audit hook (PEP 578) sees each file, directory, socket and process that Python opens, makes or starts."""
    program = f"""
import sys
sys.path[:0] = [{str(SRC)!r}, {str(SRC.parent)!r}, *{[path for path in sys.path if "site-packages" in path]!r}]
from tests.unit.test_planner import PLANS, plan
from nanocontainer.plan.explanation import explain
from nanocontainer.network.bridge import EnsureBridge
made = plan(network="bridge", tty=True, user="me:staff", init=True)
explain(made)  # what is imported is
seen = []
sys.addaudithook(lambda event, args: seen.append((event, str(args[:2]))))
explain(made)
words = ("open", "os.", "socket.", "subprocess.", "ctypes.dlopen", "fcntl.", "shutil.", "tempfile.", "pty.", "signal.")
bad = [one for one in seen if one[0].startswith(words) and {str(SRC / "nanocontainer")!r} not in one[1]]
assert not bad, bad
assert len(seen) > 10
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_notation() -> None:
    explained = explain(plan(network="none"))
    shown = {call.text for step in explained.steps for call in step.calls}
    assert 'fsopen("overlay", FSOPEN_CLOEXEC) = $fs' in shown
    assert "fsmount($fs, FSMOUNT_CLOEXEC, 0) = $rootfs" in shown
    assert 'mount(NULL, "/", NULL, MS_REC|MS_PRIVATE, NULL)' in shown
    assert 'openat2($rootfs, "proc", {flags=O_DIRECTORY|O_CLOEXEC|O_PATH, resolve=' in str(shown)
    assert "setns($netns, CLONE_NEWNET)" in shown
    assert 'mknodat($dev, "null", S_IFCHR|0666, makedev(1, 3))' in shown
    assert "prctl(PR_CAPBSET_DROP, CAP_SYS_ADMIN)" in shown
    assert "setresuid($uid, $uid, $uid)" in shown
    assert "seccomp(SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, {len=..., filter=$filter})" in shown
    clone = next(call for step in explained.steps for call in step.calls if call.name == "clone3")
    assert "CLONE_NEWPID" in clone.text and "cgroup=$cgroup" in clone.text and clone.text.endswith(" = $pid")


def test_on_an_idle_host_nothing_is_there_that_nobody_has_made() -> None:
    makes = calls(next(step for step in plan(network="none") if type(step).__name__ == "MakeCgroup"))
    parent, own = (call for call in makes if call.startswith("mkdir("))
    assert makes[0].startswith("fstatat(")
    assert own.split('"')[1].rpartition("/")[0] == parent.split('"')[1]


def test_values_in_notation() -> None:
    names = notation.Names()
    one = names.new("one")
    values = (None, 5, 'a"\n\\\x1b', b"b\0", one, int(one) + 1, int(one) - 1)
    shown = [notation.value(value, names) for value in values]
    assert shown == ["NULL", "5", '"a\\"\\n\\\\\\33"', '"b"', "$one", "$one+1", "$one-1"]
    assert notation.quoted("x" * 500) == f'"{"x" * 240}"...'
    assert notation.flags("MS_")(4096 | 16384 | 1 << 40, names) == "MS_BIND|MS_REC|0x10000000000"


def test_repetitions_are_said_once_and_housekeeping_is_not() -> None:
    made = [ShownCall("openat2", ("$a", '"x"'), "$p"), ShownCall("move_mount", ("$p",)), ShownCall("close", ("$p",))]
    first, *others = made
    again = [*made, *(call for n in "yz" for call in (first.replace(args=("$a", f'"{n}"')), *others))]
    shown = explain_calls.lines(again)
    assert shown == ['openat2($a, "x") = $p', "move_mount($p)", '… and the same for "y", "z"']
    assert explain_calls.left_out(again) == ["close"]
    different = [ShownCall("fsconfig", (key, value)) for key, value in ("ab", "cd", "ef", "gh", "ij")]
    assert len(explain_calls.lines(different)) == 5
    assert explain_calls.lines([ShownCall("close", ("$p",))]) == ["close($p)"]  # a step is never shown to do nothing


@pytest.mark.parametrize("wide", [20, 30, 40, 59, 60, 80, 100, 120, 149, 150, 200, 240])
def test_text_fits(wide: int) -> None:
    explained = explain(plan(network="bridge", tty=True))
    text = explain_text.render(explained, wide, Paint(False))
    assert "\x1b" not in text
    long = [line for line in text.splitlines() if columns(line) > wide and len(line.split()) > 2]
    assert not long
    for step in explained.steps:
        assert step.name in text
    coloured = explain_text.render(explained, wide, Paint(True))
    assert "\x1b[" in coloured
    assert plain(coloured) == text


@pytest.mark.parametrize("wide", [20, 40, 71, 72, 80, 100, 120, 240])
def test_the_short_form_is_a_line_a_step(wide: int) -> None:
    explained = explain(plan(network="bridge", tty=True))
    text = explain_short.render(explained, wide, Paint(False))
    lines = text.splitlines()
    assert not [line for line in lines if columns(line) > wide and len(line.split()) > 3]
    heads = [line for line in lines if re.match(r" *\d+ [● ] ", line)]
    assert [re.findall(r"\w+", line)[1] for line in heads] == [step.name for step in explained.steps]
    marked = [int(re.findall(r"\d+", line)[0]) for line in heads if "●" in line]
    assert marked == [undo.number for undo in reversed(explained.undo)]
    if wide >= 72:
        assert len(lines) <= len(explained.steps) + 12
        indents = {step.side: line.index(step.name) for step, line in zip(explained.steps, heads, strict=True)}
        assert indents["host"] < indents["inside"]
    assert "--explain" in " ".join(lines[-4:])
    assert plain(explain_short.render(explained, wide, Paint(True))) == text


def test_the_short_form_shows_who_waits() -> None:
    host, inside, clone = (
        next(kind for kind in CONCRETE if kind.__name__ == name) for name in ("MakeCgroup", "NewSession", "Clone")
    )
    made = Plan((example(host), example(clone), inside(), example(host), inside()))
    lines = explain_short.render(explain(made), 100, Paint(False)).splitlines()
    assert [line.strip() for line in lines if "──" in line] == [
        "── on the host ──",
        "── inside the new process ──",
        "── on the host, which waits for what is inside ──",
        "── inside the new process, which waits for the host ──",
    ]


@pytest.mark.parametrize("kind", CONCRETE, ids=lambda kind: kind.__name__)
def test_the_first_clause_of_a_sentence_stands_for_itself(kind: type[Step]) -> None:
    said = clause(example(kind).explain())
    assert len(said.split()) >= 2
    assert not said.endswith(("(", ",", " to", " the", " of", " for"))
    assert said.count("(") == said.count(")")
    assert not re.search(r"\w\(\d\)", said), "manual pages come after it"


def test_on_a_wide_terminal_the_two_sides_stand_side_by_side() -> None:
    lines = explain_text.render(explain(plan()), 160, Paint(False)).splitlines()
    host = next(line for line in lines if " MountOverlay" in line)
    inside = next(line for line in lines if " PivotRoot" in line)
    assert host.index("MountOverlay") < host.index("│") and inside.index("│") < inside.index("PivotRoot")


def test_every_form_shows_acts_that_are_no_steps() -> None:
    acts = Explanation("stop", "One act.", (ExplainedStep(1, "SendSignal", "host", "", "Do.", (), (), (), ()),))
    for form in (explain_short, explain_text, explain_markdown, explain_html, explain_json):
        assert "SendSignal" in form.show(acts)


def hostile() -> Explanation:
    return explain(Plan((Exec(("<script>alert(1)</script>\x1b[31m```\n# x", "`*_|"), ()),)))


def test_hostile_text_stays_text() -> None:
    for form in (explain_short, explain_text, explain_markdown, explain_html, explain_json):
        assert "\x1b" not in form.show(hostile())
    page = explain_html.show(hostile())
    assert "<script" not in page
    assert Seen(page).tags.count("main") == 1
    assert "\n# x" not in explain_markdown.show(hostile())


def test_json_has_the_keys_that_are_promised() -> None:
    data: dict[str, Any] = json.loads(explain_json.show(explain(plan(network="bridge"))))
    assert list(data) == ["version", "command", "about", "steps", "undo", "given", "notes"]
    assert list(data["steps"][0]) == [
        "number", "name", "side", "residue", "sentence", "manual", "calls", "reads", "writes", "sync",
    ]  # fmt: skip
    assert list(data["steps"][0]["calls"][0]) == ["name", "args", "result", "manual"]
    assert list(data["undo"][0]) == ["number", "name", "sentence", "calls"]


def test_sync_points_are_named() -> None:
    host, inside = (next(kind for kind in CONCRETE if kind.__name__ == name) for name in ("MakeCgroup", "NewSession"))
    clone = next(kind for kind in CONCRETE if kind.__name__ == "Clone")
    steps = (example(host), example(clone), inside(), example(host), inside())
    assert [step.sync for step in explain(Plan(steps)).steps] == [
        "", "", "", "host waits for inside", "inside waits for host",
    ]  # fmt: skip


def test_forms() -> None:
    assert [forms.form_of(said) for said in ("", "false", "true", "text", "html", "script")] == [
        "", "", "text", "text", "html", "script",
    ]  # fmt: skip
    with pytest.raises(InvalidInput, match="the forms are short, text, json, markdown, html"):
        forms.form_of("pdf")


def test_a_user_that_can_never_be_is_an_error_in_words() -> None:
    made = plan(user="4294967295", network="none")
    with pytest.raises(InvalidInput, match="invalid uid"):
        explain(made)


def test_the_real_modules_are_not_touched() -> None:
    before = {name: id(module) for name, module in sys.modules.items() if name.startswith("nanocontainer")}
    kinds = dict(Step.kinds)
    explain(plan())
    assert Step.kinds == kinds
    assert {name: id(sys.modules[name]) for name in before} == before
    import nanocontainer.kernel.calls as real

    assert real.os is os
