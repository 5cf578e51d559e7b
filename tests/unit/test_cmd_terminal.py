"""The attach loop, as a process of its own between a terminal or pipes and a keeper that the test plays."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import socket
import struct
import termios
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given as hypothesis_given
from hypothesis import strategies as st

from nanocontainer.cmd import terminal
from nanocontainer.cmd.terminal import DetachKeys, parse_keys
from nanocontainer.container.attach import Session
from nanocontainer.errors import InvalidInput, NanoError

DETACHED, LOST = 200, 201


class Attached:
    """attach() in a child. far: the keeper's end; stdin, out: our ends of its files (the master for a terminal)."""

    def __init__(self, *, tty: bool = False, stdin: str = "pipe", wanted: bool = True, **how: Any) -> None:
        self.far: socket.socket
        session, self.far = Session.pair()
        self.far.settimeout(10)
        self.stdin = -1
        if tty:
            self.stdin, terminal_fd = pty.openpty()
            theirs = (terminal_fd, terminal_fd, terminal_fd)
            self.out = self.err = self.stdin
            self.slave = os.dup(terminal_fd)
        else:
            out_read, out_write = os.pipe()
            err_read, err_write = os.pipe()
            if stdin == "pipe":
                in_read, self.stdin = os.pipe()
            else:
                in_read = os.open(stdin, os.O_RDONLY)
            theirs = (in_read, out_write, err_write)
            self.out, self.err = out_read, err_read
        self.pid = os.fork()
        if self.pid == 0:
            code = 255
            try:
                self.far.close()
                if not tty:
                    os.setpgid(0, 0)  # with a parent outside of it: in an orphaned group SIGTSTP does nothing
                else:
                    os.setsid()
                    fcntl.ioctl(theirs[0], termios.TIOCSCTTY, 0)
                for number, fd in enumerate(theirs):
                    os.dup2(fd, number)
                os.closerange(3, session.fileno())
                os.closerange(session.fileno() + 1, 100)
                for number in (signal.SIGINT, signal.SIGTERM):
                    signal.signal(number, signal.SIG_DFL)
                try:
                    done = terminal.attach(session, stdin=wanted, tty=tty, **how)
                    code = DETACHED if done is None else done
                except BrokenPipeError:
                    code = 141
                except NanoError:
                    code = LOST
            finally:
                os._exit(code)
        session.close()
        for fd in set(theirs):
            os.close(fd)

    def say(self, kind: bytes, data: bytes = b"") -> None:
        self.far.send(kind + data)

    def hear(self, kind: bytes) -> bytes:
        """The next message, which must be of this kind."""
        message = self.far.recv(65537)
        assert message[:1] == kind, message[:40]
        return message[1:]

    def end(self, code: int = 0) -> int:
        self.say(b"x", b"%d" % code)
        return self.wait()

    def wait(self, seconds: float = 10) -> int:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.005)
        raise AssertionError("attach() did not end")

    def read(self, fd: int, size: int) -> bytes:
        data = b""
        while len(data) < size:
            assert select.select([fd], [], [], 10)[0], f"only {data!r}"
            part = os.read(fd, size - len(data))
            if not part:
                break
            data += part
        return data

    def close(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        self.far.close()
        for fd in {self.stdin, self.out, self.err, getattr(self, "slave", -1)} - {-1}:
            os.close(fd)


@pytest.fixture
def attached() -> Iterator[Callable[..., Attached]]:
    made: list[Attached] = []

    def make(**how: Any) -> Attached:
        made.append(Attached(**how))
        return made[-1]

    yield make
    for one in made:
        one.close()


def settled(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.005)
    raise AssertionError("it did not come to that")


# --- pipes


def test_output_and_code(attached: Callable[..., Attached]) -> None:
    one = attached()
    one.say(b"o", b"out")
    one.say(b"r", b"err")
    assert one.read(one.out, 3) == b"out" and one.read(one.err, 3) == b"err"
    assert one.end(7) == 7


def test_input_and_its_end(attached: Callable[..., Attached]) -> None:
    one = attached()
    os.write(one.stdin, b"hello")
    assert one.hear(b"i") == b"hello"
    os.close(one.stdin)
    one.stdin = -1
    assert one.hear(b"e") == b""
    one.say(b"o", b"still here")  # half closed: output goes on
    assert one.read(one.out, 10) == b"still here"
    assert one.end() == 0


@pytest.mark.parametrize("place", ["/dev/null", "/"])
def test_input_from_nowhere(attached: Callable[..., Attached], place: str) -> None:
    one = attached(stdin=place)
    assert one.hear(b"e") == b""
    assert one.end() == 0


def test_no_input_wanted(attached: Callable[..., Attached]) -> None:
    one = attached(wanted=False)
    os.write(one.stdin, b"x")
    one.say(b"o", b"y")
    assert one.read(one.out, 1) == b"y"
    assert one.end() == 0
    assert one.far.recv(100) == b""


def test_input_stops_at_the_window(attached: Callable[..., Attached]) -> None:
    """What the keeper has not passed on stays in our pipe: and output still flows."""
    one = attached()
    os.set_blocking(one.stdin, False)
    sent = taken = 0
    one.far.setblocking(False)

    def pump() -> bool:
        nonlocal sent, taken
        try:
            sent += os.write(one.stdin, bytes(65536))
        except BlockingIOError:
            pass
        try:
            taken += len(one.far.recv(65537)) - 1
        except BlockingIOError:
            return sent > taken
        return False

    for _ in range(200):
        pump()
        time.sleep(0.001)
    assert taken == 4 * 65536
    assert sent <= taken + 65536
    one.far.setblocking(True)
    one.say(b"o", b"x")
    assert one.read(one.out, 1) == b"x"
    one.say(b"a", b"5")
    assert len(one.hear(b"i")) == 5
    assert one.end() == 0


def test_a_slow_reader_loses_nothing(attached: Callable[..., Attached]) -> None:
    one = attached()
    block = bytes(range(256)) * 256
    one.far.setblocking(False)
    sent, data = 0, b""
    while len(data) < 40 * len(block):
        try:
            if sent < 40:
                one.far.send(b"o" + block)
                sent += 1
        except BlockingIOError:
            pass
        if select.select([one.out], [], [], 0.001)[0]:
            data += os.read(one.out, 10000)
    assert data == block * 40
    assert one.end(3) == 3


def test_input_flows_while_output_is_stuck(attached: Callable[..., Attached]) -> None:
    one = attached()
    for _ in range(3):
        one.say(b"o", bytes(65536))  # more than a pipe holds
    os.write(one.stdin, b"typed")
    assert one.hear(b"i") == b"typed"
    os.kill(one.pid, signal.SIGTERM)
    assert one.hear(b"s") == b"15"
    assert one.read(one.out, 3 * 65536) == bytes(3 * 65536)
    assert one.end() == 0


def test_nobody_reads(attached: Callable[..., Attached]) -> None:
    one = attached()
    os.close(one.out)
    one.out = one.err
    one.say(b"o", b"x")
    assert one.wait() == 141


def test_streams_that_are_not_attached(attached: Callable[..., Attached]) -> None:
    one = attached(stdout=False)
    one.say(b"o", b"out")
    one.say(b"r", b"err")
    assert one.read(one.err, 3) == b"err"
    assert one.end() == 0
    assert one.read(one.out, 1) == b""


def test_keeper_lost(attached: Callable[..., Attached]) -> None:
    one = attached()
    one.say(b"o", b"last words")
    one.far.close()
    assert one.wait() == LOST
    assert one.read(one.out, 10) == b"last words"


# --- signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGQUIT])
def test_signals_are_passed_on(attached: Callable[..., Attached], number: int) -> None:
    one = attached()
    one.say(b"o", b"x")
    one.read(one.out, 1)
    os.kill(one.pid, number)
    assert one.hear(b"s") == b"%d" % number
    assert one.end(128 + number) == 128 + number


def test_the_third_one_ends_us(attached: Callable[..., Attached]) -> None:
    one = attached()
    one.say(b"o", b"x")
    one.read(one.out, 1)
    for _ in range(3):
        os.kill(one.pid, signal.SIGINT)
        assert one.hear(b"s") == b"2"
    assert one.wait() == 1


def test_signals_that_are_not_passed_on(attached: Callable[..., Attached]) -> None:
    one = attached(sig_proxy=False)
    one.say(b"o", b"x")
    one.read(one.out, 1)
    os.kill(one.pid, signal.SIGINT)
    assert one.wait() == 130


def test_it_can_be_suspended(attached: Callable[..., Attached]) -> None:
    one = attached()
    one.say(b"o", b"x")
    one.read(one.out, 1)
    os.kill(one.pid, signal.SIGTSTP)
    settled(lambda: os.waitpid(one.pid, os.WUNTRACED | os.WNOHANG)[0] == one.pid)
    one.say(b"o", b"y")
    os.kill(one.pid, signal.SIGCONT)
    assert one.read(one.out, 1) == b"y"
    assert one.end() == 0


# --- a terminal


def is_raw(fd: int) -> bool:
    return not termios.tcgetattr(fd)[3] & (termios.ICANON | termios.ECHO | termios.ISIG)


def test_terminal(attached: Callable[..., Attached]) -> None:
    one = attached(tty=True)
    settled(lambda: is_raw(one.slave))
    os.write(one.stdin, b"a\x03\x04\r")
    assert one.hear(b"i") == b"a\x03\x04\r"
    one.say(b"o", b"\x1b[1mx\n")
    assert one.read(one.out, 6) == b"\x1b[1mx\n"  # no \r added, no echo
    assert one.end(5) == 5
    assert not is_raw(one.slave)


def test_window_size(attached: Callable[..., Attached]) -> None:
    one = attached(tty=True)
    settled(lambda: is_raw(one.slave))
    fcntl.ioctl(one.stdin, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 132, 0, 0))
    assert one.hear(b"w") == b"50x132"
    os.kill(one.pid, signal.SIGCONT)  # after a stop it may have been resized
    assert one.hear(b"w") == b"50x132"
    assert one.end() == 0


def test_first_window_size() -> None:
    """Told before anything else."""
    one = Attached(tty=True)
    one.close()
    master, slave = pty.openpty()
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    session, far = Session.pair()
    saved = os.dup(0)
    os.dup2(slave, 0)
    try:
        far.send(b"x0")
        assert terminal.attach(session, stdin=False, tty=True) == 0
    finally:
        os.dup2(saved, 0)
        for fd in (saved, master, slave):
            os.close(fd)
        session.close()
    assert far.recv(100) == b"w40x100"
    far.close()


def test_detach(attached: Callable[..., Attached]) -> None:
    one = attached(tty=True)
    settled(lambda: is_raw(one.slave))
    os.write(one.stdin, b"x\x10")
    assert one.hear(b"i") == b"x"
    os.write(one.stdin, b"y")
    assert one.hear(b"i") == b"\x10y"
    os.write(one.stdin, b"\x10\x11")
    assert one.wait() == DETACHED
    assert not is_raw(one.slave)
    assert os.read(one.out, 100) == b"read escape sequence\r\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_terminal_is_restored_when_killed(attached: Callable[..., Attached], number: int) -> None:
    one = attached(tty=True, sig_proxy=False)
    settled(lambda: is_raw(one.slave))
    os.kill(one.pid, number)
    assert one.wait() == 128 + number
    assert not is_raw(one.slave)


def test_terminal_is_restored_when_the_keeper_is_lost(attached: Callable[..., Attached]) -> None:
    one = attached(tty=True)
    settled(lambda: is_raw(one.slave))
    one.far.close()
    assert one.wait() == LOST
    assert not is_raw(one.slave)


def test_terminal_is_raw_again_after_a_stop(attached: Callable[..., Attached]) -> None:
    one = attached(tty=True)
    settled(lambda: is_raw(one.slave))
    before = termios.tcgetattr(one.slave)
    before[3] |= termios.ICANON | termios.ECHO
    termios.tcsetattr(one.slave, termios.TCSANOW, before)
    os.kill(one.pid, signal.SIGCONT)
    settled(lambda: is_raw(one.slave))
    assert one.end() == 0


def test_hung_up_terminal(attached: Callable[..., Attached]) -> None:
    one = attached(tty=True)
    settled(lambda: is_raw(one.slave))
    os.close(one.slave)
    one.slave = -1
    os.close(one.stdin)
    one.stdin = one.out = one.err = -1
    kinds = {one.far.recv(100)[:1] for _ in range(2)}
    assert kinds == {b"s", b"e"}  # SIGHUP, and the end of input
    assert one.end(129) == 129


# --- keys


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("ctrl-p,ctrl-q", b"\x10\x11"), ("ctrl-P", b"\x10"), ("a", b"a"), ("ctrl-@,x", b"\0x"),
        ("ctrl-[,ctrl-_", b"\x1b\x1f"),
        ("", b""),
    ],
)  # fmt: skip
def test_parse_keys(text: str, keys: bytes) -> None:
    assert parse_keys(text) == keys


@pytest.mark.parametrize("text", ["ctrl", "ctrl-", "ctrl-1", "ab", ",", "a,,b", "ctrl-pp", "alt-x"])
def test_bad_keys(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_keys(text)


@hypothesis_given(st.lists(st.binary(max_size=6)), st.sampled_from([b"\x10\x11", b"aa", b"aab", b"a", b""]))
def test_detach_keys_lose_nothing(parts: list[bytes], keys: bytes) -> None:
    """All input up to the sequence is passed on, but for its beginning that is still held back."""
    parts = [bytes(b"ab\x10\x11"[byte % 4] for byte in part) for part in parts]
    finder = DetachKeys(keys)
    whole, passed = b"".join(parts), b""
    for part in parts:
        data, done = finder.feed(part)
        passed += data
        if done:
            assert (passed + keys) == whole[: len(passed) + len(keys)]
            return
    assert passed + keys[: finder.seen] == whole
