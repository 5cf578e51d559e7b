"""The same engine and the same census as in tests/root."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.root import isolation
from tests.root.conftest import counted, nano

__all__ = ["counted", "nano"]

HERE = Path(__file__).parent


def pytest_configure(config: pytest.Config) -> None:
    if os.geteuid() == 0 and not config.option.collectonly and not config.option.help:
        isolation.isolate()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() != 0:
        for item in items:
            if HERE in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="needs root"))
