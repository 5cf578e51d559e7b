"""The engine and the census of tests/root, the size of the load, and the figures that are printed at the end.

In the whole run each test is small and takes seconds. `./check load` (NANOCONTAINER_LOAD=full) runs all at full size
and says how far it is; single sizes are set by NANOCONTAINER_LOAD_NAME=NUMBER, see size().
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.root import isolation
from tests.root.conftest import another_nano, clean, counted, nano
from tests.root.images import registry

__all__ = ["another_nano", "clean", "counted", "nano", "registry"]

HERE = Path(__file__).parent
FULL = os.environ.get("NANOCONTAINER_LOAD") == "full"
_EVERY = 10.0  # seconds between two words on how far it is, where they cannot overwrite each other

_figures: list[tuple[str, list[str]]] = []


def size(name: str, small: int, full: int) -> int:
    """How many: NANOCONTAINER_LOAD_NAME, or else the size for this kind of run."""
    given = os.environ.get(f"NANOCONTAINER_LOAD_{name.upper()}", "")
    return int(given) if given else full if FULL else small


def figures(title: str, lines: list[str]) -> None:
    """Print this at the end of the run, whatever comes of the test."""
    _figures.append((title, lines))


def pytest_configure(config: pytest.Config) -> None:
    if os.geteuid() == 0 and not config.option.collectonly and not config.option.help:
        isolation.isolate()
        os.environ["NANOCONTAINER_LINGER"] = "0"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.timeout(3600 if FULL else 300))
            if os.geteuid() != 0:
                item.add_marker(pytest.mark.skip(reason="needs root"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for title, lines in _figures:
        terminalreporter.section(title)
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture
def progress(request: pytest.FixtureRequest) -> Iterator[Callable[[str], None]]:
    """progress("12 of 1000"): where a person watches, and only at full size."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    terminal = sys.__stderr__ is not None and os.isatty(2)
    said = 0.0

    def say(text: str) -> None:
        nonlocal said
        now = time.monotonic()
        if not FULL or now - said < (0.2 if terminal else _EVERY):
            return
        said = now
        with capture.global_and_fixture_disabled():
            print(f"\r\033[K    {text}" if terminal else f"    {text}", end="" if terminal else "\n", flush=True)

    yield say
    if said and terminal:
        with capture.global_and_fixture_disabled():
            print("\r\033[K", end="", flush=True)
