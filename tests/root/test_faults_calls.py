"""Each system call of a start, an exec and an end fails once: a clear word, nothing half made, nothing left.

faulting.py says how. After each case: what the command said is for people; what exists is whole; one `rm -f` takes all
away, and the machine is as it was; and the same start, tried again, succeeds.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from nanocontainer.container.watch import AFTER
from nanocontainer.kernel.facts import probe

from . import census
from .faulting import Ended, Faults, command, wrong_words
from .nano import Nano

LIMITS = ("-m", "64m") if "memory" in {*probe().controllers, *probe().cgroup1} else ()
SHAPES: dict[str, tuple[str, ...]] = {
    "none": ("run", "-d", "--name", "it", "--network", "none", "tiny", "sleep", "1000"),
    "bridge": (
        "run", "-d", "--name", "it", "-p", "127.0.0.1:18097:80", "-v", "/data", "--init", *LIMITS,
        "tiny", "sleep", "1000",
    ),
    "tty": ("run", "-d", "-t", "--rm", "--name", "it", "--network", "none", "tiny", "sleep", "1000"),
    "whole": ("run", "--rm", "--name", "it", "--network", "none", "-v", "/data", "tiny", "sh", "-c", "exit 7"),
    "create": ("create", "--name", "it", "--network", "none", "tiny", "true"),
}  # fmt: skip
EVERY = bool(os.environ.get("NANOCONTAINER_FAULTS_EVERY"))  # each call with each of its errors: takes half an hour
STRIDES = {"none": 3, "bridge": 2, "tty": 3, "whole": 2}  # most of their calls are among those of the others


@pytest.fixture
def faults(clean: Nano) -> Iterator[Faults]:
    command(clean, "info")  # what is loaded once is loaded
    for shape in SHAPES.values():
        command(clean, *shape)
        command(clean, "rm", "-f", "-v", "it")
    yield Faults()


def note(shape: str, failed: str, ended: Ended) -> None:
    """For the table of faults."""
    if path := os.environ.get("NANOCONTAINER_FAULTS_TABLE"):
        with open(path, "a") as table:
            table.write(f"{shape} | {failed} | {ended.code} | {ended.err.strip()!r}\n")


def cases(faults: Faults, stride: int = 1) -> Iterator[tuple[int, int]]:
    """(n, with which of its errors the n-th call fails), until there is no n-th call."""
    for turn in range(4 if EVERY else 1):
        for n in range(1, 5000, 1 if EVERY else stride):
            yield n, turn if EVERY else n
            if not faults.failed:
                break


class Bench:
    """Cases of one kind, and what was wrong with them."""

    def __init__(self, nano: Nano, kind: str) -> None:
        self.nano, self.kind = nano, kind
        self.before = census.take()
        self.wrong: list[str] = []
        self.count = self.failures = 0

    def judge(self, n: int, failed: str, ended: Ended, found: list[str]) -> None:
        """After a case: take all away, and see whether it is gone."""
        self.count += 1
        self.failures += ended.code not in (0, 7)
        note(self.kind, failed, ended)
        found.append(wrong_words(ended))
        listed = command(self.nano, "ps", "-aq")
        if listed.code or listed.err:
            found.append(f"ps: {listed.err}")
        if listed.out:
            removed = command(self.nano, "rm", "-f", "-v", "it")
            if removed.code or removed.err:
                found.append(f"rm -f: {removed.err}")
        found += census.settle(self.before)
        if found := [line for line in found if line]:
            self.wrong.append(f"{n}: {failed}\n    " + "\n    ".join(found))
            self.nano.remove_all()
            self.before = census.take()

    def result(self, least: int) -> None:
        print(f"{self.kind}: {self.count} calls failed once, {self.failures} commands with them")
        assert not self.wrong, f"{len(self.wrong)} of {self.count} cases\n" + "\n".join(self.wrong[:40])
        assert self.count >= least
        assert self.failures


def what_is_there(nano: Nano) -> str:
    return command(nano, "ps", "-a", "--format", "{{.Names}} {{.State}} {{.Status}}").out


@pytest.mark.timeout(900)
@pytest.mark.parametrize("shape", SHAPES)
def test_each_call_of_a_start(clean: Nano, faults: Faults, shape: str) -> None:
    words, bench = SHAPES[shape], Bench(clean, shape)
    for n, turn in cases(faults, STRIDES.get(shape, 1)):
        ended = command(clean, *words, faults=faults, at=n, turn=turn)
        if not (failed := faults.failed):
            continue
        found = []
        if shape == "whole" and ended.code not in (7, 125, 1):
            found.append(f"exit code {ended.code}: {ended.err}")
        listed = what_is_there(clean)
        deadline = time.monotonic() + 5
        while shape == "whole" and listed and time.monotonic() < deadline:
            listed = what_is_there(clean)  # its command ends by itself, also where who ran it has failed to look on
        done = "cannot write the output" in ended.err  # all the same
        if ended.code and "running" in listed and not done:
            found.append(f"said that it failed, and runs: {ended.err}")
        if ended.code and "--rm" in words and listed and not done:
            found.append(f"was to be removed, and is there: {listed}")
        if ended.code == 0 and shape not in ("whole", "create") and "running" not in listed:
            found.append(f"said nothing, and does not run: {listed}")
        if ended.code and listed:
            again = command(clean, "start", "it") if shape != "create" else command(clean, "inspect", "it")
            if again.code:
                found.append(f"what is kept cannot be started: {again.err}")
        bench.judge(n, failed, ended, found)
    bench.result(30)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("tty", [False, True], ids=["pipes", "tty"])
def test_each_call_of_an_exec(clean: Nano, faults: Faults, tty: bool) -> None:
    words = ("exec", *(["-d", "-t"] if tty else []), "it", "sh", "-c", "exit 7")
    command(clean, *SHAPES["none"])
    time.sleep(AFTER + 1)  # its keeper makes itself small
    wrong, count, failures = [], 0, 0
    before = census.take()
    for n, turn in cases(faults, 2):
        ended = command(clean, *words, faults=faults, at=n, turn=turn)
        if not (failed := faults.failed):
            continue
        note("exec", failed, ended)
        count, failures = count + 1, failures + (ended.code not in (0, 7))
        found = [wrong_words(ended), *census.settle(before)]
        if (again := command(clean, "exec", "it", "sh", "-c", "exit 7")).code != 7:
            found.append(f"the next exec: {again.code} {again.err}")
        if found := [line for line in found if line]:
            wrong.append(f"{n}: {failed}\n    " + "\n    ".join(found))
            before = census.take()
    print(f"exec: {count} calls failed once, {failures} commands with them")
    assert not wrong, f"{len(wrong)} of {count} cases\n" + "\n".join(wrong[:40])
    assert count > 30
    assert failures


@pytest.mark.timeout(900)
@pytest.mark.parametrize("end", ["stop -t 0", "rm -f -v", "kill"])
def test_each_call_of_an_end(clean: Nano, faults: Faults, end: str) -> None:
    """In the command, and in the keeper, which takes the container down."""
    bench = Bench(clean, end)
    for n, turn in cases(faults, 2 if end == "rm -f -v" else 3):
        started = command(clean, *SHAPES["bridge"], faults=faults)
        assert started.code == 0, started.err
        ended = command(clean, *end.split(), "it", faults=faults, at=n, turn=turn)
        if not (failed := faults.failed):
            command(clean, "rm", "-f", "-v", "it")
            continue
        found = []
        listed = command(clean, "ps", "-a", "--format", "{{.Names}} {{.State}} {{.Status}}").out
        if ended.code == 0 and ("running" in listed or (listed and end.startswith("rm"))):
            found.append(f"said nothing, and did nothing: {listed}")
        if "exited" in listed and not any(f"({code})" in listed for code in (137, 143, 255)):
            found.append(f"lost its exit code: {listed}")
        bench.judge(n, failed, ended, found)
    bench.result(20)
