"""Containers that are just being started, taken down or removed by another process, which holds their lock."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nanocontainer.container.lifecycle import Lifecycle
from nanocontainer.container.locks import Lock, holder
from nanocontainer.container.spec import Spec, State
from nanocontainer.engine import Engine
from nanocontainer.errors import Conflict, NotFound
from nanocontainer.paths import Paths, new_id

Keeper = Callable[..., None]


@pytest.fixture
def life(tmp_path: Path) -> Lifecycle:
    return Lifecycle(Paths(f"{tmp_path}/state", f"{tmp_path}/run"))


@pytest.fixture
def id(life: Lifecycle) -> str:
    id = new_id()
    life.store.claim_name("box", id, life.kept)
    life.store.make(Spec(image="tiny", id=id, name="box"), os.path.dirname(life.paths.state))
    life.store.save(id, State(status="exited", exit_code=3))
    return id


@pytest.fixture
def keeper(life: Lifecycle, id: str) -> Iterator[Keeper]:
    """Fork a process that holds the lock, says after some time how the container is, and ends some time later."""
    made: list[int] = []

    def fork(state: State | None, before: float, after: float) -> None:
        made.append(os.fork())
        if made[-1] == 0:
            try:
                Lock(life.paths, id).take()
                time.sleep(before)
                if state:
                    life.store.save(id, state)
                time.sleep(after)
            finally:
                os._exit(0)
        while not holder(life.paths, id):
            time.sleep(0.001)

    yield fork
    for pid in made:
        os.waitpid(pid, 0)


def test_a_keeper_that_has_not_let_go_yet_is_waited_for(life: Lifecycle, id: str, keeper: Keeper) -> None:
    keeper(None, 0, 0.3)
    life.remove(id, anonymous=True)
    assert life.store.ids() == []


def test_a_running_container_is_refused_at_once(life: Lifecycle, id: str, keeper: Keeper) -> None:
    keeper(State(status="running", keeper=1), 0, 0.5)
    while life.store.state(id).status != "running":
        time.sleep(0.001)
    begin = time.monotonic()
    with pytest.raises(Conflict, match="cannot remove"):
        life.remove(id, anonymous=True)
    assert time.monotonic() - begin < 0.3


def test_a_start_that_is_under_way_is_waited_for(life: Lifecycle, id: str, keeper: Keeper) -> None:
    keeper(State(status="running", keeper=1), 0.2, 0.5)
    assert life.settle(id).state.status == "exited"
    assert life.at_rest(id, 5).state.status == "running"


def test_patience_ends(
    life: Lifecycle, id: str, keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nanocontainer.engine._PATIENCE_WITH_STARTS", 0.1)
    keeper(None, 0, 0.6)
    assert life.at_rest(id, 0.1).state.exit_code == 3
    with pytest.raises(Conflict, match="just being started"):
        Engine(life.paths.state, life.paths.run).stop("box")


def test_nobody_holds_it(life: Lifecycle, id: str) -> None:
    assert life.at_rest(id, 5).state.exit_code == 3
    Engine(life.paths.state, life.paths.run).stop("box")
    life.remove(id, anonymous=True)
    with pytest.raises(NotFound):
        life.at_rest(id, 5)
