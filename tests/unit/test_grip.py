"""Containers that a plan joins are still there when all of them has been opened."""

from __future__ import annotations

import os
import subprocess

import pytest

from nanocontainer.container.grip import Grip
from nanocontainer.errors import NotRunning
from nanocontainer.plan.step import Reporter
from nanocontainer.runtime.namespaces import Clone, OpenProcess


class Heard(Reporter):
    def __init__(self) -> None:
        self.steps: list[str] = []

    def before(self, index: int, step: object) -> None:
        self.steps.append(type(step).__name__)


def test_who_has_gone_in_the_meantime_is_not_joined() -> None:
    process = subprocess.Popen(["sleep", "1000"])
    pidfd = os.pidfd_open(process.pid)
    heard = Heard()
    grip = Grip([pidfd], heard)
    try:
        grip.before(0, OpenProcess(process.pid))
        grip.before(1, Clone(()))
        process.kill()
        process.wait()  # from now on its number may mean somebody else
        grip.before(0, OpenProcess(process.pid))
        with pytest.raises(NotRunning, match="cannot join"):
            grip.before(1, Clone(()))
        assert heard.steps == ["OpenProcess", "Clone", "OpenProcess"]
    finally:
        os.close(pidfd)
