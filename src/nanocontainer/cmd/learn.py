"""learn: lessons in the terminal, from chroot to registry (cmd/lessons/ has them)."""

from __future__ import annotations

import os

from ..errors import InvalidInput, NanoError
from ..lean import dumps, loads
from .flags import Command, Given
from .output import STDIN, STDOUT, err, out, width
from .paint import Paint, columns, cut, pad, wrap
from .process import check_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .lessons.lesson import Lesson
    from .lessons.playhost import Home
    from .main import App

NEXT, ALL = "next", "all"
_FILE = "progress.json"


def learn(app: App, given: Given) -> int:
    """`learn`: without a lesson the list of them. Exit codes: 0 the lesson went as it should, or was left at a prompt;
    1 it did not, or something failed; 130 ctrl-c while it was played."""
    from .lessons import texts

    language = texts.language(given["lang"], os.environ)
    name = given.args[0] if given.args else ""
    if not name and not given["run"] and not given["reset"]:
        out("".join(f"{line}\n" for line in _list(app, language)))
        return 0
    if given["reset"] and (name or given["run"]):
        raise InvalidInput("--reset goes alone", "it forgets which lessons were done")
    check_root("cannot start a lesson" if not given["reset"] else "cannot forget the lessons")
    from .lessons.playhost import Home

    home = Home(app.engine.paths)
    if given["reset"]:
        _forget(home)
        return 0
    if not given["run"] and not (os.isatty(STDIN) and os.isatty(STDOUT)):
        raise InvalidInput(
            "a lesson needs a terminal", "stdin or stdout is none", "to see it played through: learn LESSON --run"
        )
    if name == ALL and not given["run"]:
        raise InvalidInput("`all` can only be played", "", "learn all --run; or one after the other: learn next")
    return _go(app, home, _named(name or ALL, home), language, by_hand=not given["run"])


def _go(app: App, home: Home, names: list[str], language: str, *, by_hand: bool) -> int:
    from .lessons import texts
    from .lessons.course import Course
    from .lessons.playhost import play

    facts, words, worst = app.engine.life.facts(), texts.words(language), 0
    if "registry" in names:
        from ..image.library import urllib3

        urllib3(app.engine.paths.state)  # found here, where there is a network and a disk
    while names:
        name = names.pop(0)
        course = Course(_lesson(name), texts.text(language, name), words, by_hand=by_hand)
        code, outcome = play(home, facts, course.go, debug=app.debug)
        if outcome and code == 0:
            _remember(home, name, {"by": "hand" if by_hand else "run", **outcome})
        worst = worst or code
        if not outcome:
            break
        following = _following(name)
        if by_hand and not names and following and code == 0:
            out(f"\n{words['go on'].format(following)} ")
            line = os.read(STDIN, 4096)
            if line and line.strip().lower() not in (b"n", b"no", b"q", b"quit"):
                names.append(following)
            elif not line:
                out("\n")
    return worst


def _named(name: str, home: Home) -> list[str]:
    """The lessons that a word means: a name, its beginning, a number, next, all. InvalidInput."""
    from .lessons.lesson import NAMES

    if name == ALL:
        return list(NAMES)
    if name == NEXT:
        done = _progress(home)
        return [next((one for one in NAMES if done.get(one) != "hand"), NAMES[0])]
    if name.isascii() and name.isdecimal() and 1 <= int(name) <= len(NAMES):
        return [NAMES[int(name) - 1]]
    fitting = [name] if name in NAMES else [one for one in NAMES if one.startswith(name)]
    if len(fitting) != 1:
        what = f"there is no lesson {name!r}" if not fitting else f"{name!r} is several lessons"
        raise InvalidInput(what, f"there are {', '.join(fitting or NAMES)}", "`learn` lists them, `learn next` goes on")
    return fitting


def _lesson(name: str) -> Lesson:
    from .lessons import guards, walls

    found: Lesson = getattr(walls if hasattr(walls, name.upper()) else guards, name.upper())
    return found


def _following(name: str) -> str:
    from .lessons.lesson import NAMES

    at = NAMES.index(name) + 1
    return NAMES[at] if at < len(NAMES) else ""


def _list(app: App, language: str) -> list[str]:
    """All lessons, and which were done. Needs no root: who may not look has done none."""
    from .lessons import texts
    from .lessons.lesson import NAMES
    from .lessons.playhost import Home

    words, paint, wide = texts.words(language), Paint.of(STDOUT), width()
    done = _progress(Home(app.engine.paths))
    lines = [*wrap(words["list"], min(wide, 90)), ""]
    for number, name in enumerate(NAMES, 1):
        mark = {"hand": paint.green("✓"), "run": paint.yellow("·")}.get(done.get(name, ""), " ")
        title = cut(texts.read(language, name)[0], max(wide - 21, 10))
        lines.append(f"{number:3} {mark} {paint.bold(pad(name, 13))}  {title}")
    hint = words["list end" if any(done.get(name) != "hand" for name in NAMES) else "list all done"]
    margin = " " * columns("  ")
    return [*lines, "", *(paint.dim(line) for line in wrap(hint, min(wide, 90), hang=margin))]


# --- what was done


def _progress(home: Home) -> dict[str, str]:
    """Lesson → "hand" (done by the learner) or "run" (played)."""
    return {name: str(one.get("by")) for name, one in _written(home).items() if isinstance(one, dict)}


def _written(home: Home) -> dict[str, Any]:
    """Lesson → by, and course.Outcome. Nothing where it cannot be read."""
    try:
        with open(f"{home.directory}/{_FILE}", encoding="ascii") as file:
            found = loads(file.read())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _remember(home: Home, name: str, how: dict[str, Any]) -> None:
    """What was done by hand stays so, though it is played afterwards."""
    from ..paths import write_file

    done = _written(home)
    if how["by"] == "run" and _progress(home).get(name) == "hand":
        how["by"] = "hand"
    try:
        write_file(f"{home.directory}/{_FILE}", dumps({**done, name: how}))
    except (OSError, NanoError) as error:
        err(f"Warning: cannot write down that this lesson was done: {error}\n")


def _forget(home: Home) -> None:
    try:
        os.unlink(f"{home.directory}/{_FILE}")
    except FileNotFoundError:
        pass


LEARN = Command(
    "learn",
    "[OPTIONS] [LESSON]",
    "Learn how a container comes to be, one wall after the other. Each lesson runs a part of the real plan, has "
    "something to try, and an attack that works without the lesson's wall and fails with it. All of it happens on a "
    "play host, a machine within this one that vanishes with the lesson. Without LESSON: the list. LESSON: a name, a "
    "number, next (the first that is not done), or all (with --run).",
    (
        ("run", "", "bool", False, "Play the lesson through without asking, with real output; needs no terminal"),
        ("lang", "", "string LANG", "", "Language (en, zh); default by LC_ALL, LC_MESSAGES or LANG"),
        ("reset", "", "bool", False, "Forget which lessons were done"),
    ),
    learn,
    most=1,
    examples=(
        ("Begin, or go on", "nanocontainer learn next"),
        ("See a lesson played", "nanocontainer learn pid --run"),
        ("All of them in Chinese, to read", "nanocontainer learn all --run --lang zh | less -R"),
    ),
)
