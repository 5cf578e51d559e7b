"""Engine.wait: a container that ends and is started anew while somebody comes to wait has no exit code in between."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanocontainer.container.spec import Container, Spec, State
from nanocontainer.engine import Engine
from nanocontainer.errors import NotRunning


def test_a_second_life_is_waited_for_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(str(tmp_path))
    spec = Spec(image="tiny", id="0" * 64)
    states = [State(status="running"), State(status="running"), State(status="exited", exit_code=9)]

    def refuse(ref: str) -> None:
        raise NotRunning("it is exited")

    monkeypatch.setattr(engine, "resolve_id", lambda ref: spec.id)
    monkeypatch.setattr(engine, "_at_rest", lambda ref: Container(spec, states.pop(0)))
    monkeypatch.setattr(engine, "attach", refuse)
    assert engine.wait("c") == 9
    assert not states
