"""A live change between its parts: the journal that is held, cut and rewritten; what is asked for and what is found."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from nanocontainer.container.publishing import Publish, Withdraw, withdrawn
from nanocontainer.container.spec import Container, Pending, Port, Spec, State
from nanocontainer.container.store import ContainerStore
from nanocontainer.errors import Conflict, InvalidInput, NotFound
from nanocontainer.lean import dumps
from nanocontainer.network.allot import Binding
from nanocontainer.network.bridge import HoldAddress
from nanocontainer.network.publish import PublishPorts, ReservePort
from nanocontainer.paths import Paths
from nanocontainer.plan.journal import Held, Journal, line_of, read, step_of

ID = "a" * 64
ONE, TWO = Binding(80, 8080), Binding(53, 5353, "127.0.0.1", "udp")
PUBLISHED = PublishPorts("t", "10.0.0.2", (ONE, TWO), ID, "/state")
RESERVED = [ReservePort(port.host_port, port.protocol, port.host_ip, ID, "/state") for port in (ONE, TWO)]


@pytest.fixture
def path(tmp_path: Path) -> str:
    journal = Journal(f"{tmp_path}/journal", "boot")
    for step in (HoldAddress("/state/leases/10.0.0.2", ID), *RESERVED, PUBLISHED):
        journal.note(step)
    journal.close()
    return journal.path


def steps(path: str) -> list[object]:
    return [entry.step for entry in read(path)]


# --- the journal


def test_there_is_one_holder(path: str) -> None:
    with Held(path) as held:
        assert held.fd >= 0
        with pytest.raises(BlockingIOError):
            Held(path, wait=False).__enter__()
    with Held(path, wait=False) as held:
        assert held.fd >= 0
    with Held(f"{path}-none") as held:
        assert held.fd == -1


@pytest.mark.parametrize("then", ["unlink", "replace"])
def test_who_waited_for_a_journal_that_is_gone_begins_anew(path: str, then: str) -> None:
    found: list[int] = []
    first = Held(path).__enter__()

    def wait() -> None:
        with Held(path) as held:
            found.append(os.fstat(held.fd).st_ino if held.fd >= 0 else -1)

    thread = threading.Thread(target=wait)
    thread.start()
    if then == "unlink":
        os.unlink(path)
    else:
        first.forget((PUBLISHED,))
        assert found == []  # the new one is held too
    first.__exit__()
    thread.join(10)
    assert found == ([-1] if then == "unlink" else [os.stat(path).st_ino])


def test_what_is_behind_a_mark_is_told_apart_and_cut(path: str) -> None:
    with Held(path) as held:
        size = held.size
        journal = Journal(path, "boot")
        journal.note(HoldAddress("/state/leases/10.1.0.2", ID))
        journal.close()
        assert [entry.name for entry in read(path, held.fd, size)] == ["HoldAddress"]
        held.cut(size)
    assert steps(path) == [PUBLISHED, *RESERVED[::-1], HoldAddress("/state/leases/10.0.0.2", ID)]


def test_steps_and_parts_of_them_are_forgotten_and_foreign_lines_are_kept(path: str) -> None:
    with open(path, "a") as file:
        file.write('{"boot": "boot", "step": "FromTheFuture", "data": {}}\n')
    with Held(path) as held:
        held.forget((PUBLISHED.replace(ports=(ONE,)), RESERVED[0]))
        assert os.fstat(held.fd).st_ino == os.stat(path).st_ino
    assert next(entry.name for entry in read(path)) == "FromTheFuture"
    assert steps(path)[1:] == [
        PUBLISHED.replace(ports=(TWO,)), RESERVED[1], HoldAddress("/state/leases/10.0.0.2", ID)
    ]  # fmt: skip
    with Held(path) as held:
        held.forget((PUBLISHED,))
    assert PUBLISHED.replace(ports=(TWO,)) not in steps(path)


def test_a_step_is_written_and_read_whatever_it_leaves() -> None:
    assert step_of(line_of(PUBLISHED, "boot")) == PUBLISHED
    with pytest.raises(Exception, match="unknown to this version"):
        step_of('{"boot": "b", "step": "FromTheFuture", "data": {}}')


def test_a_pending_change_is_part_of_the_state(tmp_path: Path) -> None:
    store = ContainerStore(Paths(str(tmp_path), str(tmp_path)))
    os.makedirs(store.paths.container(ID))
    state = State(status="running", changes=3, change=Pending(Spec("tiny", id=ID), ("line",), (), {"hosts": "x"}))
    store.save(ID, state)
    assert store.state(ID) == state
    Path(store.paths.container(ID), "state.json").write_text(dumps({**state.as_dict(), "change": 3}))
    with pytest.raises(Exception, match="change is not of type"):
        store.state(ID)


# --- ports


def container(*ports: Port, bound: tuple[Port, ...] = (), **fields: object) -> Container:
    return Container(Spec("tiny", id=ID, name="web", ports=ports, **fields), State(ports=bound))  # type: ignore[arg-type]


def test_ports_are_added() -> None:
    assert Publish((Port(80, 8080),)).amended(container(Port(81))).ports == (Port(81), Port(80, 8080))
    for wanted in (Port(90, 8080), Port(80, 8080, "127.0.0.1")):
        with pytest.raises(Conflict, match="port 8080/tcp is already published"):
            Publish((wanted,)).amended(container(Port(80, 8080)))
    Publish((Port(80, 8080, "", "udp"), Port(80, 8080, "127.0.0.2"))).amended(container(Port(80, 8080, "127.0.0.1")))
    with pytest.raises(InvalidInput):
        Publish((Port(80, 70000),)).amended(container())


def test_ports_are_removed_by_what_they_lead_to() -> None:
    two = (Port(80, 8080), Port(80, 8081), Port(81, 8082))
    assert Withdraw((Port(80),)).amended(container(*two)).ports == (Port(81, 8082),)
    assert Withdraw((Port(80, 8081),)).amended(container(*two)).ports == (Port(80, 8080), Port(81, 8082))
    for missing in (Port(82), Port(80, 8082), Port(80, 8080, "", "udp"), Port(80, 8080, "127.0.0.1")):
        with pytest.raises(NotFound, match="publishes no port like"):
            Withdraw((missing,)).amended(container(*two))
    with pytest.raises(NotFound) as told:
        Withdraw((Port(8081),)).amended(container(*two))  # the host's number
    assert told.value.hint == "8081 is its port on the host: port rm web 8081:80/tcp"


def test_a_random_port_is_removed_by_the_number_it_got() -> None:
    running = container(Port(80), Port(80), bound=(Port(80, 50000), Port(80, 50001)))
    assert Withdraw((Port(80, 50001),)).amended(running).ports == (Port(80),)
    assert Withdraw((Port(80),)).amended(running).ports == ()


def test_of_publish_all_those_stay_that_are_not_removed() -> None:
    spec = Withdraw((Port(80),)).amended(container(publish_all=True, exposed=("80/tcp", "53/udp")))
    assert (spec.publish_all, spec.ports) == (False, (Port(53, 0, "", "udp"),))


def test_what_is_withdrawn_is_found_in_the_journal() -> None:
    found = withdrawn([PUBLISHED, *RESERVED], (Port(80, 8080),))
    assert found == [PUBLISHED.replace(ports=(ONE,)), RESERVED[0]]
