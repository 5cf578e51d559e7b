"""Steps that tests define for themselves: the engine must not find them among its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from nanocontainer.plan.step import Step


@contextmanager
def private_kinds() -> Iterator[None]:
    """Steps that are defined, or looked up, in here are forgotten afterwards."""
    before = dict(Step.kinds)
    try:
        yield
    finally:
        Step.kinds.clear()
        Step.kinds.update(before)
