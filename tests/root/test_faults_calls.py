"""Each system call of a start, an exec and an end fails once: a clear word, nothing half made, nothing left.

faulting.py says how. After each case: what the command said is for people; what exists is whole; one `rm -f` takes all
away, and the machine is as it was; and the same start, tried again, succeeds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

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
EVERY = int(os.environ.get("NANOCONTAINER_FAULTS_EVERY", "0"))  # 1: each call with each of its errors


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


def cases(faults: Faults, nano: Nano, words: tuple[str, ...]) -> Iterator[tuple[int, int]]:
    """(n, with which error), for n until no call fails any more."""
    for turn in range(4 if EVERY else 1):
        for n in range(int(os.environ.get("FAULTS_AT", "1")), 5000):
            yield n, turn if EVERY else n
            if not faults.failed:
                break


@pytest.mark.timeout(900)
@pytest.mark.parametrize("shape", SHAPES)
def test_each_call_of_a_start(clean: Nano, faults: Faults, shape: str) -> None:
    words = SHAPES[shape]
    before = census.take()
    wrong, count, failures = [], 0, 0
    for n, turn in cases(faults, clean, words):
        ended = command(clean, *words, faults=faults, at=n, turn=turn)
        failed = faults.failed
        if not failed:
            continue
        count += 1
        failures += ended.code != 0
        note(shape, failed, ended)
        found = [wrong_words(ended)]
        if shape == "whole" and ended.code not in (7, 125, 1):
            found.append(f"exit code {ended.code}: {ended.err}")
        listed = command(clean, "ps", "-a", "--format", "{{.Names}} {{.State}} {{.Status}}")
        if listed.code or listed.err:
            found.append(f"ps: {listed.err}")
        if ended.code and "running" in listed.out:
            found.append(f"said that it failed, and runs: {ended.err}")
        if ended.code and "--rm" in words and listed.out:
            found.append(f"was to be removed, and is there: {listed.out}")
        if ended.code == 0 and shape not in ("whole", "create") and "running" not in listed.out:
            found.append(f"said nothing, and does not run: {listed.out}")
        if ended.code and listed.out:
            again = command(clean, "start", "it") if shape != "create" else command(clean, "inspect", "it")
            if again.code:
                found.append(f"what is kept cannot be started: {again.err}")
        if listed.out:
            removed = command(clean, "rm", "-f", "-v", "it")
            if removed.code or removed.err:
                found.append(f"rm -f: {removed.err}")
        found += census.settle(before)
        if found := [line for line in found if line]:
            wrong.append(f"{n}: {failed}\n    " + "\n    ".join(found))
            clean.remove_all()
            before = census.take()
    assert not wrong, f"{len(wrong)} of {count} cases\n" + "\n".join(wrong[:40])
    assert count > 30
    assert failures > count / 3
