"""A container's end, with an ordinary process in its place: everybody learns the exit code, whatever else fails."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from nanocontainer.container import locks
from nanocontainer.container import watch as watching
from nanocontainer.container.attach import Client, Session, listen
from nanocontainer.container.lifecycle import Lifecycle
from nanocontainer.container.spec import Spec, State
from nanocontainer.container.watch import Held, watch
from nanocontainer.paths import Paths, new_id


@pytest.fixture
def life(tmp_path: Path) -> Lifecycle:
    return Lifecycle(Paths(f"{tmp_path}/state", f"{tmp_path}/run"))


@pytest.fixture
def held(life: Lifecycle) -> Iterator[Held]:
    """A container, whose process has ended with 7."""
    id = new_id()
    life.store.make(Spec(image="tiny", id=id, name="box"), os.path.dirname(life.paths.state))
    life.store.save(id, State(status="running", pid=1, keeper=1, boot=life.boot))
    os.makedirs(life.paths.live(id))
    lock = os.open(f"{life.paths.live(id)}/keeper.lock", os.O_RDWR | os.O_CREAT)
    pid = os.fork()
    if pid == 0:
        os._exit(7)
    pidfd, listener = os.pidfd_open(pid), listen(f"{life.paths.live(id)}/attach.sock").detach()
    state, run = life.paths.state, life.paths.run
    yield Held(id=id, state=state, run=run, pid=pid, pidfd=pidfd, lock=lock, listener=listener)
    os.close(pidfd)
    os.close(lock)


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_keeps_the_exit_code_from_nobody(
    held: Held, life: Lifecycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(life, "ended", full)
    session, far = Session.pair()
    with pytest.raises(OSError, match="No space"):
        watch(held, None, life=life, clients=(Client(far, stdin=False),))
    assert session.receive() == ("x", b"7")
    session.close()
    monkeypatch.undo()
    swept = life.settle(held.id).state
    assert (swept.status, swept.exit_code, swept.error) == ("exited", 7, "")


def test_when_not_even_that_can_be_written(held: Held, life: Lifecycle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(life, "ended", full)
    monkeypatch.setattr(watching, "write_file", full)
    session, far = Session.pair()
    with pytest.raises(OSError, match="No space"):
        watch(held, None, life=life, clients=(Client(far, stdin=False),))
    assert session.receive() == ("x", b"7")
    session.close()
    monkeypatch.undo()
    swept = life.settle(held.id).state
    assert (swept.status, swept.exit_code, swept.error) == ("exited", 255, "keeper lost")


def test_an_engine_that_cannot_be_loaded_any_more(
    held: Held, life: Lifecycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small keeper loads it when the container has ended; by then the sources may be moved, or new ones."""
    monkeypatch.setitem(watching.sys.modules, "nanocontainer.container.lifecycle", SimpleNamespace())  # type: ignore[arg-type]
    with pytest.raises(ImportError):
        watch(held, None)
    monkeypatch.undo()
    assert life.settle(held.id).state.exit_code == 7


def test_a_small_keeper_knows_its_lock(held: Held, life: Lifecycle, monkeypatch: pytest.MonkeyPatch) -> None:
    """To look who holds it would open and close its file, and so drop it (fcntl(2))."""
    fcntl.lockf(held.lock, fcntl.LOCK_EX)
    seen = []

    def ended(life: Lifecycle, *_: object, **__: object) -> None:
        seen.append(life.running(held.id))
        if (pid := os.fork()) == 0:
            os._exit(life.running(held.id))
        seen.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1)

    monkeypatch.setattr(locks, "_ours", {})  # as after execve(2)
    monkeypatch.setattr(Lifecycle, "ended", ended)
    watch(held, None)
    assert seen == [True, True]


# --- making itself small


class Idle:
    """Streams with nothing to do."""

    def at_rest(self) -> dict[str, int]:
        return {}


@pytest.mark.parametrize("program", ["exit(1)", "import nowhere", "(", None])
def test_a_keeper_that_cannot_make_itself_small_stays_as_it_is(
    held: Held, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str | None
) -> None:
    (tmp_path / "resume.py").write_text(program or "")
    monkeypatch.setattr(watching, "_PROGRAM", str(tmp_path / "resume.py"))
    monkeypatch.setattr(watching, "AFTER", -1.0)
    if program is None:
        monkeypatch.setattr(watching.sys, "executable", "/nowhere/python")
    shrinking = watching._Shrinking(held, None)
    shrinking.streams = Idle()  # type: ignore[assignment]
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        shrinking.due()
    assert os.listdir("/proc/self/fd") == before
    assert not any(os.get_inheritable(fd) for fd in held.files)
    assert shrinking.due() == float("inf")
    os.waitpid(held.pid, 0)
    os.close(held.listener)


def test_a_failed_execution_is_not_tried_again(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def refuse(*command: object) -> None:
        assert all(os.get_inheritable(fd) for fd in held.files)
        tried.append(command)
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(watching, "AFTER", -1.0)
    monkeypatch.setattr(watching.os, "execv", refuse)
    shrinking = watching._Shrinking(held, None)
    shrinking.streams = Idle()  # type: ignore[assignment]
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        shrinking.due()
    assert len(tried) == 1
    assert os.listdir("/proc/self/fd") == before
    assert not any(os.get_inheritable(fd) for fd in held.files)
    os.waitpid(held.pid, 0)
    os.close(held.listener)
