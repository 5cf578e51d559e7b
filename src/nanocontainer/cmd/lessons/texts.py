"""Languages: which one is wanted, and the texts of a lesson in it.

A text is a file, en/NAME.md: a title after "# ", then parts after "## ", whose names are the same in all languages
(PARTS). Words between the parts are in words.json.
"""

from __future__ import annotations

import json
import os

from ...errors import InvalidInput
from ...record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

LANGUAGES = ("en", "zh")
PARTS = ("why", "plan", "try", "attack", "end")
_WIDE = frozenset("，。；：、（）？！")  # noqa: RUF001 (they bring their own space)
_HERE = os.path.dirname(os.path.abspath(__file__))


class Text(Record):
    """A lesson in one language. why: what the kernel offers, why containers need it; plan: what the lesson adds; try:
    what shall be done; attack: what the attacker wants; end: what was learnt."""

    title: str
    why: str
    plan: str
    task: str
    attack: str
    end: str


def language(wanted: str, environment: Mapping[str, str]) -> str:
    """--lang, else that of the locale (locale(7): LC_ALL before LC_MESSAGES before LANG), else English."""
    if wanted:
        if wanted not in LANGUAGES:
            raise InvalidInput("invalid --lang", f"{wanted!r} is not one of {', '.join(LANGUAGES)}")
        return wanted
    locale = next((environment[name] for name in ("LC_ALL", "LC_MESSAGES", "LANG") if environment.get(name)), "")
    word = locale.replace("-", "_").partition("_")[0].partition(".")[0].lower()
    return word if word in LANGUAGES else "en"


def text(language: str, name: str) -> Text:
    """The text of a lesson."""
    title, parts = read(language, name)
    return Text(title, parts["why"], parts["plan"], parts["try"], parts["attack"], parts["end"])


def read(language: str, name: str) -> tuple[str, dict[str, str]]:
    """A text's title and parts; a paragraph is one line of a part, lines of a file are joined."""
    with open(f"{_HERE}/{language}/{name}.md", encoding="utf-8") as file:
        head, *parts = file.read().split("\n## ")
    title = head.strip().removeprefix("# ")
    found = {}
    for part in parts:
        label, _, body = part.partition("\n")
        paragraphs = [_joined(one) for one in body.strip().split("\n\n")]
        found[label.strip()] = "\n".join(paragraphs)
    return title, found


def words(language: str) -> dict[str, str]:
    """What stands between the parts."""
    with open(f"{_HERE}/{language}/words.json", encoding="utf-8") as file:
        found: dict[str, str] = json.load(file)
    return found


def _joined(paragraph: str) -> str:
    """Lines as one: with a space, but not between two characters of Chinese, nor beside its punctuation."""
    lines = paragraph.split("\n")
    joined = lines[0]
    for line in lines[1:]:
        tight = (joined[-1] > "\u2e7f" and line[0] > "\u2e7f") or joined[-1] in _WIDE or line[0] in _WIDE
        joined += line if tight else f" {line}"
    return joined
