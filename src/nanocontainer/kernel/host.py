"""Whom the probes (probes.py) ask, and how a host says no. A test makes a Host of what it likes."""

from __future__ import annotations

import os

from ..errors import NanoError
from ..paths import read_file
from .calls import Kernel
from .facts import Facts, probe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Lack(Exception):
    """status: missing, limited or unknown; detail: what was found, in words."""

    def __init__(self, status: str, detail: str) -> None:
        super().__init__(status, detail)
        self.status, self.detail = status, detail


class Host:
    """Whom the probes ask. state: the state directory, which need not be there."""

    def __init__(self, state: str, facts: Facts | None = None, kernel: Kernel | None = None) -> None:
        self.state = state
        self.facts = facts or probe()
        self.kernel = kernel or Kernel()
        self.root = os.geteuid() == 0
        self.threads = len(os.listdir("/proc/self/task"))

    def needs_root(self) -> None:
        if not self.root:
            raise Lack("unknown", "only root can ask")

    def needs_one_thread(self) -> None:
        """To fork: a child of a process with threads may find their locks held by nobody."""
        if self.threads > 1:
            raise Lack("unknown", "not asked by a process that has threads")

    def text(self, path: str) -> str:
        """A file of /proc or /sys; empty where there is none."""
        try:
            return read_file(path).strip()
        except (OSError, ValueError):
            return ""

    def in_child(self, flags: int, ask: Callable[[], object]) -> None:
        """Ask in a child that has namespaces of its own (unshare(2)); what it makes goes with it. Lack, OSError."""
        self.needs_one_thread()
        into, out = os.pipe2(os.O_CLOEXEC)
        pid = self.kernel.fork()
        if pid == 0:
            try:
                self.kernel.unshare(flags)
                ask()
                word = b""
            except OSError as error:
                word = f"{error.errno or 0} {error.strerror}".encode()
            except NanoError as error:
                word = f"0 {error.why or error.what}".encode()
            except BaseException as error:
                word = f"0 {type(error).__name__}: {error}".encode()
            os.write(out, word)
            os._exit(0)
        os.close(out)
        said = b""
        while part := os.read(into, 4096):
            said += part
        os.close(into)
        self.kernel.waitpid(pid)
        if said:
            code, _, words = said.decode(errors="replace").partition(" ")
            raise OSError(int(code), words)
