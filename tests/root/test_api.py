"""The Python API, in a program with threads and in one without: right results, no zombies, no files left open.

The programs are processes of their own: what an Engine starts for a threaded program lives as long as that.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .nano import Nano

SRC = str(Path(__file__).parents[2] / "src")
HEAD = """\
import os, sys, threading, time
sys.path.insert(0, sys.argv[3])
from nanocontainer import Engine
from nanocontainer.errors import *
engine = Engine(sys.argv[1], sys.argv[2])

def files():
    return sorted(os.listdir("/proc/self/fd"))

def zombies():
    found = []
    for pid in open(f"/proc/self/task/{os.getpid()}/children").read().split():
        try:
            state = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state == "Z":
            found.append(pid)
    return found

def settled():
    "No zombie is left: the next call reaps the last keeper, which ends a moment after its container."
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        engine.run("tiny", ["true"], network="none")
        if len(zombies()) <= 1:
            return True
    return False
"""


def program(nano: Nano, code: str, timeout: float = 60) -> str:
    done = subprocess.run(
        [sys.executable, "-IS", "-c", HEAD + code, nano.root, nano.runroot, SRC],
        capture_output=True, text=True, timeout=timeout, env=nano.env,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


ONE = """
done = engine.run("tiny", ["sh", "-c", "cat; echo err >&2; exit 3"], input=b"in", network="none")
assert (done.exit_code, done.stdout, done.stderr, len(done.id)) == (3, b"in", b"err\\n", 64), done
before = files()
for i in range(5):
    assert engine.run("tiny", ["echo", str(i)], network="none", env=("A=1",)).stdout == f"{i}\\n".encode()
try:
    engine.run("tiny", ["nowhere"], network="none")
    raise SystemExit("no error")
except CommandNotFound as error:
    assert error.hint
try:
    engine.run("no/such:image", ["true"], pull="never")
    raise SystemExit("no error")
except NotFound:
    pass
assert len(files()) == len(before), (before, files())
assert settled()
assert engine.containers(all=True) == []
"""


def test_without_threads(nano: Nano) -> None:
    program(nano, ONE)


def test_with_a_thread(nano: Nano) -> None:
    program(nano, "threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n"
                  'engine.run("tiny", ["true"], network="none")\n' + ONE)  # fmt: skip


PARALLEL = """
results, errors = {}, []

def one(i):
    try:
        done = engine.run("tiny", ["sh", "-c", f"cat; echo {i}; exit {i}"], input=b"x" * i * 1000, network="none")
        results[i] = (done.exit_code, done.stdout == b"x" * i * 1000 + f"{i}\\n".encode())
    except BaseException as error:
        errors.append(repr(error))

threads = [threading.Thread(target=one, args=(i,)) for i in range(20)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert not errors, errors
assert results == {i: (i, True) for i in range(20)}, results
assert engine.containers(all=True) == []
"""


def test_twenty_runs_in_parallel_threads(nano: Nano) -> None:
    program(nano, PARALLEL + "before = files()\n" + PARALLEL + "assert len(files()) == len(before)\nassert settled()\n")


def test_a_failed_start_in_a_thread_does_not_wait_for_an_earlier_container(clean: Nano) -> None:
    program(clean, """
engine.run("tiny", ["sleep", "1000"], detach=True, network="none", name="long")
threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
try:
    engine.run("tiny", ["nowhere"], network="none")
    raise SystemExit("no error")
except CommandNotFound:
    pass
engine.remove("long", force=True)
""", timeout=15)  # fmt: skip


def test_create_in_parallel_threads_gives_a_name_once(clean: Nano) -> None:
    program(clean, """
from nanocontainer.container.spec import Spec
engine.image("tiny")
made, refused = [], []

def one():
    try:
        made.append(engine.create(Spec(image="tiny", name="once", command=("true",))))
    except Conflict:
        refused.append(1)

threads = [threading.Thread(target=one) for _ in range(12)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert (len(made), len(refused)) == (1, 11), (made, refused)
""")  # fmt: skip


BUSY = """
import zlib
stop = []
data = os.urandom(1 << 16)

def work():
    while not stop:
        zlib.decompress(zlib.compress(data, 1))
        [bytes(size) for size in range(0, 1 << 16, 1 << 12)]

threads = [threading.Thread(target=work, daemon=True) for _ in range(6)]
for thread in threads: thread.start()
"""


def test_commands_in_a_container_while_threads_work(clean: Nano) -> None:
    clean("run", "-d", "--name", "box", "--network", "none", "-e", "A=1", "tiny", "sleep", "1000")
    program(clean, BUSY + """
engine.execute("box", ["true"])
before = files()
for i in range(20):
    script = f"cat; echo $A$B; echo err >&2; exit {i}"
    done = engine.execute("box", ["sh", "-c", script], input=b"in" * i * 10000, env=("B=2",))
    expected = (i, b"in" * i * 10000 + b"12\\n", b"err\\n")
    assert (done.exit_code, done.stdout, done.stderr) == expected, done
assert engine.execute("box", ["sh", "-c", "kill -9 $$"]).exit_code == 137
for error, command in ((CommandNotFound, ["nowhere"]), (InvalidInput, [])):
    try:
        engine.execute("box", command)
        raise SystemExit("no error")
    except error as said:
        assert said.hint
session = engine.exec("box", ["sleep", "1000"])
session.signal(15)
kind = ""
while kind != "x":
    kind, code = session.receive()
assert code == b"143", code
session.close()
terminal = engine.exec("box", ["sh", "-c", "stty size; tty"], tty=True, size=(33, 77))
shown, kind = b"", ""
while kind != "x":
    kind, data = terminal.receive()
    shown += data
assert b"33 77" in shown and b"/dev/pts/" in shown, shown
terminal.close()
engine.exec("box", ["sh", "-c", "echo done > /mark"], detach=True).close()
look = "while [ ! -e /mark ]; do sleep 0.02; done; cat /mark"
assert engine.execute("box", ["sh", "-c", look]).stdout == b"done\\n"
assert len(files()) == len(before), (before, files())
assert not zombies()
stop.append(1)
""", timeout=120)  # fmt: skip


def test_what_has_ended_can_be_removed_or_started_at_once(clean: Nano) -> None:
    program(clean, """
for i in range(20):
    engine.remove(engine.run("tiny", ["true"], network="none", remove=False).id)
    id = engine.run("tiny", ["true"], network="none", detach=True).id
    engine.wait(id)
    engine.start(id)
    engine.wait(id)
    engine.remove(id)
""")  # fmt: skip


def test_a_whole_life(clean: Nano) -> None:
    program(clean, """
from nanocontainer.container.spec import Spec
id = engine.create(Spec(image="tiny", name="life", command=("sh", "-c", "echo up; sleep 1000"), network="none"))
assert engine.inspect("life").state.status == "created"
engine.start(id)
assert [one.id for one in engine.containers()] == [id]
assert engine.execute("life", ["cat"], input=b"data").stdout == b"data"
engine.pause("life")
try:
    engine.execute("life", ["true"])
    raise SystemExit("no error")
except Conflict:
    pass
engine.unpause("life")
engine.stop("life", timeout=0)
assert engine.wait("life") == 137
assert [line.data if hasattr(line, "data") else line for line in engine.logs("life")]
try:
    engine.stop("nobody-there")
    raise SystemExit("no error")
except NotFound:
    pass
engine.remove("life")
assert engine.containers(all=True) == []
""")  # fmt: skip


BAD = ['command=("a\\0b",)', 'command=("true",), env=("A=\\0",)', 'command=("true",), user="²"']


@pytest.mark.parametrize("options", BAD)
def test_bad_input_is_our_own_error(nano: Nano, options: str) -> None:
    program(nano, f"""
from nanocontainer.container.spec import Spec
try:
    engine.launch(Spec(image="tiny", network="none", auto_remove=True, {options}), attach=False)
    raise SystemExit("no error")
except InvalidInput as error:
    assert "bug" not in error.hint
""")  # fmt: skip
