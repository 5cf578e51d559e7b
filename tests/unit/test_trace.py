"""A trace: a line without holes, honest sums, and each of its forms well-formed whatever the names are."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest

from nanocontainer.cmd import chart, trace, tracetext
from nanocontainer.plan.plan import Plan

from .own_steps import private_kinds

with private_kinds():
    from nanocontainer.plan.step import Step

    class OnHost(Step):
        """Host."""

        side = "host"

    class Inside(Step):
        """Inside."""


MARKS = {"begin": 10, "loaded": 20, "launch": 30, "ready": 35, "keeper": 40, "plan": 50, "done": 100, "started": 110,
         "ended": 150, "exit": 160}  # fmt: skip
PLAN = Plan((OnHost(), OnHost(), Inside()))
STEPS = {0: (52, 60), 1: (61, 70), 2: (75, 100)}


def traces(words: tuple[str, ...] = ("--rm", "tiny", "true"), runs: int = 3) -> trace.Traces:
    told = []
    for turn in range(runs):
        marks = {name: at * 1_000_000 + turn for name, at in MARKS.items()}
        steps = {index: (begin * 1_000_000, end * 1_000_000) for index, (begin, end) in STEPS.items()}
        told.append(trace.spans(PLAN, marks, steps, 0))
    totals = tuple(sum(span.took for span in run) for run in told)
    return trace.Traces(words, totals, tuple(total - 5 for total in totals), tuple(told), trace.rows(told))


def test_a_run_is_a_line_without_holes() -> None:
    found = trace.spans(PLAN, MARKS, STEPS, 3)
    at = 0
    for span in found:
        assert (span.begin, span.took >= 0) == (at, True)
        at += span.took
    assert at == MARKS["exit"] - 3
    assert [(span.label, span.who, span.took) for span in found if span.index == 2] == [
        ("between steps", "between", 5), ("Inside", "inside", 25)
    ]  # fmt: skip


def test_moments_that_cross_take_nothing_back() -> None:
    found = trace.spans(PLAN, MARKS, {0: (52, 60), 1: (55, 58), 2: (75, 100)}, 0)
    assert sum(span.took for span in found) == 160
    assert min(span.took for span in found) == 0


@pytest.mark.parametrize(("part", "value"), [(0, 1), (0.5, 5), (1, 9), (0.25, 3), (0.125, 2)])
def test_quantiles(part: float, value: int) -> None:
    assert trace.quantile([9, 1, 5, 3, 7], part) == value
    assert trace.quantile([4], part) == 4


def test_rows_keep_every_run() -> None:
    found = traces()
    assert [row.label for row in found.rows] == [span.label for span in found.runs[0]]
    assert all(len(row.times) == 3 for row in found.rows)
    together = tracetext.together(found)
    assert sum(row.mean for row in together) == pytest.approx(sum(found.totals) / 3)
    assert sum(row.label == "between steps" for row in together) == 1


def test_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = tracetext.table(traces())
    assert max(map(len, text.splitlines())) <= 80
    assert "what the user waits" in text
    assert "160 ms" in text
    assert "  3 Inside" in text


def test_chrome() -> None:
    data = json.loads(tracetext.chrome(traces()))
    spans = [event for event in data["traceEvents"] if event["ph"] == "X"]
    assert {"name", "cat", "ph", "pid", "tid", "ts", "dur", "args"} == set(spans[0])
    assert sum(event["dur"] for event in spans) == pytest.approx(160_000, abs=1)
    names = {event["tid"]: event["args"]["name"] for event in data["traceEvents"] if event["name"] == "thread_name"}
    assert {names[event["tid"]] for event in spans} == {"command", "host", "inside", "between"}


def test_json() -> None:
    data = json.loads(tracetext.as_json(traces()))
    assert data["total"]["median"] == 160_000_001
    assert len(data["rows"][0]["times"]) == 3


def test_the_picture_is_xml_whatever_the_names_are() -> None:
    evil = ("--env=A=<script>alert(1)</script>&\"'\x1b[31m\x00\ud800", "tiny", "true")
    text = chart.svg(traces(evil))
    root = ElementTree.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert not root.findall(".//{http://www.w3.org/2000/svg}script")
    assert "href" not in text
    assert "<script" not in text
    text.encode()
    words = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"3 Inside", "start Python", "25.00 ms"} <= words


def test_the_picture_of_a_single_run_of_nothing() -> None:
    found = traces(runs=1)
    empty = found.replace(rows=tuple(row.replace(times=(0,)) for row in found.rows), totals=(0,))
    ElementTree.fromstring(chart.svg(empty))
