"""The texts of the lessons: complete in all languages, and readable at any width."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from nanocontainer.cmd import complete, learn
from nanocontainer.cmd.lessons import course, guards, texts, walls
from nanocontainer.cmd.lessons.course import Course
from nanocontainer.cmd.lessons.lesson import ADDS, NAMES, Lesson
from nanocontainer.cmd.paint import columns
from nanocontainer.errors import InvalidInput
from nanocontainer.paths import Paths
from nanocontainer.plan.omission import OPENINGS

LESSONS = {name: learn._lesson(name) for name in NAMES}
HERE = Path(texts.__file__).parent


def test_each_lesson_is_there_under_its_name() -> None:
    found = [one for module in (walls, guards) for one in vars(module).values() if isinstance(one, Lesson)]
    assert [one.name for one in found] == list(NAMES) == list(LESSONS)


def test_what_lessons_add_can_be_left_out() -> None:
    for adds in ADDS.values():
        assert all(not OPENINGS[name].never for name in adds.steps)
    steps = [name for adds in ADDS.values() for name in adds.steps]
    assert len(steps) == len(set(steps))


@pytest.mark.parametrize("language", texts.LANGUAGES)
def test_a_language_has_all_texts_and_no_other(language: str) -> None:
    assert sorted(os.listdir(HERE / language)) == sorted([*(f"{name}.md" for name in NAMES), "words.json"])


@pytest.mark.parametrize("name", NAMES)
def test_a_text_has_the_same_parts_in_all_languages(name: str) -> None:
    spans = {}
    for language in texts.LANGUAGES:
        title, parts = texts.read(language, name)
        assert title
        assert tuple(parts) == texts.PARTS
        assert all(parts.values())
        spans[language] = {part: len(re.findall(r"`[^`\n]+`", text)) for part, text in parts.items()}
        assert all(text.count("`") % 2 == 0 for text in parts.values())
        manual = {page for text in parts.values() for page in re.findall(r"\w+\(\d\)", text)}
        spans[f"{language} pages"] = manual  # type: ignore[assignment]
    assert spans["en pages"] == spans["zh pages"]
    assert [part for part in texts.PARTS if bool(spans["en"][part]) != bool(spans["zh"][part])] == []


def test_words_are_the_same_in_all_languages() -> None:
    english = texts.words("en")
    for language in texts.LANGUAGES:
        found = texts.words(language)
        assert list(found) == list(english)
        assert {key: text.count("{}") for key, text in found.items()} == {
            key: text.count("{}") for key, text in english.items()
        }
    assert {f"to {name}" for name in course.COMMANDS} <= set(english)


def test_chinese_is_chinese() -> None:
    for name in NAMES:
        _, parts = texts.read("zh", name)
        for text in parts.values():
            assert re.search(r"[\u4e00-\u9fff]", text)
            assert not re.search(r"[\u4e00-\u9fff] [\u4e00-\u9fff]", text), text  # lines are joined without a gap
            assert not re.search(r"[\u4e00-\u9fff][,;?!]", text), text
            assert not re.search("[，。；：、（）] | [，。；：、（）]", text), text  # noqa: RUF001


@pytest.mark.parametrize(
    ("wanted", "environment", "language"),
    [
        ("zh", {"LANG": "en_US.UTF-8"}, "zh"),
        ("", {"LANG": "zh_CN.UTF-8"}, "zh"),
        ("", {"LANG": "zh_CN.UTF-8", "LC_ALL": "C"}, "en"),
        ("", {"LANG": "de_DE", "LC_MESSAGES": "zh_TW.UTF-8"}, "zh"),
        ("", {"LANG": "zh_CN.UTF-8", "LC_ALL": ""}, "zh"),
        ("", {"LANG": "C.UTF-8"}, "en"),
        ("", {}, "en"),
    ],
)
def test_language(wanted: str, environment: dict[str, str], language: str) -> None:
    assert texts.language(wanted, environment) == language


def test_an_unknown_language() -> None:
    with pytest.raises(InvalidInput, match="not one of en, zh"):
        texts.language("fr", {})


@pytest.mark.parametrize("language", texts.LANGUAGES)
@pytest.mark.parametrize("wide", [40, 80, 120])
def test_no_line_is_wider_than_the_terminal(
    language: str, wide: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(wide))
    for name, lesson in LESSONS.items():
        text = texts.text(language, name)
        played = Course(lesson, text, texts.words(language), by_hand=False)
        played._title()
        for part in (text.why, text.plan, text.task, text.attack, text.end):
            played._text(part)
        played._say(*played._tries(), *played._help())
    lines = capfd.readouterr().out.split("\n")
    assert len(lines) > 300
    assert [line for line in lines if columns(line) > wide] == []


def test_completion() -> None:
    assert complete.candidates(["learn", "c"], Paths()) == ["chroot", "cgroups", "capabilities"]
    assert complete.candidates(["learn", "--lang", ""], Paths()) == list(texts.LANGUAGES)
    assert complete.candidates(["learn", "uts", ""], Paths()) == []
