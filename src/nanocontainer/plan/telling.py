"""What a start says of itself while it happens, and how somebody who watches answers.

A start is run by two processes, the keeper on the host and init inside, and neither is the command that a person looks
at. So there is a SOCK_SEQPACKET pair (unix(7)): messages keep their bounds, it has no name in any file system, so it
works through every namespace and root, and the kernel adds to each message the pid of its sender as the receiver counts
it (SO_PASSCRED, SCM_CREDENTIALS): so the watcher knows init, which knows itself as 1.

    watcher (Watch)                        keeper, then init too (Telling)
    ---------------                        -------------------------------
                   ◀── plan    [open file: the steps]        before the first step
                   ◀── mark    name                          something beside the steps has been reached
                   ◀── before  index
    go|skip|abort  ──▶                                       only where the watcher asks for it
                   ◀── after   index, begin                  time and begin: when it ended and began
                   ◀── born    index                         init's first word, after Clone
                   ◀── failed  index, error
                   ◀── done                                  all steps succeeded
    names          ──▶                                       only where the watcher asks for it: what it left out
                   ◀── end of file                           nothing more will come: it runs, or all is taken back

Times are CLOCK_MONOTONIC in nanoseconds, taken as close to the step as can be. After the filter is loaded nothing is
needed but read(2), write(2) and the clock, which the engine's own way to the command needs as well (launcher.py).

Both ends are close-on-exec: the command never has them. A watcher that only looks and is gone is not missed. One that
is asked (`asks`) is waited for, and when it is gone the start ends, and is taken back.
"""

from __future__ import annotations

import os
import time

from ..errors import Aborted
from ..lean import dumps, loads, send_fds, sockets
from ..record import Record
from .plan import Plan
from .step import Reporter, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar

GO, SKIP, ABORT = "go", "skip", "abort"
_SIZE = 1 << 16
_MOST_FILES = 1
_ERROR_TEXT = 1000  # characters of each text of an error


class Told(Record):
    """One message. at: plan, mark, before, after, born, failed, done. index: of the step. time, begin: nanoseconds of
    CLOCK_MONOTONIC; begin only of after. pid: who said it, in the watcher's numbers. name: of a mark. error: what
    NanoError.as_dict() says."""

    at: str
    time: int
    index: int = -1
    begin: int = 0
    pid: int = 0
    name: str = ""
    error: dict[str, str] = {}


class Telling(Reporter):
    """The telling end, in the keeper and in init. asks: wait for an answer before each step; Aborted where it is no."""

    def __init__(self, fd: int, *, asks: bool) -> None:
        self.fd, self.asks = fd, asks
        self.skipped: tuple[str, ...] = ()  # class names of what the watcher left out; known when all is done
        self._begin = 0
        self._teller = 0  # whose loop it is; in init, a copy of that

    def mark(self, name: str, moment: int = 0) -> None:
        """Something beside the steps has been reached, now or at a moment before."""
        self._say({"at": "mark", "time": moment or time.monotonic_ns(), "name": name})

    def planned(self, plan: Plan) -> None:
        """The steps can be long (a command's environment): they go as a file in memory, not as a message."""
        self._teller = os.getpid()
        steps = [[type(step).__module__, type(step).__name__, step.as_dict()] for step in plan]
        fd = os.memfd_create("plan", os.MFD_CLOEXEC)
        try:
            with open(fd, "w", encoding="ascii", closefd=False) as file:
                file.write(dumps({"steps": steps, "given": list(plan.given)}))
            sock = sockets.socket(fileno=os.dup(self.fd))
            try:
                send_fds(sock, dumps({"at": "plan", "time": time.monotonic_ns()}).encode(), (fd,))
            except OSError as error:
                self._lost(error)
            finally:
                sock.close()
        finally:
            os.close(fd)

    def before(self, index: int, step: Step) -> bool:
        self._say({"at": "before", "time": time.monotonic_ns(), "index": index})
        answer = self._answer(step) if self.asks else GO
        self._begin = time.monotonic_ns()
        return answer == SKIP

    def after(self, index: int, step: Step) -> None:
        now = time.monotonic_ns()
        at = "born" if type(step).__name__ == "Clone" and os.getpid() != self._teller else "after"
        self._say({"at": at, "time": now, "begin": self._begin, "index": index})

    def failed(self, index: int, step: Step, error: BaseException) -> None:
        if isinstance(error, Aborted):
            return  # the watcher knows: it has said so, or is gone
        from .execute import failure_of  # loaded: it is who calls us

        words = {key: value[:_ERROR_TEXT] for key, value in failure_of(step, error).as_dict().items()}
        self._say({"at": "failed", "time": time.monotonic_ns(), "begin": self._begin, "index": index, "error": words})

    def done(self) -> None:
        try:
            self._say({"at": "done", "time": time.monotonic_ns()})
            if self.asks:
                self.skipped = tuple(os.read(self.fd, _SIZE).decode().split())
        except (OSError, Aborted):
            pass  # it runs by now: nobody is needed any more

    def close(self) -> None:
        """Nothing more will be told by this process."""
        os.close(self.fd)

    def _say(self, words: dict[str, Any]) -> None:
        try:
            os.write(self.fd, dumps(words).encode())
        except OSError as error:
            self._lost(error)

    def _answer(self, step: Step) -> str:
        try:
            answer = os.read(self.fd, 16).decode()
        except OSError:
            answer = ""
        if answer not in (GO, SKIP):
            why = "" if answer else "who watched it is gone"
            raise Aborted(f"the start was aborted before step {type(step).__name__}", why)
        return answer

    def _lost(self, error: OSError) -> None:
        """The other end is closed: only who must be asked is missed."""
        if self.asks:
            raise Aborted("the start was aborted", "who watched it is gone") from error


class Watch:
    """The watching end. Make it, give it to engine.launch, start or exec, and that calls attend().

    A subclass says in heard() what is done with each message; where `asks`, its return value for a "before" is the
    answer: GO, SKIP or ABORT. plan: the steps, from the first message on.
    """

    asks: ClassVar[bool] = False

    def __init__(self) -> None:
        kind = sockets.SOCK_SEQPACKET | sockets.SOCK_CLOEXEC
        self.sock, self.far = sockets.socketpair(sockets.AF_UNIX, kind)
        self.sock.setsockopt(sockets.SOL_SOCKET, sockets.SO_PASSCRED, 1)
        self.plan = Plan(())
        self._skipped: list[str] = []

    def telling(self) -> Telling:
        """What the process that runs the start tells by. Made before the fork."""
        return Telling(self.far.fileno(), asks=self.asks)

    def heard(self, told: Told) -> str | None:
        """A message has come. For a "before" where `asks`: the answer."""
        return GO

    def attend(self) -> None:
        """Hear all that is said until the start is over, one way or the other."""
        self.far.close()
        try:
            while told := self.receive():
                answer = self.heard(told)
                if not self.asks:
                    continue
                if told.at == "before":
                    if answer == SKIP:
                        self._skipped.append(type(self.plan.steps[told.index]).__name__)
                    self._answer(answer or GO)
                elif told.at == "done":
                    self._answer(" ".join(dict.fromkeys(self._skipped)) or " ")
        finally:
            self.close()

    def close(self) -> None:
        """Look away. Where `asks` that ends the start."""
        self.far.close()
        self.sock.close()

    def _answer(self, word: str) -> None:
        try:
            self.sock.send(word.encode(), sockets.MSG_NOSIGNAL)
        except OSError:
            pass  # who has asked was killed: the end of file comes next

    def receive(self) -> Told | None:
        """The next message; None after the last."""
        space = sockets.CMSG_SPACE(12) + sockets.CMSG_SPACE(4 * _MOST_FILES)
        try:
            data, extra, _, _ = self.sock.recvmsg(_SIZE, space, sockets.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:  # it was closed while an answer of ours was unread
            return None
        pid, fd = 0, -1
        for level, kind, packed in extra:
            if level == sockets.SOL_SOCKET and kind == sockets.SCM_CREDENTIALS:
                pid = _number(packed)
            elif level == sockets.SOL_SOCKET and kind == sockets.SCM_RIGHTS:
                fd = _number(packed)
        if fd >= 0:
            self.plan = _plan_in(fd)
        return Told.from_dict({**loads(data.decode()), "pid": pid}) if data else None


def _number(packed: bytes) -> int:
    return int.from_bytes(packed[:4], "little", signed=True)


def _plan_in(fd: int) -> Plan:
    """The plan in a file, which is closed. It is one of ours, from our own child: the modules that it names are loaded
    where they are not yet."""
    with open(fd, encoding="ascii") as file:
        file.seek(0)
        data = loads(file.read())
    steps = []
    for module, name, fields in data["steps"]:
        if name not in Step.kinds:
            __import__(module)
        steps.append(Step.kinds[name].from_dict(fields))
    return Plan(tuple(steps), tuple(data["given"]))
