"""Times, sizes and tables in docker's words."""

from __future__ import annotations

import pytest

from nanocontainer.cmd import table, units


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [  # go-units, duration_test.go
        (0.45, "Less than a second"),
        (1, "1 second"),
        (45, "45 seconds"),
        (46, "46 seconds"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (119, "About a minute"),
        (120, "2 minutes"),
        (3 * 60 + 40, "3 minutes"),
        (59 * 60, "59 minutes"),
        (60 * 60, "About an hour"),
        (60 * 60 + 45 * 60, "2 hours"),
        (3 * 3600 + 40 * 60, "4 hours"),
        (24 * 3600, "24 hours"),
        (36 * 3600, "36 hours"),
        (47 * 3600, "47 hours"),
        (2 * 86400, "2 days"),
        (3 * 86400, "3 days"),
        (14 * 86400, "2 weeks"),
        (20 * 86400, "2 weeks"),
        (3 * 30 * 86400, "3 months"),
        (2 * 365 * 86400, "2 years"),
        (-5, "Less than a second"),
    ],
)
def test_durations(seconds: float, shown: str) -> None:
    assert units.duration(seconds) == shown


def test_ago() -> None:
    now = units.read_time("2024-05-01T12:00:00Z")
    assert now == 1714564800
    assert units.ago("2024-05-01T11:57:00.123456789Z", now) == "2 minutes ago"
    assert units.ago("", now) == ""
    assert units.ago(units.ZERO_TIME, now) == "N/A"
    assert units.ago("yesterday, or so", now) == units.local("yesterday, or so") == "N/A"


@pytest.mark.parametrize(
    ("number", "digits", "shown"),
    [
        (0, 4, "0B"), (1, 4, "1B"), (999, 3, "999B"), (1000, 4, "1kB"), (1024, 4, "1.024kB"), (77_800_000, 3, "77.8MB"),
        (187_654_321, 3, "188MB"), (999_960, 3, "1000kB"), (1_000_000, 4, "1MB"), (2_345_678_901, 3, "2.35GB"),
        (999_999_999, 4, "1000MB"),
    ],
)  # fmt: skip
def test_sizes(number: int, digits: int, shown: str) -> None:
    assert units.size(number, digits=digits) == shown


def test_binary_sizes() -> None:
    assert units.size(64 << 20, binary=True) == "64MiB"
    assert units.size(1536, binary=True) == "1.5KiB"


def test_table() -> None:
    rows = [["CONTAINER ID", "X", "NAMES"], ["abc", "a longer cell", "web"], ["d", "", ""]]
    assert table.render(rows) == (
        "CONTAINER ID   X               NAMES\n"
        "abc            a longer cell   web\n"
        "d                              \n"
    )  # fmt: skip
    assert table.render([]) == ""
    assert table.render([["ID"]]) == "ID\n"


def test_shorten_and_quote() -> None:
    assert table.shorten("nginx -g 'daemon off;'", 20) == "nginx -g 'daemon of…"
    assert table.shorten("short", 20) == "short"
    assert table.quote('a "b" \\ \n\t\x01 é \u200b') == '"a \\"b\\" \\\\ \\n\\t\\x01 é \\u200b"'
