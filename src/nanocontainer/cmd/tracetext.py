"""A trace as text: a table for people, Trace Event JSON for chrome://tracing and Perfetto, and plain JSON."""

from __future__ import annotations

import json
import os

from .live import milliseconds
from .output import STDOUT, width
from .paint import Paint, pad, wrap
from .trace import BETWEEN, Row, quantile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .trace import Traces

_BLOCKS = " ▏▎▍▌▋▊▉█"
_COLOURS = {"command": "magenta", "host": "yellow", "inside": "cyan", "between": "dim"}
_LANES = {"command": 1, "host": 2, "inside": 3, "between": 4}


def together(traces: Traces) -> list[Row]:
    """The rows, with all that lies between steps as one, the last of the steps."""
    gaps = [row for row in traces.rows if row.label == BETWEEN]
    steps = [row for row in traces.rows if row.label != BETWEEN]
    if not gaps:
        return steps
    sums = tuple(sum(times) for times in zip(*(gap.times for gap in gaps), strict=True))
    last = max(at for at, row in enumerate(steps) if row.index >= 0) + 1
    return [*steps[:last], Row(BETWEEN, "between", gaps[-1].begin, sums), *steps[last:]]


def table(traces: Traces) -> str:
    """Each part with its median, its spread, and a bar of its share."""
    paint, columns = Paint.of(STDOUT), min(width(), 120)
    shown = together(traces)
    whole = sum(row.mean for row in shown)
    label = max(len(row.label) for row in shown)
    fixed = 4 + label + 2 + 8 + 9 + 23 + 7
    room = max(columns - fixed, 0)
    most = max(row.mean for row in shown)
    head = f"{'':4}{pad('step', label)}  {'side':8}{'median':>9}{'p10 to p90':>23}{'share':>7}"
    lines = [paint.bold(f"nanocontainer run {' '.join(traces.words)}"), "", paint.dim(head)]
    for row in shown:
        share = row.mean / whole
        spread = f"{milliseconds(quantile(row.times, 0.1))} to {milliseconds(quantile(row.times, 0.9))}"
        number = f"{row.index + 1:3} " if row.index >= 0 else " " * 4
        side = "" if row.who == "between" else row.who
        colour = _COLOURS[row.who]
        text = f"{paint.dim(number)}{paint(pad(row.label, label), colour)}  {paint.dim(pad(side, 8))}"
        text += f"{milliseconds(row.median):>9}{paint.dim(f'{spread:>23}')}{share:>7.1%}"
        if room >= 8:
            text += f" {paint(_bar(row.mean / most, min(room - 1, 30)), colour)}"
        lines.append(text.rstrip())
    low, middle, high = (milliseconds(quantile(traces.totals, part)) for part in (0.1, 0.5, 0.9))
    line = f"{'':4}{pad('what the user waits', label)}  {'':8}{middle:>9}{f'{low} to {high}':>23}"
    lines += [paint.bold(f"{line}{1:>7.1%}"), "", *(paint.dim(line) for line in wrap(_note(traces), columns))]
    return "\n".join(lines) + "\n"


def _note(traces: Traces) -> str:
    plain = quantile(traces.unwatched, 0.5)
    cost = quantile(traces.totals, 0.5) - plain
    runs = len(traces.totals)
    sides = dict.fromkeys(("host", "inside"), 0.0)
    for row in traces.rows:
        if row.index >= 0 and row.who in sides:
            sides[row.who] += row.mean
    return (
        f"{runs} run{'s' if runs > 1 else ''}. The shares are of the means, which add up to the whole; the steps are "
        f"{milliseconds(round(sides['host']))} of it on the host and {milliseconds(round(sides['inside']))} inside. "
        f"Unwatched, in turn with these, a run took {milliseconds(plain)}: "
        + (f"watching costs {milliseconds(cost)}." if cost > 0 else "what watching costs is lost in the noise.")
    )


def _bar(part: float, columns: int) -> str:
    """A bar of so many eighths of a column."""
    eighths = round(part * columns * 8)
    return _BLOCKS[8] * (eighths // 8) + (_BLOCKS[eighths % 8] if eighths % 8 else "")


def chrome(traces: Traces) -> str:
    """The typical run as Trace Event JSON ("Trace Event Format", the object form): complete events ("X") with
    microseconds, a thread for each lane."""
    events: list[dict[str, Any]] = [
        {"name": "process_name", "ph": "M", "pid": 1, "tid": 1, "args": {"name": "nanocontainer run"}},
        *(
            {"name": "thread_name", "ph": "M", "pid": 1, "tid": lane, "args": {"name": who}}
            for who, lane in _LANES.items()
        ),
    ]
    events += [
        {
            "name": span.label, "cat": span.who, "ph": "X", "pid": 1, "tid": _LANES[span.who],
            "ts": span.begin / 1000, "dur": span.took / 1000,
            "args": {"step": span.index + 1} if span.index >= 0 and span.who != "between" else {},
        }
        for span in traces.typical()
        if span.took
    ]  # fmt: skip
    other = {"command": f"nanocontainer run {' '.join(traces.words)}", "runs": len(traces.totals)}
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ms", "otherData": other}, indent=1) + "\n"


def as_json(traces: Traces) -> str:
    """All runs: nanoseconds of each part."""
    data = {
        "command": ["run", *traces.words],
        "machine": {"kernel": os.uname().release, "processors": os.cpu_count()},
        "unit": "ns",
        "total": _numbers(traces.totals),
        "unwatched": _numbers(traces.unwatched),
        "rows": [
            {"label": row.label, "who": row.who, "step": row.index + 1 or None, "begin": row.begin}
            | _numbers(row.times)
            for row in traces.rows
        ],
    }
    return json.dumps(data, indent=1) + "\n"


def _numbers(times: tuple[int, ...]) -> dict[str, Any]:
    return {
        "median": quantile(times, 0.5),
        "p10": quantile(times, 0.1),
        "p90": quantile(times, 0.9),
        "min": min(times),
        "max": max(times),
        "times": list(times),
    }


