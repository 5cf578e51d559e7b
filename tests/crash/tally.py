"""How many times something was killed in this session, and how often something was left behind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

SHOWN = 8  # lines of a case

runs = 0
leaks = 0
shapes: set[str] = set()


def judge(cases: Sequence[dict[str, Any]], results: Sequence[list[str]], shape: str = "") -> None:
    """Count, and fail with what was found."""
    global runs, leaks
    runs += len(cases)
    if shape:
        shapes.add(shape)
    wrong = [
        f"{', '.join(f'{name} {value}' for name, value in case.items())}\n    " + "\n    ".join(lines[:SHOWN])
        for case, lines in zip(cases, results, strict=True)
        if lines
    ]
    leaks += len(wrong)
    assert not wrong, f"{len(wrong)} of {len(cases)} cases\n" + "\n".join(wrong[:20])


def line() -> str:
    return f"crash matrix: {runs} runs, {len(shapes)} shapes, leaks {leaks}"
