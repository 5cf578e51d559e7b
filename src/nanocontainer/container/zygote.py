"""The zygote: a small process that forks keepers, and parents of execs, for a program that cannot fork itself.

A program with threads must not fork and go on in Python: locks of its other threads would stay held for ever in the
child. So it starts one fresh, single-threaded interpreter, once, and asks that for keepers. Also a program with a large
heap gains: fork(2) copies its page tables each time, 6 ms for 100 MiB, and the zygote's not.

    program ── {"spec", "image"} + [report, first] ──▶ zygote ──fork──▶ keeper
    program ── {"exec", "options"} + [report] ───────▶ zygote ──fork──▶ parent ──clone──▶ command
            ◀── {"pid", ...} + [pidfd, streams], {"code"} on report ──────┘
"""

from __future__ import annotations

import os
import sys

from ..errors import NanoError
from ..lean import dumps, loads, recv_fds, send_fds, signals, sockets
from ..paths import Paths
from ..plan.wire import Wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from ..image.model import Image
    from ..plan.telling import Telling, Watch
    from .exec import ExecSession
    from .lifecycle import Lifecycle
    from .spec import Spec

_LARGEST = 1 << 20


class Zygote:
    """The program's end. Lives as long as the program; the zygote ends when this end is closed."""

    def __init__(self, paths: Paths) -> None:
        self._sock, far = sockets.socketpair(sockets.AF_UNIX, sockets.SOCK_SEQPACKET | sockets.SOCK_CLOEXEC)
        self._sock.setsockopt(sockets.SOL_SOCKET, sockets.SO_SNDBUF, _LARGEST)
        source = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        code = f"import sys; sys.path.insert(0, {source!r}); from nanocontainer.container.zygote import main; main()"
        os.set_inheritable(far.fileno(), True)
        try:
            arguments = [sys.executable, "-IS", "-c", code, str(far.fileno()), paths.state, paths.run]
            self._pid = os.posix_spawn(sys.executable, arguments, os.environ)
        except OSError as error:
            raise NanoError("cannot start the helper process", f"{sys.executable}: {error.strerror}") from None
        finally:
            far.close()

    def keep(self, spec: Spec, report: int, first: int, image: Image | None, telling: Telling | None = None) -> None:
        """Let it fork a keeper; what comes of it is said on `report`."""
        request = {"spec": spec.as_dict(), "image": image.as_dict() if image else None}
        self._ask(request, (report, first) if first >= 0 else (report,), telling)

    def exec(self, id: str, options: dict[str, Any], watch: Watch | None = None) -> ExecSession:
        """Let it fork a parent for one more command in a container. options: as of run_exec()."""
        from .exec import DistantSession

        report, far = Wire.pair()
        try:
            self._ask({"exec": id, "options": options}, (far.fileno(),), watch.telling() if watch else None)
            far.close()
            if watch:
                watch.attend()
        except BaseException:
            report.close()
            raise
        finally:
            far.close()
        return DistantSession(report)

    def _ask(self, request: dict[str, Any], files: tuple[int, ...], telling: Telling | None) -> None:
        """telling: the start is told on one more file, the last."""
        if telling:
            request, files = {**request, "asks": telling.asks}, (*files, telling.fd)
        data = dumps(request).encode()
        if len(data) > _LARGEST // 4:
            raise NanoError("cannot start the container or command", f"its words are too long ({len(data)} bytes)")
        try:
            send_fds(self._sock, data, files)
        except OSError as error:
            raise NanoError("the helper process is gone", error.strerror or "", "make a new Engine") from None


def main() -> NoReturn:
    """The zygote itself: everything imported, then one fork per request. Its children are nobody's to wait for."""
    import gc

    from ..image.model import Image
    from . import exec as _before_the_fork  # noqa: F401 (children share what is loaded)
    from .keeper import run_keeper
    from .lifecycle import Lifecycle
    from .locks import Lock
    from .spec import Spec

    sock = sockets.socket(fileno=int(sys.argv[1]))
    os.set_inheritable(sock.fileno(), False)
    life = Lifecycle(Paths(sys.argv[2], sys.argv[3]))
    signals.signal(signals.SIGCHLD, signals.SIG_IGN)
    signals.signal(signals.SIGINT, signals.SIG_IGN)
    gc.collect()
    gc.freeze()
    while True:
        data, fds = recv_fds(sock, _LARGEST, 3)
        if not data:
            os._exit(0)
        request = loads(data.decode())
        if os.fork() == 0:
            signals.signal(signals.SIGCHLD, signals.SIG_DFL)
            signals.signal(signals.SIGINT, signals.SIG_DFL)
            telling = None
            if "asks" in request:
                fds, last = fds[:-1], fds[-1]
                from ..plan.telling import Telling

                telling = Telling(last, asks=request["asks"])
            if "exec" in request:
                sock.close()
                report = Wire(sockets.socket(fileno=fds[0]))
                _be_parent(life, request["exec"], request["options"], report, telling)
            spec = Spec.from_dict(request["spec"])
            image = Image.from_dict(request["image"]) if request["image"] else None
            report = Wire(sockets.socket(fileno=fds[0]))
            first = sockets.socket(fileno=fds[1]) if len(fds) > 1 else None
            run_keeper(life, Lock(life.paths, spec.id), spec, report, first, image=image, telling=telling)
        for fd in fds:
            os.close(fd)


def _be_parent(
    life: Lifecycle, id: str, options: dict[str, Any], report: Wire, telling: Telling | None
) -> NoReturn:
    """Start a command in a container, hand its streams over, wait for its end, say its exit code."""
    from .exec import run_exec

    try:
        os.setsid()  # keys of the program's terminal do not mean us
        life.reporter = telling
        session = run_exec(life, life.settle(id), **options)
        if telling:
            telling.close()
        session.hand_over(report)
        session.close()
        report.say({"code": session.wait()})
    except NanoError as error:
        report.say(error.as_dict())
    except BaseException as error:
        report.say(NanoError("the command could not be started", f"{type(error).__name__}: {error}").as_dict())
    finally:
        os._exit(0)
