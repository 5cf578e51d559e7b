"""What a pull shows: on a terminal bars, rate and the time that is left; elsewhere plain lines."""

from __future__ import annotations

import pytest

from nanocontainer.cmd import progress
from nanocontainer.cmd.progress import Progress
from nanocontainer.image.progress import Progress as Event

ID = "0123456789ab"


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(progress, "err", lines.append)
    monkeypatch.setattr(progress, "width", lambda fd: 120)
    return lines


def test_plain_lines(told: list[str]) -> None:
    shown = Progress()
    shown.live = False
    for event in (
        Event("1", "Pulling from app"), Event(ID, "Resuming", 5_000_000, 10_000_000), Event(ID, "Downloading", 1, 2),
        Event(ID, "Download complete"), Event(ID, "Pull complete"), Event("", "Digest: x"),
    ):  # fmt: skip
        shown.show(event)
    assert told == [
        "1: Pulling from app\n", f"{ID}: Resuming at 5MB of 10MB\n", f"{ID}: Download complete\n",
        f"{ID}: Pull complete\n", "Digest: x\n",
    ]  # fmt: skip


def test_rate_and_rest(told: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    shown = Progress()
    shown.live, shown.colour = True, False
    shown.show(Event(ID, "Downloading", 0, 100_000_000))
    now[0] += 10
    shown.show(Event(ID, "Downloading", 20_000_000, 100_000_000))
    assert "20MB/100MB 2.00MB/s 40s" in told[-1].replace("2MB/s", "2.00MB/s")
    now[0] += 1
    shown.show(Event(ID, "Downloading", 100_000_000, 100_000_000))
    assert told[-1].rstrip("\x1b[J\n").endswith("/s")


def test_what_was_here_is_no_speed(told: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    shown = Progress()
    shown.live, shown.colour = True, False
    shown.show(Event(ID, "Resuming", 50_000_000, 100_000_000))
    for current in (10_000_000, 50_000_000):
        now[0] += 1
        shown.show(Event(ID, "Downloading", current, 100_000_000))
    now[0] += 10
    shown.show(Event(ID, "Downloading", 60_000_000, 100_000_000))
    assert " 40s" in told[-1]


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "0s"), (59.4, "59s"), (192, "3m12s"), (7500, "2h05m")])
def test_left(seconds: float, text: str) -> None:
    assert progress._left(seconds) == text
