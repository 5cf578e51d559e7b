"""Sixteen commands in parallel on the same names, ids, ports, images: nothing hangs, is lost or given twice."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.root.images import push
from tests.root.nano import Nano, Result

from .conftest import figures, size
from .mix import BOUND, NAMES, Claims, Mix, all_at_once, small_image

WORKERS = 16
SRC = str(Path(__file__).parents[2] / "src")


@pytest.fixture
def images(clean: Nano, registry: str, tmp_path: Path) -> tuple[tuple[str, ...], str, str]:
    """(images that are here, an archive of the second, a reference that can be pulled)."""
    if not shutil.which("skopeo"):
        pytest.skip("skopeo is not there: ./check setup installs it")
    layout, archive = small_image(tmp_path)
    clean("load", "-i", str(archive))
    return ("tiny", "app:1"), str(archive), push(layout, registry, "mix:1")


def stored(nano: Nano) -> list[str]:
    """The files of the image store, without locks."""
    place = Path(nano.root, "images")
    found = (os.path.relpath(f"{directory}/{name}", place) for directory, _, names in os.walk(place) for name in names)
    return sorted(name for name in found if not name.endswith(".lock") and not name.startswith("layers/"))


def test_random_commands(
    clean: Nano, images: tuple[tuple[str, ...], str, str], progress: Callable[[str], None]
) -> None:
    seed = size("seed", int.from_bytes(os.urandom(4), "big"), int.from_bytes(os.urandom(4), "big"))
    many = size("commands", 15, 250)  # of each worker
    mix = Mix(clean, seed, *images)
    claims = Claims(clean)
    workers = [threading.Thread(target=mix.work, args=(number, many)) for number in range(WORKERS)]
    begin = time.monotonic()
    for thread in (claims, *workers):
        thread.start()
    try:
        while any(worker.is_alive() for worker in workers):
            progress(f"{sum(mix.verbs.values())} of {many * WORKERS} random commands")
            time.sleep(0.2)
            if sum(worker.is_alive() for worker in workers) < WORKERS / 2:  # nobody may be left to let it go on
                for name in NAMES:
                    clean("unpause", name, check=False)
    finally:
        mix.stop.set()
        for worker in workers:
            worker.join()
        claims.stop.set()
        claims.join()
    seconds = time.monotonic() - begin
    total = sum(mix.verbs.values())
    head = f"seed {seed}: {total} commands of {WORKERS} workers in {seconds:.1f} s"
    figures("random commands in parallel", [head, f"claims were looked at {claims.looks} times", *mix.table()])
    clean.remove_all()
    for name in clean("images", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}").out.splitlines():
        if not name.startswith("tiny:"):
            clean("rmi", "-f", name.split()[1], check=False)
    for volume in Path(clean.root, "volumes").glob("*"):
        if volume.name.startswith("mix-"):
            shutil.rmtree(volume)
    findings = mix.findings + claims.findings
    assert not findings, f"seed {seed}: {len(findings)} findings\n" + "\n\n".join(findings[:8])
    assert os.listdir(f"{clean.root}/volumes") == []
    assert os.listdir(f"{clean.root}/names") == []


@pytest.mark.parametrize("verb", ["start", "restart -t 0"])
def test_one_container_started_by_all_at_once(clean: Nano, verb: str) -> None:
    """As with docker, all succeed: who comes second waits for the start of the first, and finds it running."""
    clean("create", "--name", "one", "-p", "127.0.0.1:18110:80", "tiny", "sleep", "1000")
    for _ in range(size("starts", 2, 20)):
        answers = all_at_once([lambda: clean(*verb.split(), "one", timeout=BOUND)] * WORKERS)
        assert [answer for answer in answers if isinstance(answer, BaseException)] == []
        assert clean("inspect", "-f", "{{.State.Status}}", "one").out == "running\n"
        clean("stop", "-t", "0", "one")


def test_one_name_for_all_who_want_it(clean: Nano) -> None:
    args = ("run", "-d", "--name", "once", "--network", "none", "tiny", "sleep", "1000")
    answers = all_at_once([lambda: clean(*args, check=False)] * WORKERS)
    codes = sorted(answer.code for answer in answers)  # type: ignore[attr-defined]
    assert codes == [0] + [125] * (WORKERS - 1), answers


def test_one_removal_for_all(clean: Nano) -> None:
    """One of them removes it; to the others it may be gone already, and rm -f takes that for done."""
    for force in (True, False):
        clean("create", "--name", "gone", "--network", "none", "tiny", "true")
        args = ("rm", "-f", "gone") if force else ("rm", "gone")
        answers = all_at_once([lambda args=args: clean(*args, check=False)] * WORKERS)  # type: ignore[misc]
        codes = [answer.code for answer in answers]  # type: ignore[attr-defined]
        assert codes.count(0) == WORKERS if force else codes.count(0) >= 1, answers
        assert all("no such container" in answer.err for answer in answers if answer.code)  # type: ignore[attr-defined]


def tell(nano: Nano, *args: str) -> Result:
    return nano(*args, check=False, timeout=BOUND)


def test_no_exit_code_is_lost(clean: Nano, progress: Callable[[str], None]) -> None:
    """Each container has a code of its own; who runs it, who waits, who is attached and who looks: all learn that one,
    whatever else is done to it meanwhile that does not end it."""
    rounds = size("exit_codes", 2, 25)
    for number in range(rounds):
        codes = {f"c{worker}": 1 + (number * 16 + worker) % 120 for worker in range(4)}
        runs = {
            name: clean.popen(
                "run", "--name", name, "--network", "none", "tiny", "sh", "-c", f"sleep 0.7; exit {code}"
            )
            for name, code in codes.items()
        }  # fmt: skip
        deadline = time.monotonic() + 30
        while len(clean("ps", "-q").out.split()) + len(clean("ps", "-aq", "--filter", "status=exited").out.split()) < 4:
            assert time.monotonic() < deadline
        jobs: list[Callable[[], object]] = []
        for name in codes:
            lines = (["wait"], ["wait"], ["attach", "--no-stdin"], ["inspect"], ["logs", "-f"], ["start"])
            jobs += [partial(tell, clean, *line, name) for line in lines]
            jobs += [partial(tell, clean, "exec", name, "true"), partial(tell, clean, "ps", "-a")]
        answers = all_at_once(jobs)
        assert [answer for answer in answers if isinstance(answer, BaseException)] == []
        for answer in answers:
            assert isinstance(answer, Result)
            if answer.args[0] == "wait":
                assert answer.out == f"{codes[answer.args[-1]]}\n", answer
            elif answer.args[0] == "attach" and not re.search("it is exited|not running", answer.err):
                assert answer.code == codes[answer.args[-1]], answer
        for name, run in runs.items():
            assert run.wait(BOUND) == codes[name], (name, codes[name], run.returncode)
        clean("wait", *codes)  # a start may have come after the end
        for name, code in codes.items():
            assert clean("inspect", "-f", "{{.State.ExitCode}}", name).out == f"{code}\n"
        clean("rm", *codes)
        progress(f"{number + 1} of {rounds} rounds of exit codes")


API = """
import os, random, sys, threading, time
sys.path.insert(0, sys.argv[3])
from nanocontainer import Engine
from nanocontainer.container.spec import Port, Spec
from nanocontainer.errors import Conflict, NanoError, NotFound
seed, many, workers = int(sys.argv[4]), int(sys.argv[5]), int(sys.argv[6])
engine = Engine(sys.argv[1], sys.argv[2])
engine.image("tiny")
NAMES, done, findings, slowest = ("alpha", "beta", "gamma", "delta"), [], [], [0.0]
KINDS = ("create create create create run run run start start start start stop restart restart kill remove "
         "exec exec logs inspect wait wait list").split()

def container(draw, name, code):
    ports = (Port(80, draw.choice((18121, 18122)), "127.0.0.1"),) if draw.random() < 0.5 else ()
    network = "bridge" if ports else draw.choice(("none", "bridge"))
    script = f"echo begin; sleep {draw.random():.2f}; echo end; exit {code}"
    return Spec(image="tiny", name=name, command=("sh", "-c", script), network=network, ports=ports)

def one(draw):
    name, code = draw.choice(NAMES), draw.randrange(11, 20)
    kind = draw.choice(KINDS)
    if kind == "create":
        engine.create(container(draw, name, code))
    elif kind == "run":
        spec = container(draw, name, code)
        found = engine.run("tiny", spec.command, name=name, network=spec.network, ports=spec.ports).exit_code
        assert found in (code, 137, 143), (found, code)
    elif kind == "start":
        engine.start(name)
    elif kind == "stop":
        engine.stop(name, timeout=0)
    elif kind == "restart":
        engine.restart(name, timeout=0)
    elif kind == "kill":
        engine.kill(name)
    elif kind == "remove":
        engine.remove(name, force=draw.random() < 0.5)
    elif kind == "exec":
        found = engine.execute(name, ["sh", "-c", f"cat; exit {code}"], input=b"in" * 1000)
        assert (found.exit_code, found.stdout) == (code, b"in" * 1000) or found.exit_code == 137, found
    elif kind == "logs":
        list(engine.logs(name, follow=draw.random() < 0.5))
    elif kind == "inspect":
        engine.inspect(name)
    elif kind == "wait":
        found = engine.wait(name)
        assert found in (*range(11, 20), 137, 143, 128, 0), found
    else:
        engine.containers(all=True)

def work(number):
    draw = random.Random(f"{seed}-{number}")
    for _ in range(many):
        begin = time.monotonic()
        try:
            one(draw)
        except (Conflict, NotFound):
            pass
        except NanoError as error:
            if "its keeper was killed" not in str(error) and "first process is gone" not in str(error):
                findings.append(f"{type(error).__name__}: {error}")
        except BaseException as error:
            import traceback
            findings.append(traceback.format_exc())
        done.append(1)
        slowest[0] = max(slowest[0], time.monotonic() - begin)

def files():
    return sorted(os.readlink(f"/proc/self/fd/{fd}").partition(":")[0] for fd in os.listdir("/proc/self/fd") if
                  os.path.lexists(f"/proc/self/fd/{fd}"))

threading.Thread(target=time.sleep, args=(100000,), daemon=True).start()
engine.run("tiny", ["true"], network="none")
before = files()
threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(workers)]
begin = time.monotonic()
for thread in threads: thread.start()
for thread in threads: thread.join(240)
stuck = sum(thread.is_alive() for thread in threads)
print(f"{len(done)} calls of {workers} threads in {time.monotonic() - begin:.1f} s, the slowest {slowest[0]:.2f} s")
if stuck:
    import faulthandler
    faulthandler.dump_traceback(file=sys.stdout)
    findings.append(f"{stuck} threads are stuck")
elif files() != before:
    findings.append(f"open files: {before} became {files()}")
print("".join(f"{finding}\\n" for finding in findings))
sys.stdout.flush()
os._exit(1 if findings else 0)
"""


def test_random_calls_of_threads(clean: Nano) -> None:
    """One Engine in one program, used by all threads at once."""
    seed = size("seed", int.from_bytes(os.urandom(4), "big"), int.from_bytes(os.urandom(4), "big"))
    many = size("calls", 12, 150)
    args = [clean.root, clean.runroot, SRC, str(seed), str(many), str(WORKERS)]
    done = subprocess.run(
        [sys.executable, "-IS", "-c", API, *args], env=clean.env, capture_output=True, text=True, timeout=300
    )
    figures("random calls of threads", [f"seed {seed}: {done.stdout.splitlines()[0] if done.stdout else ''}"])
    assert done.returncode == 0, f"seed {seed}\n{done.stdout[-8000:]}\n{done.stderr[-4000:]}"
