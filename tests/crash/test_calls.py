"""Killed behind every call that changes something: between a claim and the journal, while a file is written, in the
middle of taking down; recovery killed, and killed again."""

from __future__ import annotations

from typing import Any

import pytest

from . import tally
from .calls import LIVES
from .crew import LONG, Crew


@pytest.mark.timeout(LONG)
@pytest.mark.parametrize("who", ["command", "keeper"])
@pytest.mark.parametrize("life", LIVES)
def test_a_container_s_life(crew: Crew, life: str, who: str) -> None:
    (count,) = crew.run("count_in_life", [{"life": life, "who": who}])
    assert count >= (30 if who == "keeper" else 1)  # a command forks, and that is all
    cases = [
        {"life": life, "who": who, "at": at, "torn": torn} for at in range(1, count + 1) for torn in (False, True)
    ]
    tally.judge(cases, crew.run("kill_in_life", cases))


@pytest.mark.timeout(LONG)
def test_recovery(crew: Crew) -> None:
    (count,) = crew.run("count_in_recover", [{}])
    assert count > 20
    cases: list[dict[str, Any]] = [
        {"at": at, "torn": torn} for at in range(1, count + 1) for torn in (False, True)
    ]
    cases += [{"at": at, "again": again} for at in range(1, count + 1) for again in (1, at, count - at, count)]
    tally.judge(cases, crew.run("kill_in_recover", cases))


def test_any_command_sweeps(crew: Crew) -> None:
    verbs = ("ps", "inspect victim", "wait victim", "rm -v victim", "doctor --repair", "info")
    cases = [{"verb": verb.split()} for verb in verbs]
    tally.judge(cases, crew.run("swept_by", cases))


@pytest.mark.timeout(LONG)
@pytest.mark.parametrize("whose", ["running", "ended"])
@pytest.mark.parametrize("verb", ["rm", "stop", "restart"])
def test_verbs(crew: Crew, verb: str, whose: str) -> None:
    (count,) = crew.run("count_in_verb", [{"verb": verb, "whose": whose}])
    cases = [
        {"verb": verb, "whose": whose, "at": at, "torn": torn}
        for at in range(1, count + 1) for torn in (False, True)
    ]  # fmt: skip
    tally.judge(cases, crew.run("kill_in_verb", cases))
