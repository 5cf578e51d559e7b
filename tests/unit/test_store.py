"""Containers on disk: names are claimed once whatever the hurry, broken files are named, references are resolved."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from nanocontainer.container.lifecycle import Lifecycle
from nanocontainer.container.locks import Lock, holder
from nanocontainer.container.spec import Container, Limits, Mount, Port, Rate, Spec, State
from nanocontainer.container.store import ContainerStore
from nanocontainer.errors import Conflict, Corrupt, InvalidInput, NanoError, NotFound
from nanocontainer.paths import Paths, new_id


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(f"{tmp_path}/state", f"{tmp_path}/run")


@pytest.fixture
def store(paths: Paths) -> ContainerStore:
    return ContainerStore(paths)


def make(store: ContainerStore, id: str = "", name: str = "", created: str = "2020") -> str:
    id = id or new_id()
    spec = Spec(image="tiny", id=id, name=name or f"n{id[:8]}", created=created)
    store.claim_name(spec.name, id, store.exists)
    store.make(spec, os.path.dirname(store.paths.state))
    store.save(id, State())
    return id


# --- names


def test_a_name_is_claimed_and_given_back(store: ContainerStore) -> None:
    one, other = new_id(), new_id()
    assert store.claim_name("web", one, lambda _: True) == "web"
    with pytest.raises(Conflict, match="already in use"):
        store.claim_name("web", other, lambda _: True)
    store.release_name("web", other)  # not its own
    assert store.name_owner("web") == one
    store.release_name("web", one)
    assert os.listdir(store.paths.names) == []
    assert store.claim_name("web", other, lambda _: True) == "web"


def test_a_dead_owners_name_is_free(store: ContainerStore) -> None:
    one, other = new_id(), new_id()
    store.claim_name("web", one, lambda _: True)
    assert store.claim_name("web", other, lambda id: id != one) == "web"
    assert store.name_owner("web") == other


def test_random_names_differ(store: ContainerStore) -> None:
    names = {store.claim_name("", new_id(), lambda _: True) for _ in range(300)}
    assert len(names) == 300


@pytest.mark.parametrize("name", ["../up", "a", "a/b", ""])
def test_a_bad_name_is_refused_before_anything_is_made(store: ContainerStore, name: str) -> None:
    if name:
        with pytest.raises(InvalidInput):
            store.claim_name(name, new_id(), lambda _: True)
    assert not os.path.exists(store.paths.names) or os.listdir(store.paths.names) == []


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_what_is_no_claim_stands_in_nobodys_way(store: ContainerStore, kind: str) -> None:
    os.makedirs(f"{store.paths.names}/web/below") if kind == "directory" else os.makedirs(store.paths.names)
    if kind == "file":
        Path(f"{store.paths.names}/web").touch()
    assert store.claim_name("web", new_id(), lambda _: True) == "web"


def test_many_processes_claim_one_name_and_one_gets_it(store: ContainerStore) -> None:
    go, ready = os.pipe()
    children = []
    for _ in range(16):
        pid = os.fork()
        if pid == 0:
            code = 2
            try:
                os.close(ready)
                os.read(go, 1)
                store.claim_name("web", new_id(), lambda _: True)
                code = 0
            except Conflict:
                code = 1
            finally:
                os._exit(code)
        children.append(pid)
    os.close(go)
    os.close(ready)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    assert sorted(codes) == [0] + [1] * 15


def test_many_processes_take_over_a_dead_name_and_one_has_it_in_the_end(store: ContainerStore) -> None:
    store.claim_name("web", new_id(), lambda _: True)
    ids = [new_id() for _ in range(8)]
    children = []
    for id in ids:
        pid = os.fork()
        if pid == 0:
            code = 2
            try:
                store.claim_name("web", id, lambda owner: owner in ids)
                code = 0
            except Conflict:
                code = 1
            finally:
                os._exit(code)
        children.append(pid)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    assert codes.count(0) == 1
    assert 2 not in codes
    assert store.name_owner("web") == ids[codes.index(0)]


# --- references


def test_resolve(store: ContainerStore) -> None:
    one = make(store, "aa" + "0" * 62, "web")
    other = make(store, "ab" + "0" * 62, "ab")  # a name goes before a prefix
    assert store.resolve(one) == one
    assert store.resolve("web") == one
    assert store.resolve("aa") == one
    assert store.resolve("ab") == other
    with pytest.raises(InvalidInput, match="ambiguous"):
        store.resolve("a")


@pytest.mark.parametrize("ref", ["", "nope", "../names", "..", ".", "a\0b", "/", "x" * 5000, "\udcff", "AA", "f" * 64])
def test_what_means_nothing_is_not_found(store: ContainerStore, ref: str) -> None:
    make(store, "aa" + "0" * 62, "web")
    with pytest.raises(NotFound):
        store.resolve(ref)


# --- the files


def test_a_container_survives_the_disk(store: ContainerStore) -> None:
    id = make(store, name="web")
    assert store.load(id) == Container(Spec(image="tiny", id=id, name="web", created="2020"), State())
    assert store.spec(id).name == "web"


def test_newest_first(store: ContainerStore) -> None:
    ids = [make(store, created=created) for created in ("2021", "2023", "2022")]
    assert [one.id for one in store.list()] == [ids[1], ids[2], ids[0]]


BROKEN = [b"", b"{", b"null", b"[]", b"3", b'{"name": 3}', b"\xff", b'{"image": "x"} x']


@pytest.mark.parametrize("content", BROKEN)
def test_a_broken_file_is_named_and_the_rest_goes_on(store: ContainerStore, content: bytes) -> None:
    good, bad = make(store), make(store)
    path = f"{store.paths.container(bad)}/spec.json"
    Path(path).write_bytes(content)
    said: list[NanoError] = []
    assert [one.id for one in store.list(said.append)] == [good]
    assert len(said) == 1
    assert isinstance(said[0], Corrupt)
    assert path in said[0].why
    assert "rm -f" in said[0].hint


@pytest.mark.parametrize(
    "change",
    [
        ("state", {"status": 5}), ("state", {"pid": "7"}), ("state", {"pid": True}), ("state", {"pid": 1.5}),
        ("state", {"ports": [3]}), ("state", {"ports": [{"container_port": "x"}]}), ("state", {"groups": {}}),
        ("spec", {"created": None}), ("spec", {"labels": {"a": 1}}), ("spec", {"limits": {"pids": "many"}}),
        ("spec", {"mounts": ["/x"]}), ("spec", {"args": [["sh"]]}), ("spec", {"name": "../x"}),
        ("spec", {"id": "0" * 64}),
    ],
)  # fmt: skip
def test_fields_of_another_type_are_a_broken_file(store: ContainerStore, change: tuple[str, dict[str, object]]) -> None:
    good, bad = make(store), make(store)
    path = Path(f"{store.paths.container(bad)}/{change[0]}.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **change[1]}))
    said: list[NanoError] = []
    assert [one.id for one in store.list(said.append)] == [good]
    assert isinstance(said[0], Corrupt)
    assert str(path) in said[0].why


def test_every_field_with_a_value_is_read_back(store: ContainerStore) -> None:
    id = make(store)
    store.save(id, State(ports=(Port(80),), groups=("a", "b"), pid=3))
    assert store.state(id).ports == (Port(80),)
    id = new_id()
    full = Spec(
        image="tiny", id=id, entrypoint=("a",), mounts=(Mount("bind", "/x", options={"a": "b"}),), labels={"a": "b"},
        limits=Limits(cpus=2, rates=(Rate("read_bps", "/dev/x", 1),)), console_size=(1, 2),
    )  # fmt: skip
    store.make(full, os.path.dirname(store.paths.state))
    assert store.spec(id) == full


def test_a_foreign_id_does_not_save_a_container_from_its_removal(store: ContainerStore) -> None:
    id, other = make(store, name="bad"), make(store, name="good")
    path = Path(f"{store.paths.container(id)}/spec.json")
    path.write_text(Path(f"{store.paths.container(other)}/spec.json").read_text())
    Lifecycle(store.paths).remove(id, anonymous=True)
    assert store.ids() == [other]
    assert os.listdir(store.paths.names) == ["good"]


def test_a_half_made_container_is_not_listed(store: ContainerStore) -> None:
    id = make(store)
    os.unlink(f"{store.paths.container(id)}/state.json")
    said: list[NanoError] = []
    assert store.list(said.append) == []
    assert said == []
    with pytest.raises(NotFound):
        store.state(id)


def test_remove_and_finish_a_removal(store: ContainerStore) -> None:
    id = make(store, name="web")
    os.makedirs(store.paths.live(id))
    store.remove(id, "web")
    assert os.listdir(store.paths.containers) == os.listdir(store.paths.names) == []
    assert not os.path.exists(store.paths.live(id))
    store.remove(id, "web")  # twice is fine
    other = make(store)
    os.rename(store.paths.container(other), f"{store.paths.containers}/.rm-{other}")
    os.makedirs(store.paths.live(other))
    store.finish_removals()
    assert os.listdir(store.paths.containers) == []
    assert not os.path.exists(store.paths.live(other))


def test_a_tree_as_deep_as_a_container_likes_is_removed(store: ContainerStore) -> None:
    id = make(store)
    home = os.getcwd()
    try:
        os.chdir(f"{store.paths.container(id)}/upper")
        for _ in range(1500):
            os.mkdir("d")
            os.symlink("/", "out")
            os.chdir("d")
    finally:
        os.chdir(home)
    store.remove(id, "")
    assert os.listdir(store.paths.containers) == []


# --- locks


def test_a_lock_excludes_and_names_its_holder(paths: Paths) -> None:
    lock = Lock(paths, "x")
    assert holder(paths, "x") == 0
    assert lock.take()
    pid = os.fork()
    if pid == 0:
        code = 0 if holder(paths, "x") == os.getppid() and not Lock(paths, "x").take() else 1
        os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    lock.release()
    assert holder(paths, "x") == 0
    assert Lock(paths, "x").take()


def test_looking_at_our_own_lock_does_not_drop_it(paths: Paths) -> None:
    lock = Lock(paths, "x")
    lock.take()
    assert holder(paths, "x") == os.getpid()
    assert not Lock(paths, "x").take()
    pid = os.fork()
    if pid == 0:
        os._exit(0 if holder(paths, "x") == os.getppid() else 1)
    assert os.waitpid(pid, 0)[1] == 0
    lock.release()


def test_threads_of_one_process_exclude_each_other(paths: Paths) -> None:
    got: list[Lock] = []
    start = threading.Barrier(8)

    def take() -> None:
        lock = Lock(paths, "x")
        start.wait()
        if lock.take():
            got.append(lock)

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1
    got[0].release()


def test_a_child_does_not_inherit_a_lock(paths: Paths) -> None:
    lock = Lock(paths, "x")
    lock.take()
    pid = os.fork()
    if pid == 0:
        lock.fd = -1  # the table is inherited, the lock is not
        os._exit(0 if not Lock(paths, "x").take() else 1)
    assert os.waitpid(pid, 0)[1] == 0
    lock.release()
    pid = os.fork()
    if pid == 0:
        os._exit(0 if Lock(paths, "x").take() else 1)
    assert os.waitpid(pid, 0)[1] == 0


@pytest.mark.parametrize("left", [b"", bytes(300)])
def test_a_state_that_a_power_cut_emptied(tmp_path: Path, left: bytes) -> None:
    """The container has ended, and what it wrote is not lost with a file of a few numbers."""
    store, id = ContainerStore(Paths(str(tmp_path / "state"), str(tmp_path / "run"))), "ab" * 32
    store.make(Spec("tiny", id=id, name="web"), str(tmp_path))
    Path(store.paths.container(id), "state.json").write_bytes(left)
    state = store.load(id).state
    assert (state.status, state.exit_code, state.error) == ("exited", 255, "its state was lost in a power cut")
    Path(store.paths.container(id), "state.json").write_bytes(b"{")
    with pytest.raises(Corrupt, match=r"state\.json"):
        store.load(id)
