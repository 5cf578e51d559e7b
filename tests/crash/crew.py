"""Workers: processes with a machine of their own each, and an engine in it.

A case waits much of its time: for a process to die, for the kernel to take a bridge or a namespace away. So there are
more workers than processors. Each has its own mount and network namespace, reaper and state directory (isolation.py):
its census sees nothing of the others. A worker is a fresh interpreter and no fork of pytest: whatever is forked for a
case copies its page tables.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import select
import shutil
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

WORKERS = int(os.environ.get("NANOCONTAINER_CRASH_WORKERS") or 2 * (os.cpu_count() or 1))
LONG = 300 * float(os.environ.get("NANOCONTAINER_TEST_PATIENCE") or 1)  # seconds for all cases of one test
_LARGEST = 1 << 20
_HERE = str(Path(__file__).parents[2])

# What containers do not need: a small process forks faster
_NOT_LOADED = ("__main__", ".resume", ".registry", ".pull", ".archive", ".tiny", ".install", ".layers", ".auth")

Job = Callable[..., Any]  # job(bench, **case): something that is JSON


class Crew:
    """All workers."""

    def __init__(self, directory: Path) -> None:
        self.workers: list[tuple[subprocess.Popen[bytes], socket.socket]] = []
        libraries = [place for place in sys.path if place.endswith("-packages")]  # the registry client's
        code = (
            f"import sys; sys.path[:0] = [{_HERE!r}, {_HERE + '/src'!r}]; sys.path += {libraries!r}; "
            "from tests.crash.crew import work; work()"
        )
        for number in range(WORKERS):
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            for sock in (ours, theirs):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _LARGEST)
            arguments = [sys.executable, "-IS", "-c", code, str(theirs.fileno()), str(directory / str(number))]
            self.workers.append((subprocess.Popen(arguments, pass_fds=[theirs.fileno()]), ours))
            theirs.close()
        for _, sock in self.workers:
            assert sock.recv(100) == b"ready"

    def run(self, job: str, cases: Sequence[dict[str, Any]]) -> list[Any]:
        """Each case's result, in their order. AssertionError where a job itself fails."""
        results: list[Any] = [None] * len(cases)
        waiting = list(range(len(cases)))[::-1]
        busy: dict[socket.socket, int] = {}
        idle = [sock for _, sock in self.workers]
        failed = ""
        while (waiting and not failed) or busy:
            while idle and waiting and not failed:
                sock, at = idle.pop(), waiting.pop()
                sock.send(json.dumps([job, cases[at]]).encode())
                busy[sock] = at
            for sock in select.select(list(busy), [], [])[0]:
                at = busy.pop(sock)
                data = sock.recv(_LARGEST)
                if not data:
                    raise AssertionError(f"a worker died at {job} {cases[at]}")
                kind, results[at] = json.loads(data)
                if kind != "done":  # what others have found may be why
                    said = [f"{case}: {found}" for case, found in zip(cases, results, strict=True) if found]
                    failed = "\n".join((f"{job} {cases[at]}:\n{results[at]}", *said))
                idle.append(sock)
        assert not failed, failed
        return results

    def close(self) -> None:
        for _, sock in self.workers:
            sock.close()
        for worker, _ in self.workers:
            worker.wait()


def work() -> None:
    """A worker's life; never returns."""
    from tests.root import census, isolation
    from tests.root.nano import Nano

    from . import moments
    from .bench import Bench
    from .jobs import JOBS

    sock = socket.socket(fileno=int(sys.argv[1]))
    sock.set_inheritable(False)
    try:
        isolation.isolate()
        os.environ["NANOCONTAINER_LINGER"] = "0"
        _load_all()
        root, runroot = f"{sys.argv[2]}/state", f"/run/nanocontainer-crash-{os.getpid()}"  # short: a socket's path
        for place in (root, runroot):
            os.makedirs(place, 0o700)
        census.watch(root, runroot)
        nano = Nano(root, runroot)
        nano("run", "--rm", "tiny", "true")
        bench = Bench(nano)
        moments.board.renew()
        moments.watch_executions()
        gc.collect()
        gc.freeze()
        gc.disable()
        sock.send(b"ready")
        while data := sock.recv(_LARGEST):
            job, case = json.loads(data)
            try:
                answer = ["done", JOBS[job](bench, **case)]
            except BaseException:
                answer = ["failed", traceback.format_exc()]
            sock.send(json.dumps(answer).encode())
        nano.remove_all()
        for place in census.cgroups_of(root):
            os.rmdir(place)
        shutil.rmtree(runroot, ignore_errors=True)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


def _load_all() -> None:
    """What a command would import on its way is imported here, once. Keepers stay as they are: what they hold open
    shall not change by itself."""
    import nanocontainer
    from nanocontainer.container import watch

    for found in pkgutil.walk_packages(nanocontainer.__path__, "nanocontainer."):
        if not found.name.endswith(_NOT_LOADED) and ".cmd" not in found.name:
            importlib.import_module(found.name)
    watch.AFTER = 1e6
