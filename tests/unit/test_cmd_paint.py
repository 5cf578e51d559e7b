"""Colour and width of what people read: cmd/paint.py, and when colour is wanted at all."""

# ruff: noqa: RUF001 (characters that look like others are meant)

from __future__ import annotations

import os
import pty

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanocontainer.cmd.output import colour
from nanocontainer.cmd.paint import Paint, columns, cut, pad, plain, wrap


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("NO_COLOR", "CLICOLOR_FORCE", "TERM"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    ("env", "on_terminal", "on_pipe"),
    [
        ({}, True, False),
        ({"TERM": "xterm"}, True, False),
        ({"TERM": "dumb"}, False, False),
        ({"NO_COLOR": "1"}, False, False),
        ({"NO_COLOR": ""}, True, False),
        ({"CLICOLOR_FORCE": "1"}, True, True),
        ({"CLICOLOR_FORCE": "0"}, True, False),
        ({"CLICOLOR_FORCE": "1", "NO_COLOR": "1"}, False, False),
    ],
)
def test_where_colour_is_wanted(
    clean: pytest.MonkeyPatch, env: dict[str, str], on_terminal: bool, on_pipe: bool
) -> None:
    for name, value in env.items():
        clean.setenv(name, value)
    fds = [*pty.openpty(), *os.pipe()]
    try:
        assert colour(fds[1]) is on_terminal
        assert colour(fds[3]) is on_pipe
    finally:
        for fd in fds:
            os.close(fd)


def test_paint() -> None:
    assert Paint(True)("a", "bold", "red") == "\x1b[1;31ma\x1b[0m"
    assert Paint(True).cyan("a") == "\x1b[36ma\x1b[0m"
    assert Paint(True)("") == ""
    assert Paint(False)("a", "bold", "red") == "a"
    with pytest.raises(KeyError):
        Paint(True)("a", "pink")


@pytest.mark.parametrize(
    ("text", "wide"),
    [("", 0), ("abc", 3), ("容器", 4), ("n容器", 5), ("e\u0301", 1), ("é", 1), ("✓", 1), ("🐳", 2), ("ｱ", 1), ("Ａ", 2),
     ("\u200bx", 1), ("\x1b[1;31m容器\x1b[0m", 4)],
)  # fmt: skip
def test_columns(text: str, wide: int) -> None:
    assert columns(text) == wide


def test_pad_and_cut() -> None:
    assert pad("容器", 6) == "容器  "
    assert pad("\x1b[1mab\x1b[0m", 3) == "\x1b[1mab\x1b[0m "
    assert pad("abc", 2) == "abc"
    assert cut("abcdef", 6) == "abcdef"
    assert cut("abcdef", 5) == "abcd…"
    assert cut("容器容器", 6) == "容器…"
    assert cut("abc", 0) == ""


def test_wrap() -> None:
    assert wrap("one two three", 7) == ["one two", "three"]
    assert wrap("one two three", 9, "  ") == ["  one two", "  three"]
    assert wrap("one two three", 9, "- ", "  ") == ["- one two", "  three"]
    assert wrap("a\n\nb", 10) == ["a", "", "b"]
    assert wrap("", 10) == [""]
    assert wrap("abcdefgh", 3) == ["abc", "def", "gh"]
    assert wrap("挂载一个新的文件系统，然后继续。", 12) == ["挂载一个新的", "文件系统，然", "后继续。"]
    assert wrap("用（pivot_root）换根", 6)[0] == "用"  # no line ends with an opening bracket


@given(st.text(st.sampled_from("ab ，。（）容器é\u0301-🐳"), max_size=60), st.integers(4, 30))
def test_wrapped_lines_fit_and_nothing_is_lost(text: str, width: int) -> None:
    lines = wrap(text, width)
    assert all(columns(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


def test_plain_text_has_no_colours() -> None:
    assert plain("\x1b[1ma\x1b[0mb") == "ab"
