"""The real command, as a test's function: nano("run", "--rm", "tiny", "true").code."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import select
import shlex
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

PATIENCE = float(os.environ.get("NANOCONTAINER_TEST_PATIENCE") or 1)  # as in census.py
COMMAND = str(Path(__file__).parents[2] / "nanocontainer")


class Result:
    """How a command ended: code as a shell sees it, raw and raw_err as bytes, out and err as text."""

    def __init__(self, args: tuple[str, ...], code: int, raw: bytes, raw_err: bytes, seconds: float) -> None:
        self.args, self.code, self.raw, self.raw_err, self.seconds = args, code, raw, raw_err, seconds

    @property
    def out(self) -> str:
        return self.raw.decode(errors="replace")

    @property
    def err(self) -> str:
        return self.raw_err.decode(errors="replace")

    def __repr__(self) -> str:
        return (
            f"$ nanocontainer {shlex.join(self.args)}\n"
            f"exit code {self.code} after {self.seconds:.2f} s\n"
            f"--- stdout\n{_short(self.out)}\n--- stderr\n{_short(self.err)}"
        )


def _short(text: str, most: int = 4000) -> str:
    if len(text) <= most:
        return text
    return f"{text[: most // 2]}\n[... {len(text) - most} characters ...]\n{text[-most // 2 :]}"


class Nano:
    """One engine: its directories, and the command that uses them."""

    def __init__(self, root: str, runroot: str) -> None:
        self.root, self.runroot = root, runroot
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("NANOCONTAINER_", "PYTHON"))},
            "NANOCONTAINER_ROOT": root,
            "NANOCONTAINER_RUNROOT": runroot,
            "NANOCONTAINER_LINGER": "0",  # a bridge goes with its last container, not some seconds after: the census
            "NO_COLOR": "1",
        }

    def popen(self, *args: str, env: dict[str, str] | None = None, **options: object) -> subprocess.Popen[bytes]:
        """The command, started and not waited for; options as of subprocess.Popen."""
        return subprocess.Popen([COMMAND, *args], env={**self.env, **(env or {})}, **options)  # type: ignore[call-overload,no-any-return]

    def __call__(
        self,
        *args: str,
        check: bool = True,
        input: bytes = b"",
        timeout: float = 60,
        env: dict[str, str] | None = None,
        cwd: str | None = None,
    ) -> Result:
        """Run the command to its end. check: fail the test where the exit code is not 0. timeout: seconds."""
        begin = time.monotonic()
        process = self.popen(
            *args, env=env, cwd=cwd, process_group=0,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        try:
            out, err = process.communicate(input, timeout * PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.kill()
            out, err = _rest(process)
            result = Result(args, -9, out, err, time.monotonic() - begin)
            raise AssertionError(f"did not end within {timeout} s (or left its output open)\n{result!r}") from None
        code = process.returncode if process.returncode >= 0 else 128 - process.returncode
        result = Result(args, code, out, err, time.monotonic() - begin)
        if check and code != 0:
            raise AssertionError(f"failed\n{result!r}")
        return result

    def pty(self, *args: str, rows: int = 24, cols: int = 80, env: dict[str, str] | None = None) -> Terminal:
        """The command on a terminal of its own."""
        return Terminal([COMMAND, *args], {**self.env, "TERM": "xterm", **(env or {})}, rows, cols)

    def remove_all(self) -> None:
        """Remove every container, whatever its state."""
        ids = self("ps", "-aq", "--no-trunc", check=False).out.split()
        if ids:
            self("rm", "-f", "-v", *ids, check=False, timeout=120)


def _rest(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    """What a killed process had said; others may hold its pipes open."""
    try:
        return process.communicate(timeout=1)
    except subprocess.TimeoutExpired as error:
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream:
                stream.close()
        process.wait()
        return error.stdout or b"", error.stderr or b""


class Terminal:
    """A command on a pseudo terminal (pty(7)), driven like a person would. A context manager: the end kills it."""

    def __init__(self, command: list[str], env: dict[str, str], rows: int, cols: int) -> None:
        self.master, slave = os.openpty()
        self.before = termios.tcgetattr(slave)
        self.slave = slave  # kept open: the settings can be asked for after the command's end
        self.seen = ""  # all output so far
        self._at = 0  # what expect has gone past
        self.resize(rows, cols)
        self.process = subprocess.Popen(
            command, env=env, stdin=slave, stdout=slave, stderr=slave,
            start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip

    def resize(self, rows: int, cols: int) -> None:
        """Change the window's size, as a person drags its corner: the foreground process group gets SIGWINCH."""
        termios.tcsetwinsize(self.master, (rows, cols))

    def send(self, text: str | bytes) -> None:
        """Type. A line ends with \\r or \\n; \\x03 is Ctrl-C."""
        data = text.encode() if isinstance(text, str) else text
        while data:
            data = data[os.write(self.master, data) :]

    def expect(self, pattern: str, timeout: float = 15) -> re.Match[str]:
        """Wait for a regular expression in what has not been looked at yet, and go past it."""
        deadline = time.monotonic() + timeout
        while not (match := re.compile(pattern, re.S).search(self.seen, self._at)):
            left = deadline - time.monotonic()
            if left <= 0 or not self._read(left):
                raise AssertionError(
                    f"{'no' if left <= 0 else 'ended without'} {pattern!r} in {_short(self.seen[self._at :])!r}"
                )
        self._at = match.end()
        return match

    def _read(self, timeout: float) -> bool:
        """Some more output; False once there will be no more."""
        if not select.select([self.master], [], [], min(timeout, 0.1))[0]:
            return self.process.poll() is None or bool(select.select([self.master], [], [], 0)[0])
        try:
            data = os.read(self.master, 65536)
        except OSError as error:
            if error.errno == errno.EIO:
                return False
            raise
        self.seen += data.decode(errors="replace")
        return bool(data)

    def wait(self, timeout: float = 15) -> int:
        """Wait for the end, reading on: the exit code as a shell sees it."""
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0 and self._read(left):
            pass
        try:
            code = self.process.wait(max(0.5, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise AssertionError(f"did not end within {timeout} s; last output {self.seen[-1000:]!r}") from None
        return code if code >= 0 else 128 - code

    def settings(self) -> list[object]:
        """The terminal's settings now, as of termios.tcgetattr; `before` has those of the beginning."""
        return termios.tcgetattr(self.slave)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.master >= 0:
            os.close(self.master)
            os.close(self.slave)
            self.master = self.slave = -1

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if sys.exc_info()[0] is not None:
            print(f"terminal output:\n{_short(self.seen)}")
        self.close()
