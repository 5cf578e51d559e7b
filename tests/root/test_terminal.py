"""The tests' own terminal (nano.py) does what it promises, shown with a plain shell."""

from __future__ import annotations

import pytest

from .nano import Terminal

ENV = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PS1": "> "}


def test_a_conversation() -> None:
    with Terminal(["sh"], ENV, rows=30, cols=100) as terminal:
        terminal.expect("> ")
        terminal.send("stty size; echo $((6*7))\r")
        assert terminal.expect(r"30 100\r\n(\d+)\r\n").group(1) == "42"
        terminal.resize(40, 120)
        terminal.send("stty size\r")
        terminal.expect("40 120")
        terminal.send("exit 3\r")
        assert terminal.wait() == 3


def test_it_is_the_controlling_terminal() -> None:
    script = "trap 'echo caught; exit 5' INT; echo ready; while :; do sleep 0.05; done"
    with Terminal(["sh", "-c", script], ENV, 24, 80) as terminal:
        terminal.expect("ready")
        terminal.send("\x03")
        terminal.expect("caught")
        assert terminal.wait() == 5


def test_what_does_not_come_is_said() -> None:
    with Terminal(["cat"], ENV, 24, 80) as terminal:
        terminal.send("hello\r")
        with pytest.raises(AssertionError, match="no 'goodbye' in 'hello"):
            terminal.expect("goodbye", timeout=0.3)
        with pytest.raises(AssertionError, match="did not end within"):
            terminal.wait(timeout=0.3)


def test_an_end_before_the_answer_is_said() -> None:
    with Terminal(["echo", "hi"], ENV, 24, 80) as terminal, pytest.raises(AssertionError, match="ended without 'bye'"):
        terminal.expect("bye")


def test_changed_settings_are_seen() -> None:
    with Terminal(["stty", "raw"], ENV, 24, 80) as terminal:
        assert terminal.wait() == 0
        assert terminal.settings() != terminal.before
