"""What the guests' tests came to is shown at the end of the run."""

from __future__ import annotations

import pytest

results: list[str] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if results:
        terminalreporter.section("in virtual machines")
        for line in results:
            terminalreporter.write_line(line)
