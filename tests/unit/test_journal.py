"""The journal, and recover(): the one function that takes back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from nanocontainer.errors import NanoError
from nanocontainer.plan.journal import Journal, boot_id, read, recover
from nanocontainer.plan.recording import recording_world
from nanocontainer.plan.step import Step, World

from .own_steps import private_kinds

undone: list[str] = []


with private_kinds():

    class OnDisk(Step):
        side = "host"
        residue = "disk"
        name: str

        def undo(self, world: World) -> None:
            if self.name.startswith("bad"):
                raise OSError(16, "busy")
            if self.name.startswith("worse"):
                raise NanoError("cannot", "undo")
            undone.append(self.name)

    class InKernel(OnDisk):
        residue = "kernel"

    class WithInit(Step):
        name: str = ""

    OWN = dict(Step.kinds)


@pytest.fixture(autouse=True)
def known() -> Iterator[None]:
    """The steps of this file are known, under the names of real ones too."""
    with private_kinds():
        Step.kinds.update(OWN)
        yield


@pytest.fixture(autouse=True)
def nothing_undone() -> None:
    undone.clear()


@pytest.fixture
def path(tmp_path: Path) -> str:
    return f"{tmp_path}/journal"


def note(path: str, *steps: Step, boot: str = "this") -> None:
    journal = Journal(path, boot)
    for step in steps:
        journal.note(step)
    journal.close()


def test_newest_first_then_the_journal_goes(path: str) -> None:
    note(path, OnDisk("a"), InKernel("b"), OnDisk("c"))
    assert recover(path, recording_world(), "this") == []
    assert undone == ["c", "b", "a"]
    assert not os.path.exists(path)


def test_no_journal_is_fine_and_so_is_twice(path: str) -> None:
    assert recover(path, recording_world(), "this") == []
    note(path, OnDisk("a"))
    recover(path, recording_world(), "this")
    assert recover(path, recording_world(), "this") == []
    assert undone == ["a"]


def test_nothing_is_written_until_a_step_is_noted(path: str) -> None:
    Journal(path, "x").close()
    assert not os.path.exists(path)


def test_after_a_reboot_the_kernels_things_are_gone_and_files_are_not(path: str) -> None:
    note(path, OnDisk("a"), InKernel("b"), boot="before")
    assert recover(path, recording_world(), "now") == []
    assert undone == ["a"]


def test_what_cannot_be_undone_is_said_the_rest_goes_on_and_the_journal_stays(path: str) -> None:
    note(path, OnDisk("a"), OnDisk("bad"), InKernel("worse"), OnDisk("d"))
    failures = recover(path, recording_world(), "this")
    assert undone == ["d", "a"]
    assert failures == ["InKernel: cannot: undo", "OnDisk: busy"]
    assert len(recover(path, recording_world(), "this")) == 2  # tried again
    assert os.path.exists(path)


JUNK = (b'{"boot": "this", "step": "OnDi', b"\xff\xfe", b"null", b"[]", b"{}", b'"', b"\0" * 40)


@pytest.mark.parametrize("junk", JUNK)
@pytest.mark.parametrize("where", ["end", "middle"])
def test_half_written_lines_hurt_no_other(path: str, junk: bytes, where: str) -> None:
    note(path, OnDisk("a"))
    with open(path, "ab") as file:
        file.write(junk)
    if where == "middle":  # as when the disk was full, and a later start goes on with the same journal
        note(path, OnDisk("b"))
    assert recover(path, recording_world(), "this") == []
    assert undone == (["b", "a"] if where == "middle" else ["a"])


@pytest.mark.parametrize(
    "line",
    [
        '{"boot": "this", "step": "FromTheFuture", "data": {}}',
        '{"boot": "this", "step": "OnDisk", "data": {}}',  # a field is missing
        '{"boot": "this", "step": "OnDisk", "data": 3}',
        '{"boot": "this", "step": "WithInit", "data": {}}',  # which cannot be undone
    ],
)
def test_steps_that_this_version_cannot_undo_are_named_and_kept(path: str, line: str) -> None:
    note(path, OnDisk("a"))
    with open(path, "a") as file:
        file.write(line + "\n")
    failures = recover(path, recording_world(), "this")
    assert undone == ["a"]
    assert len(failures) == 1
    assert "unknown to this version" in failures[0]
    assert os.path.exists(path)


def test_a_short_write_is_a_full_disk(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(path, "this")
    journal.note(OnDisk("a"))
    monkeypatch.setattr(os, "write", lambda fd, data: len(data) // 2)
    with pytest.raises(OSError, match="full"):
        journal.note(OnDisk("b"))
    monkeypatch.undo()
    journal.close()
    assert [entry.name for entry in read(path)] == ["OnDisk"]


def test_every_step_that_leaves_something_is_known_to_whoever_recovers() -> None:
    """recover() finds steps by name: those with a residue must be imported by the module that calls it."""
    import subprocess
    import sys

    code = (
        "from nanocontainer.container import residues\n"  # Lifecycle.take_down() loads it before it recovers
        "from nanocontainer.plan.step import Step\n"
        "known = {*Step.kinds, *(name for name in Step.elsewhere if Step.named(name))}\n"
        "import importlib, pkgutil, nanocontainer\n"
        "for part in ('rootfs', 'runtime', 'network', 'image', 'container'):\n"
        "    package = importlib.import_module(f'nanocontainer.{part}')\n"
        "    for found in pkgutil.iter_modules(package.__path__):\n"
        "        importlib.import_module(f'nanocontainer.{part}.{found.name}')\n"
        "print(*(name for name, kind in Step.kinds.items() if kind.residue != 'init' and name not in known))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == []


def test_boot_id() -> None:
    assert len(boot_id()) == 36
    assert boot_id() == boot_id()
