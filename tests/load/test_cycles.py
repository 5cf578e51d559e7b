"""Containers that come and go, a thousand times: nothing may be a little more each time.

Through the real command, and through the Python API, where the program and its helper live through all cycles.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.root.nano import Nano

from . import holdings
from .conftest import figures, size

SRC = str(Path(__file__).parents[2] / "src")
SAMPLES = 15
QUIET = ("--network", "none")

# Each a container that ends by itself: options and command, and its exit code.
SHAPES: dict[str, tuple[tuple[str, ...], tuple[str, ...], int]] = {
    "no network": (QUIET, ("true",), 0),
    "bridge": ((), ("sh", "-c", "exit 3"), 3),
    "published port": (("-p", "127.0.0.1::80"), ("true",), 0),
    "anonymous volume": ((*QUIET, "-v", "/data"), ("sh", "-c", "echo x > /data/x"), 0),
    "named volume": ((*QUIET, "-v", "kept:/data"), ("sh", "-c", "echo x >> /data/x"), 0),
    "init": ((*QUIET, "--init"), ("sh", "-c", "sleep 1000 & kill -TERM $$"), 143),
    "terminal": ((*QUIET, "-t"), ("sh", "-c", "echo line; exit 5"), 5),
    "limits": ((*QUIET, "-m", "64m", "--pids-limit", "20", "--cpus", "1.5"), ("true",), 0),
    "host network": (("--network", "host"), ("true",), 0),
    "tmpfs and user": ((*QUIET, "--tmpfs", "/tmp", "-u", "1000:1000", "--read-only"), ("touch", "/tmp/x"), 0),
}


def allowed(cycles: int) -> holdings.Held:
    """What may be more after the last cycle than after the first: others use this machine too. A leak of one object,
    or of 16 KiB, in each tenth cycle is found."""
    objects = max(64, cycles // 10)
    few = {"cgroups": objects, "dying cgroups": objects, **dict.fromkeys(holdings.SLABS, objects)}
    few["processes"] = few["mounts"] = max(400, cycles // 2)  # a container has some 25 mounts
    return {**few, "unreclaimable slab, KiB": 16 * objects + 8192, "per processor, KiB": 16 * objects + 4096}


def judge(title: str, samples: list[holdings.Held], cycles: int, more: list[str]) -> None:
    figures(title, [*more, *holdings.table(samples)])
    grown = holdings.growth(samples)
    limits = allowed(cycles)
    over = [
        f"{name}: {grown[name]:+}, allowed are {most}" for name, most in limits.items() if grown.get(name, 0) > most
    ]
    assert not over, "\n".join(over)


def cycle(nano: Nano, number: int, shape: str) -> None:
    """One container, in one of the ways that people have."""
    options, command, code = SHAPES[shape]
    if number // len(SHAPES) % 3 == 0:
        done = nano("run", "--rm", *options, "tiny", *command, check=False)
        assert done.code == code, done
    elif number // len(SHAPES) % 3 == 1:
        id = nano("run", "-d", *options, "tiny", *command).out.strip()
        assert nano("wait", id).out == f"{code}\n"
        nano("rm", "-v", id)
    else:
        nano("create", "--name", "cycle", *options, "tiny", *command)
        nano("start", "cycle")
        nano("logs", "-f", "cycle")
        nano("rm", "-f", "-v", "cycle")


def test_with_the_command(clean: Nano, progress: Callable[[str], None]) -> None:
    cycles = size("cycles", 30, 800)
    shapes = list(SHAPES)
    for number, shape in enumerate(shapes):  # caches fill: they are no leak
        cycle(clean, number, shape)
    before = len(os.listdir(f"{clean.root}/volumes"))
    samples = [holdings.of_the_machine()]
    begin = time.monotonic()
    for number in range(cycles):
        cycle(clean, number, shapes[number % len(shapes)])
        if (number + 1) * SAMPLES // cycles > number * SAMPLES // cycles:
            samples.append(holdings.of_the_machine())
        progress(f"{number + 1} of {cycles} containers with the command")
    seconds = time.monotonic() - begin
    assert os.listdir(f"{clean.root}/containers") == []
    assert len(os.listdir(f"{clean.root}/volumes")) == before == 1
    shutil.rmtree(f"{clean.root}/volumes/kept")
    how = f"{cycles} containers in {seconds:.1f} s, {seconds / cycles * 1000:.0f} ms each (one to four commands)"
    judge("cycles with the command", samples, cycles, [how])


PROGRAM = """
import json, os, sys, threading, time
sys.path.insert(0, sys.argv[3])
from nanocontainer import Engine
from nanocontainer.container.spec import Limits, Mount, Port, Spec
engine, cycles, threaded = Engine(sys.argv[1], sys.argv[2]), int(sys.argv[4]), sys.argv[5] == "threaded"
if threaded:
    threading.Thread(target=time.sleep, args=(10000,), daemon=True).start()
SHAPES = [
    ({"network": "none"}, ["true"], 0),
    ({}, ["sh", "-c", "exit 3"], 3),
    ({"ports": (Port(80, 0, "127.0.0.1"),)}, ["true"], 0),
    ({"network": "none", "mounts": (Mount("volume", "/data"),)}, ["touch", "/data/x"], 0),
    ({"network": "none", "init": True, "limits": Limits(memory=64 << 20, pids=20)}, ["sh", "-c", "exit 4"], 4),
    ({"network": "none", "tty": True}, ["sh", "-c", "echo line; exit 5"], 5),
]

def one(number):
    options, command, code = SHAPES[number % len(SHAPES)]
    way = number // len(SHAPES) % 3
    if way == 0:
        done = engine.run("tiny", command, **options)
        assert done.exit_code == code, (options, done)
    elif way == 1:
        id = engine.run("tiny", command, detach=True, **options).id
        assert engine.wait(id) == code
        list(engine.logs(id))
        engine.remove(id, volumes=True)
    else:
        id = engine.create(Spec(image="tiny", command=("sleep", "1000"), **options))
        engine.start(id)
        assert engine.execute(id, ["sh", "-c", f"exit {code}"]).exit_code == code
        engine.stop(id, timeout=0)
        engine.remove(id, volumes=True)

for number in range(3 * len(SHAPES)):
    one(number)
for number in range(cycles):
    one(number)
    print(number + 1, flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize("kind", ["alone", "threaded"])
def test_with_the_api(clean: Nano, progress: Callable[[str], None], kind: str) -> None:
    """alone: the program forks keepers itself. threaded: its helper does."""
    cycles = size("api_cycles", 18, 200)
    program = subprocess.Popen(
        [sys.executable, "-IS", "-c", PROGRAM, clean.root, clean.runroot, SRC, str(cycles), kind],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=clean.env, text=True, bufsize=1,
    )  # fmt: skip
    assert program.stdin
    assert program.stdout
    machine, itself, helper = [], [], []
    begin = time.monotonic()
    for line in program.stdout:
        number = int(line)
        if number == 1 or number * SAMPLES // cycles > (number - 1) * SAMPLES // cycles:
            machine.append(holdings.of_the_machine())
            itself.append(holdings.of_a_process(program.pid))
            if kind == "threaded":
                helper.append(holdings.of_a_process(_helper(program.pid)))
        progress(f"{number} of {cycles} containers with the API, {kind}")
        program.stdin.write("\n")
    program.stdin.close()
    program.stdout.close()
    assert program.wait(30) == 0
    seconds = time.monotonic() - begin
    assert number == cycles
    assert os.listdir(f"{clean.root}/containers") == []
    assert os.listdir(f"{clean.root}/volumes") == []
    how = [f"{cycles} containers in {seconds:.1f} s, {seconds / cycles * 1000:.0f} ms each", "the program:"]
    how += holdings.table(itself)
    if helper:
        how += ["its helper:", *holdings.table(helper)]
    judge(f"cycles with the API, {kind}", machine, cycles, [*how, "the machine:"])
    for held in (itself, helper):
        if held:
            grown = holdings.growth(held)
            assert grown["files"] == 0, grown
            assert grown["anonymous, KiB"] < 1024, grown  # an allocator comes to rest slowly


def _helper(pid: int) -> int:
    """The child that forks for a program with threads: it has no other that lives on."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    helpers = [int(child) for child in children if b"zygote" in Path(f"/proc/{child}/cmdline").read_bytes()]
    assert len(helpers) == 1, json.dumps(children)
    return helpers[0]
