"""The crash matrix. Workers take the census of tests/root, each on a machine of its own (crew.py)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.root import isolation
from tests.root.images import registry

from . import tally
from .crew import Crew

__all__ = ["registry"]

HERE = Path(__file__).parent


def pytest_configure(config: pytest.Config) -> None:
    if os.geteuid() == 0 and not config.option.collectonly and not config.option.help:
        isolation.isolate()
        os.environ["NANOCONTAINER_LINGER"] = "0"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() != 0:
        for item in items:
            if HERE in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="needs root"))


@pytest.fixture(scope="session")
def crew(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    made = Crew(tmp_path_factory.mktemp("crash"))
    yield made
    made.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if tally.runs:
        terminalreporter.write_line(tally.line())
