"""The keeper's loop, with ordinary processes in the place of a container's."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import resource
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
import tty
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from nanocontainer.container import streams
from nanocontainer.container.attach import BLOCK, WINDOW, Client, Session, listen
from nanocontainer.container.jsonlog import JsonLog
from nanocontainer.container.logs import read_logs
from nanocontainer.container.streams import GRACE, LIMIT, Streams


class Kept:
    """A process whose streams are kept, in a thread of ours. Give `clients` sessions before start()."""

    def __init__(self, directory: Path, *command: str, stdin: bool = True, terminal: bool = False, **options: object):
        self.directory = directory
        self.log = JsonLog(str(directory), max_file=9)
        ours: dict[str, int] = {}
        if terminal:
            master, slave = os.openpty()
            ours = {"tty": master, "stdin": master if stdin else -1}
            theirs = [slave, slave, slave]
        else:
            (read, ours["stdin"]), (ours["stdout"], out), (ours["stderr"], err) = os.pipe(), os.pipe(), os.pipe()
            theirs = [read, out, err]
        self.process = subprocess.Popen(
            command, stdin=theirs[0], stdout=theirs[1], stderr=theirs[2], start_new_session=True
        )
        for fd in set(theirs):
            os.close(fd)
        self.pidfd = os.pidfd_open(self.process.pid)
        self.signals: list[int] = []
        self.socket = str(directory / "attach.sock")
        self.sessions: list[Session] = []
        clients = []
        for typing in options.pop("starters", ()):  # type: ignore[attr-defined]
            session, far = Session.pair()
            self.sessions.append(session)
            clients.append(Client(far, stdin=typing))
        self.streams = Streams(
            pidfd=self.pidfd,
            signal=self._signal,
            log=self.log,
            listener=listen(self.socket),
            clients=clients,
            **ours,
            **options,  # type: ignore[arg-type]
        )
        self.error: BaseException | None = None
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> Kept:
        self.thread.start()
        return self

    def _signal(self, number: int) -> None:
        self.signals.append(number)
        self.process.send_signal(number)

    def _run(self) -> None:
        try:
            self.streams.run()
            self.ended.set()
            self.log.close()
            code = self.process.wait()
            os.close(self.pidfd)
            self.streams.finish(code, patience=0.4)
        except BaseException as error:
            self.error = error
            raise

    def attach(self, **options: bool) -> Session:
        session = Session.connect(self.socket, **options)
        self.sessions.append(session)
        return session

    def join(self, seconds: float = 20) -> None:
        self.thread.join(seconds)
        assert not self.thread.is_alive(), "the loop did not end"
        assert self.error is None

    def logged(self, stream: str) -> str:
        return "".join(line.text for line in read_logs(str(self.directory)) if line.stream == stream)


@pytest.fixture
def keep(tmp_path: Path) -> Iterator[Callable[..., Kept]]:
    """Start and keep a process. At the end nothing of it may be left, no open file either."""
    before = set(os.listdir("/proc/self/fd"))
    made: list[Kept] = []

    def start(*command: str, started: bool = True, **options: object) -> Kept:
        directory = tmp_path / str(len(made))
        directory.mkdir()
        made.append(Kept(directory, *command, **options))  # type: ignore[arg-type]
        return made[-1].start() if started else made[-1]

    yield start
    for kept in made:
        if kept.thread.is_alive():
            with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
                os.killpg(kept.process.pid, signal.SIGKILL)
        for session in kept.sessions:
            session.close()
        kept.join()
    assert set(os.listdir("/proc/self/fd")) == before


def take(session: Session, *, until: Callable[[dict[str, bytes]], bool] = lambda got: False) -> dict[str, bytes]:
    """Receive until the end, or until enough is there: the data by kind."""
    got = {"o": b"", "r": b"", "x": b"", "a": b""}
    parts: dict[str, list[bytes]] = {kind: [] for kind in got}
    while not got["x"]:
        kind, data = session.receive()
        if kind == "":
            break
        parts[kind].append(data)
        if kind != "o" or len(data) < BLOCK:
            got = {kind: b"".join(pieces) for kind, pieces in parts.items()}
            if until(got):
                return got
    return {kind: b"".join(pieces) for kind, pieces in parts.items()}


def shell(script: str) -> tuple[str, str, str]:
    return "/bin/sh", "-c", script


def python(script: str) -> tuple[str, str, str, str]:
    return sys.executable, "-IS", "-c", script


def wait_for(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.005)


# --- output


def test_output_goes_to_the_log_and_to_all(keep: Callable[..., Kept]) -> None:
    kept = keep(*shell("echo out; echo err >&2; printf end; exit 3"), starters=(True, False))
    for session in kept.sessions:
        got = take(session)
        assert (got["o"], got["r"], got["x"]) == (b"out\nend", b"err\n", b"3")
        assert session.receive() == ("", b"")
    kept.join()
    assert kept.logged("stdout") == "out\nend"
    assert kept.logged("stderr") == "err\n"


def test_who_comes_later_gets_what_comes_later(keep: Callable[..., Kept]) -> None:
    kept = keep(*shell("echo early; read x; echo late $x"), starters=(True,))
    take(kept.sessions[0], until=lambda got: got["o"] == b"early\n")
    late = kept.attach()
    late.send_stdin(b"word\n")
    assert take(late)["o"] == b"late word\n"
    assert take(kept.sessions[0])["o"] == b"late word\n"


def test_a_hundred_megabytes_without_loss(keep: Callable[..., Kept]) -> None:
    line = b"0123456789abcdef" * 5 + b"\n"
    size = 100_000_000 // len(line) * len(line)
    script = f"import os\nfor _ in range({size // len(line) // 1000}): os.write(1, {line!r} * 1000)"
    kept = keep(*python(script), starters=(False,))
    digest, count = hashlib.sha256(), 0
    while True:
        kind, data = kept.sessions[0].receive()
        if kind != "o":
            break
        digest.update(data)
        count += len(data)
    lines = size // len(line) // 1000 * 1000
    assert (kind, count) == ("x", lines * len(line))
    expected = hashlib.sha256()
    for _ in range(lines // 1000):
        expected.update(line * 1000)
    assert digest.digest() == expected.digest()
    kept.join()


def test_without_anybody_attached_nobody_is_waited_for(keep: Callable[..., Kept]) -> None:
    kept = keep("/usr/bin/seq", "-w", "400000")
    kept.join()
    assert kept.logged("stdout") == "".join(f"{number:06d}\n" for number in range(1, 400_001))


def test_a_slow_client_holds_the_container_and_loses_nothing(keep: Callable[..., Kept]) -> None:
    kept = keep("/bin/head", "-c", "20000000", "/dev/zero", starters=(False, False))
    slow, fast = kept.sessions
    got = 0
    while select.select([fast], [], [], 0.2)[0]:
        got += len(fast.receive()[1])
    assert LIMIT <= got < 3 * LIMIT  # the fast one got what was read before the loop stopped reading
    assert kept.process.poll() is None
    rest = threading.Thread(target=lambda: kept.sessions.append(take(fast)))  # type: ignore[arg-type]
    rest.start()
    assert len(take(slow)["o"]) == 20_000_000
    rest.join()
    assert got + len(kept.sessions.pop()["o"]) == 20_000_000  # type: ignore[index]


def test_a_client_that_dies_without_reading_costs_the_others_nothing(keep: Callable[..., Kept]) -> None:
    kept = keep("/bin/head", "-c", "20000000", "/dev/zero", starters=(False, False))
    silent, reader = kept.sessions
    got = 0
    while select.select([reader], [], [], 0.2)[0]:
        got += len(reader.receive()[1])
    silent.close()  # the loop waits for this one
    assert got + len(take(reader)["o"]) == 20_000_000


def test_what_is_queued_at_the_end_reaches_a_client_that_reads_later(keep: Callable[..., Kept]) -> None:
    kept = keep("/bin/head", "-c", "900000", "/dev/zero", starters=(False,))
    kept.ended.wait(10)
    time.sleep(0.2)
    if os.geteuid() == 0:  # the kernel has it all: the keeper need not stay
        kept.join()
    got = take(kept.sessions[0])
    assert (len(got["o"]), got["x"]) == (900_000, b"0")


def test_what_waits_in_the_pipes_at_the_end_is_read_for_a_slow_client_too(keep: Callable[..., Kept]) -> None:
    """The loop has stopped reading for its sake, and the first process ends: now there is a bound to what can come."""
    script = "head -c 1000 /dev/zero; sleep 0.1; head -c 60000 /dev/zero; head -c 60000 /dev/zero >&2"
    kept = keep(*shell(script), starters=(False,), started=False)
    client, sent = kept.streams._clients[0], 0
    while client.queued <= LIMIT:
        client.send(b"o", b"x" * BLOCK)
        sent += BLOCK
    kept.start()
    wait_for(lambda: kept.streams._held)
    kept.ended.wait(10)
    got = take(kept.sessions[0])
    assert (len(got["o"]) - sent, len(got["r"]), got["x"]) == (61_000, 60_000, b"0")


def test_who_connects_in_the_last_moment_gets_the_code(tmp_path: Path) -> None:
    process = subprocess.Popen(shell("exit 5"))
    pidfd = os.pidfd_open(process.pid)
    listener = listen(str(tmp_path / "attach.sock"))
    loop = Streams(pidfd=pidfd, signal=process.send_signal, listener=listener)
    loop.run()
    session = Session.connect(str(tmp_path / "attach.sock"))
    loop.finish(process.wait())
    assert session.receive() == ("x", b"5")
    session.close()
    os.close(pidfd)


def test_patience_ends(keep: Callable[..., Kept], monkeypatch: pytest.MonkeyPatch) -> None:
    """As one without CAP_NET_ADMIN."""
    monkeypatch.setattr(Client, "hand_over", lambda self: None)
    kept = keep("/bin/head", "-c", "900000", "/dev/zero", starters=(False,))
    start = time.monotonic()
    kept.join()
    assert 0.35 < time.monotonic() - start < 3
    got = take(kept.sessions[0])
    assert 0 < len(got["o"]) < 900_000
    assert got["x"] == b""


def test_others_who_hold_the_output_open_are_given_a_moment(keep: Callable[..., Kept]) -> None:
    """As with --pid host: a child of the first process lives on."""
    kept = keep(*shell("echo first; (echo second; exec sleep 5) & exit 4"), starters=(False,))
    start = time.monotonic()
    got = take(kept.sessions[0])
    assert (got["o"], got["x"]) == (b"first\nsecond\n", b"4")
    assert GRACE * 0.8 < time.monotonic() - start < 3


def test_others_who_never_stop_writing_are_cut_off(keep: Callable[..., Kept]) -> None:
    kept = keep(*shell("yes & exit 4"), starters=(False,))
    start = time.monotonic()
    got = take(kept.sessions[0])
    assert got["x"] == b"4"
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("terminal", [False, True])
def test_however_late_we_are_nothing_is_lost(
    keep: Callable[..., Kept], monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    """The grace is over when the loop learns of the end: as on a machine that is much too busy."""
    monkeypatch.setattr(streams, "GRACE", 0)
    script = "printf %04600d 7; printf %04600d 7 >&2; (sleep 1) & exit 4"
    kept = keep(*shell(script), starters=(False,), terminal=terminal, started=False)
    kept.process.wait()
    kept.start()
    got = take(kept.sessions[0])
    assert (len(got["o"] + got["r"]), got["x"]) == (9200, b"4")


def test_output_that_is_closed_early(keep: Callable[..., Kept]) -> None:
    kept = keep(*shell("printf out; exec >&-; echo err >&2; exec 2>&-; read x; exit 6"), starters=(True,))
    session = kept.sessions[0]
    take(session, until=lambda got: got["r"] == b"err\n")
    wait_for(lambda: kept.logged("stdout") == "out")  # half a line, but nothing can follow it
    session.send_stdin(b"go\n")
    assert take(session)["x"] == b"6"


# --- input


def test_input_and_its_end(keep: Callable[..., Kept]) -> None:
    kept = keep("/bin/cat", starters=(True,), stdin_once=True)
    session = kept.sessions[0]
    session.send_stdin(b"hello")
    session.close_stdin()
    assert take(session)["o"] == b"hello"


def test_a_filter_under_load(keep: Callable[..., Kept]) -> None:
    """Both directions at once, more than any buffer holds: nobody may wait for the other."""
    data = os.urandom(1 << 20) * 20
    kept = keep("/bin/cat", starters=(True,), stdin_once=True)
    session = kept.sessions[0]
    got, sent = [], 0
    while True:
        if session.room and sent < len(data):
            part = data[sent : sent + min(session.room, BLOCK)]
            session.send_stdin(part)
            sent += len(part)
            if sent == len(data):
                session.close_stdin()
        if sent == len(data) or not session.room or select.select([session], [], [], 0)[0]:
            kind, piece = session.receive()
            if kind == "x":
                break
            got.append(piece)
    assert b"".join(got) == data


def test_all_input_is_written_before_the_end(keep: Callable[..., Kept]) -> None:
    kept = keep(*shell("sleep 0.3; exec wc -c"), starters=(True,), stdin_once=True)
    session = kept.sessions[0]
    session.send_stdin(b"x" * 1_000_000)
    session.close_stdin()
    assert take(session)["o"].strip() == b"1000000"


def test_input_of_a_client_that_died_still_arrives(keep: Callable[..., Kept]) -> None:
    kept = keep(*shell("sleep 0.3; wc -c"), starters=(True, False), stdin_once=True)
    typist, reader = kept.sessions
    typist.send_stdin(b"x" * 250_000)
    typist.close()
    assert take(reader)["o"].strip() == b"250000"


@pytest.mark.parametrize(
    ("stdin_once", "act", "ends"),
    [
        (True, "die", True),
        (True, "end", True),
        (True, "detach", False),
        (False, "die", False),
        (False, "end", False),
        (False, "detach", False),
    ],
)
@pytest.mark.parametrize("how", ["starter", "connected", "typed"])
def test_when_the_input_ends(keep: Callable[..., Kept], stdin_once: bool, act: str, ends: bool, how: str) -> None:
    """As docker with StdinOnce; and who means to leave it open (detach) leaves it open."""
    kept = keep(*shell("cat >/dev/null; echo ended"), starters=(how == "starter", False), stdin_once=stdin_once)
    session, reader = kept.sessions
    if how == "connected":
        session = kept.attach(stdin=True)
    elif how == "typed":
        session.send_stdin(b"x")
    if act == "end":
        session.close_stdin()
    elif act == "detach":
        session.detach()
    session.close()
    if ends:
        assert take(reader)["o"] == b"ended\n"
    else:
        assert select.select([reader], [], [], 0.1)[0] == []


def test_who_only_looks_does_not_end_the_input(keep: Callable[..., Kept]) -> None:
    kept = keep(*shell("cat >/dev/null; echo ended"), starters=(False, False), stdin_once=True)
    kept.sessions[0].close()
    kept.attach().close()
    assert select.select([kept.sessions[1]], [], [], 0.2)[0] == []


def test_input_of_two(keep: Callable[..., Kept]) -> None:
    kept = keep("/bin/cat", starters=(True, True))
    one, two = kept.sessions
    one.send_stdin(b"one\n")
    take(two, until=lambda got: got["o"] == b"one\n")
    two.send_stdin(b"two\n")
    take(one, until=lambda got: got["o"] == b"one\ntwo\n")


def test_input_that_is_not_wanted_is_thrown_away(keep: Callable[..., Kept]) -> None:
    kept = keep(*shell("exec <&-; echo closed; sleep 0.2; exit 2"), starters=(True,))
    session = kept.sessions[0]
    take(session, until=lambda got: got["o"] == b"closed\n")
    for _ in range(40):  # more than the window: it must be acknowledged
        while not session.room:
            assert session.receive()[0] in ("a", "x")
        session.send_stdin(b"x" * 50_000)
    assert take(session)["x"] == b"2"


def test_input_that_waits_is_thrown_away_when_the_container_closes_its_end(keep: Callable[..., Kept]) -> None:
    kept = keep(*shell("sleep 0.2; exec <&-; sleep 0.2"), starters=(True,))
    session = kept.sessions[0]
    session.send_stdin(b"x" * session.room)
    while session.room < WINDOW // 2:  # a pipe takes 64 KiB: the rest waits until it is thrown away
        assert session.receive()[0] == "a"
    assert take(session)["x"] == b"0"


def test_a_signal_is_not_held_up_by_input_that_nobody_reads(keep: Callable[..., Kept]) -> None:
    kept = keep("/bin/sleep", "30", starters=(True,))
    session = kept.sessions[0]
    session.send_stdin(b"x" * 5_000_000)
    session.signal(signal.SIGTERM)
    assert take(session)["x"] == b"-15"
    assert kept.signals == [signal.SIGTERM]


def test_a_client_that_ignores_its_window_is_bounded(keep: Callable[..., Kept]) -> None:
    kept = keep("/bin/sleep", "30", starters=(True, False))
    flood = kept.sessions[0]._sock
    flood.setblocking(False)
    sent = 0
    deadline = time.monotonic() + 0.2
    while time.monotonic() < deadline:
        try:
            sent += flood.send(b"i" + b"x" * BLOCK)
        except BlockingIOError:
            time.sleep(0.01)
    assert LIMIT < sent < 3 * LIMIT
    assert len(kept.streams._pending) <= LIMIT + BLOCK
    flood.close()
    kept.sessions[1].signal(signal.SIGKILL)
    assert take(kept.sessions[1])["x"] == b"-9"


def test_a_flood_goes_on_when_it_is_read(keep: Callable[..., Kept]) -> None:
    kept = keep(*shell("sleep 0.3; wc -c"), starters=(True, False), stdin_once=True)
    flood = kept.sessions[0]._sock
    for _ in range(100):
        flood.send(b"i" + b"x" * BLOCK)
    flood.send(b"e")
    assert take(kept.sessions[1])["o"].strip() == str(100 * BLOCK).encode()


def test_signals(keep: Callable[..., Kept]) -> None:
    script = "trap 'echo usr1' USR1; echo ready; while :; do sleep 0.05; done"
    kept = keep(*shell(script), starters=(True,))
    session = kept.sessions[0]
    take(session, until=lambda got: got["o"] == b"ready\n")
    session.signal(signal.SIGUSR1)
    take(session, until=lambda got: got["o"] == b"usr1\n")
    session.signal(999)  # there is none: nothing happens
    session.signal(signal.SIGKILL)
    assert take(session)["x"] == b"-9"


@pytest.mark.parametrize(
    "message",
    [b"s", b"sx", b"s-1", b"s99999", b"w", b"w1", b"w1x", b"w99999x1", b"w" + b"1" * 9000 + b"x1", b"?", b"o", b"x0"],
)
def test_who_speaks_nonsense_is_dropped(keep: Callable[..., Kept], message: bytes) -> None:
    kept = keep("/bin/cat", starters=(False, True), stdin_once=True)
    kept.sessions[0]._sock.send(message)
    assert kept.sessions[0].receive() == ("", b"")
    kept.sessions[1].close_stdin()
    assert take(kept.sessions[1])["x"] == b"0"


# --- terminals


def test_a_terminal(keep: Callable[..., Kept]) -> None:
    kept = keep(*shell("stty -echo; echo ready; read x; echo got $x >&2; exit 3"), terminal=True, starters=(True,))
    session = kept.sessions[0]
    take(session, until=lambda got: got["o"] == b"ready\r\n")
    session.send_stdin(b"word\n")
    got = take(session)
    assert (got["o"], got["r"], got["x"]) == (b"got word\r\n", b"", b"3")
    kept.join()
    assert kept.logged("stdout") == "ready\r\ngot word\r\n"


def test_the_size_of_a_terminal(keep: Callable[..., Kept]) -> None:
    script = (
        "import signal, os, time\n"
        # os.write: a print inside a print, if the signal comes early, is an error
        "signal.signal(signal.SIGWINCH, lambda *_: os.write(1, str(os.get_terminal_size()).encode()))\n"
        "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); print('ready', flush=True)\n"
        "while True: time.sleep(1)"
    )
    kept = keep(*python(script), terminal=True, starters=(True,))
    session = kept.sessions[0]
    take(session, until=lambda got: b"ready" in got["o"])
    session.resize(50, 132)
    take(session, until=lambda got: b"columns=132, lines=50" in got["o"])
    assert struct.unpack("HHHH", fcntl.ioctl(kept.streams._tty, termios.TIOCGWINSZ, bytes(8))) == (50, 132, 0, 0)


def test_the_end_of_input_means_nothing_to_a_terminal(keep: Callable[..., Kept]) -> None:
    kept = keep("/bin/cat", terminal=True, starters=(True,), stdin_once=True)
    session = kept.sessions[0]
    session.close_stdin()
    session.send_stdin(b"still\n")
    take(session, until=lambda got: got["o"] == b"still\r\nstill\r\n")
    session.send_stdin(b"\x04")
    assert take(session)["x"] == b"0"


def test_a_terminal_without_input(keep: Callable[..., Kept]) -> None:
    kept = keep(*shell("echo ready; sleep 0.2"), terminal=True, stdin=False, starters=(True,))
    kept.sessions[0].send_stdin(b"thrown away\n")
    assert take(kept.sessions[0])["o"] == b"ready\r\n"


def test_an_init_that_closes_its_terminal_and_opens_it_again(keep: Callable[..., Kept]) -> None:
    script = "t=$(tty); echo one; exec <&- >&- 2>&-; sleep 0.2; exec <$t >$t 2>&1; echo two"
    kept = keep(*shell(script), terminal=True, starters=(True,))
    start = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    assert take(kept.sessions[0])["o"] == b"one\r\ntwo\r\n"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_utime - start < 0.1


def test_much_through_a_terminal(keep: Callable[..., Kept]) -> None:
    kept = keep(*shell("stty raw -echo; echo ready; head -c 2000000 | wc -c"), terminal=True, starters=(True,))
    session = kept.sessions[0]
    take(session, until=lambda got: b"ready" in got["o"])
    session.send_stdin(b"x" * 2_000_000)
    assert take(session)["o"].strip() == b"2000000"


def test_all_that_a_terminal_holds_at_the_end_is_read(keep: Callable[..., Kept]) -> None:
    for _ in range(20):
        kept = keep(*shell("printf %03000d 7; printf end"), terminal=True, starters=(True,))
        got = take(kept.sessions[0])["o"]
        assert (len(got), got[-3:]) == (3003, b"end")


def test_the_terminal_of_a_client_is_not_ours() -> None:
    """A process that holds a terminal's other end open must not get it as its controlling terminal."""
    master, slave = os.openpty()
    tty.setraw(slave)
    pid = os.fork()
    if pid == 0:
        os.setsid()
        null = os.open("/dev/null", os.O_RDONLY)
        loop = Streams(pidfd=null, signal=lambda number: None, tty=master)
        with open("/proc/self/stat") as file:
            controlling = int(file.read().rsplit(")", 1)[1].split()[4])
        loop.close()
        os._exit(controlling != 0)
    os.close(master)
    os.close(slave)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


# --- the loop itself


def test_an_idle_loop_does_not_wake_up(tmp_path: Path) -> None:
    """Counted by the kernel: voluntary switches of the process that runs the loop."""
    process = subprocess.Popen(["/bin/sleep", "0.2"])
    session, far = Session.pair()
    pid = os.fork()
    if pid == 0:
        session.close()
        pidfd = os.pidfd_open(process.pid)
        read, _ = os.pipe()
        loop = Streams(pidfd=pidfd, signal=process.send_signal, stdout=read, clients=[Client(far)])
        before = resource.getrusage(resource.RUSAGE_SELF)
        loop.run()
        after = resource.getrusage(resource.RUSAGE_SELF)
        # One for the end of the process, one for the grace that the open pipe is given.
        os._exit(min(after.ru_nvcsw - before.ru_nvcsw, 99))
    far.close()
    woken = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    process.wait()
    session.close()
    assert woken <= 3


def test_timers_and_other_descriptors(keep: Callable[..., Kept]) -> None:
    ticks: list[float] = []

    def timeouts() -> float | None:
        ticks.append(time.monotonic())
        return 0.02 if len(ticks) < 5 else None

    read, write = os.pipe()
    kept = keep("/bin/sleep", "1000", timeouts=timeouts)
    seen: list[bytes] = []

    def readable() -> None:
        seen.append(os.read(read, 10))
        if not seen[-1]:
            kept.streams.unwatch(read)
            os.close(read)

    kept.streams.watch(read, readable)
    os.write(write, b"x")
    wait_for(lambda: len(ticks) >= 5)
    gaps = [two - one for one, two in pairwise(ticks)]
    assert sum(gaps) >= 0.05
    os.close(write)
    kept.attach().close()  # wakes the loop up: the descriptor is looked at
    wait_for(lambda: seen[-1:] == [b""])
    kept.process.kill()
    kept.join()
    assert b"".join(seen) == b"x"


def test_too_many_open_files_when_somebody_connects(keep: Callable[..., Kept], monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    accept = Client.accept
    monkeypatch.setattr(streams, "_RETRY", 0.2)

    def refuse(listener: object) -> Client:
        calls.append(listener)
        if len(calls) == 1:
            raise OSError(24, "Too many open files")
        return accept(listener)  # type: ignore[arg-type]

    monkeypatch.setattr(Client, "accept", refuse)
    kept = keep("/bin/cat")
    session = kept.attach(stdin=True)
    start = time.monotonic()
    session.send_stdin(b"hello")
    take(session, until=lambda got: got["o"] == b"hello")
    assert 0.15 < time.monotonic() - start < 5
    assert len(calls) <= 5  # it did not spin


def test_many_come_and_go(keep: Callable[..., Kept]) -> None:
    kept = keep("/bin/cat", starters=(False,))
    for turn in range(200):
        session = Session.connect(kept.socket)
        session.send_stdin(b"%d\n" % turn)
        if turn % 3:
            session.detach()
        session.close()
    expected = b"".join(b"%d\n" % turn for turn in range(200))
    got = take(kept.sessions[0], until=lambda got: len(got["o"]) == len(expected))
    assert sorted(got["o"].split()) == sorted(expected.split())
    wait_for(lambda: len(kept.streams._clients) == 1)
    assert len(kept.streams._handlers) == 6  # pidfd, stdin, stdout, stderr, listener, one client


def test_memory_is_given_back(tmp_path: Path) -> None:
    """A keeper lives for weeks: what a burst of output and input took must not stay."""
    script = (
        "import sys, time; sys.stdout.buffer.write(b'y\\n' * 3000000); time.sleep(0.1)\n"
        "sys.stdin.buffer.read(3000000); time.sleep(0.1)"
    )
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        kept = Kept(tmp_path, *python(script))
        first: list[int] = []

        def report() -> None:
            with open("/proc/self/status") as file:
                now = next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))
            first.append(now)
            os.write(write, struct.pack("i", now - first[0]))

        kept.streams._timeouts = report
        kept.streams.run()
        os._exit(0)
    os.close(write)
    wait_for(lambda: (tmp_path / "attach.sock").exists())
    session = Session.connect(str(tmp_path / "attach.sock"))
    session.send_stdin(b"x" * 3_000_000)
    take(session)
    session.close()
    grown = []
    while data := os.read(read, 4):
        grown.append(struct.unpack("i", data)[0])
    os.waitpid(pid, 0)
    os.close(read)
    assert grown[-1] < 3000  # KiB
