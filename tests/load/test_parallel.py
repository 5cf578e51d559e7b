"""Sixteen commands in parallel on the same names, ids, ports, images: nothing hangs, is lost or given twice."""

from __future__ import annotations

import os
import shutil
import subprocess
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
                "run", "--name", name, "--network", "none", "tiny", "sh", "-c", f"sleep 0.7; exit {code}",
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
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
            elif answer.args[0] == "attach" and "it is exited" not in answer.err:
                assert answer.code == codes[answer.args[-1]], answer
        for name, run in runs.items():
            _, said = run.communicate(timeout=BOUND)
            assert run.returncode == codes[name], (name, codes[name], run.returncode, said)
        clean("wait", *codes)  # a start may have come after the end
        for name, code in codes.items():
            assert clean("inspect", "-f", "{{.State.ExitCode}}", name).out == f"{code}\n"
        clean("rm", *codes)
        progress(f"{number + 1} of {rounds} rounds of exit codes")
