"""Killed while another command works on the same container."""

from __future__ import annotations

import pytest

from . import tally
from .crew import LONG, Crew
from .meanwhile import OTHERS


@pytest.mark.timeout(LONG)
@pytest.mark.parametrize("other", OTHERS)
def test_a_start_and_another_command(crew: Crew, other: str) -> None:
    (plan,) = crew.run("plan_meanwhile", [{}])
    whose = ("keeper", "the other") if other in ("rm -f", "start") else ("keeper",)
    cases = [
        {"other": other, "who": who, "index": index, "inside": side == "inside"}
        for index, (_, side) in enumerate(plan)
        for who in whose
    ]
    tally.judge(cases, crew.run("kill_meanwhile", cases))
