"""What stands on the play host: an engine, the container of the lesson, and what there is to attack."""

from __future__ import annotations

import os
import subprocess

from ...engine import Engine, Result
from ...errors import Unsupported
from ...kernel import abi
from ...kernel.calls import Kernel
from ...lean import signals, sockets
from .lesson import NAMES, PRIVATE, SLEEP, in_root, specification

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ...container.spec import Container, Spec
    from ...paths import Paths
    from ...plan.plan import Plan
    from .lesson import Lesson

_OF_RUN = ("image", "command", "auto_remove", "open_stdin", "detached")  # Engine.run says these in its own words
SECRET = "/run/secret"
SERVICE = 7000  # port of what listens on the play host's 127.0.0.1


class Stage:
    """The play host while a lesson goes on. secret: a word that only the play host knows."""

    def __init__(self, paths: Paths, lesson: Lesson) -> None:
        self.lesson = lesson
        self.engine = Engine(paths.state, paths.run)
        self.engine.life.images.form = "directory"  # as unpacked by hand: one attack writes into a layer
        self.kernel = Kernel()
        self.secret = f"secret-{os.urandom(4).hex()}"
        self.id = ""
        self.env: dict[str, str] = {}  # of the containers
        self.notes: dict[str, str] = {}  # what a lesson wants to remember
        self.victim: tuple[int, sockets.socket]  # in the lesson on processes: its pid, and how to talk to it
        self._check_image()
        self._write(SECRET)
        os.mkdir(PRIVATE, 0o755)
        self._write(f"{PRIVATE}/diary")
        if lesson.before:
            lesson.before(self)

    def _check_image(self) -> None:
        """The attacks are typed with what busybox has. Unsupported where tiny is made of other tools."""
        layers = self.engine.life.images.open_layers(self.engine.image("tiny"))
        if not os.path.lexists(f"{layers[-1]}/bin/busybox"):
            why = "the image tiny has no busybox, as there is none on this host"
            raise Unsupported("cannot start the lesson", why, "apt install busybox-static")

    def _write(self, path: str) -> None:
        with open(path, "x", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(f"{self.secret}\n")

    # --- containers

    @property
    def _env(self) -> tuple[str, ...]:
        return tuple(f"{name}={value}" for name, value in self.env.items())

    def spec(self, command: str, *, walled: bool = True) -> Spec:
        return specification(self.engine, self.lesson, command, self._env, walled=walled)

    def plan(self, *, walled: bool = True) -> Plan:
        """The plan of the lesson's container, or of that of the lesson before."""
        return self.engine.explain(self.spec("true", walled=walled))

    def hold(self) -> None:
        """Start the lesson's container, which waits for the learner."""
        spec = self.spec(SLEEP)
        if self.lesson.name == "chroot":  # here the learner goes to the root
            spec = spec.replace(command=("sh", "-c", SLEEP))
        self.id, _ = self.engine.launch(spec.replace(name="lesson"), attach=False)

    def let_go(self) -> None:
        """End it."""
        if self.id:
            self.engine.remove(self.id, force=True)
            self.id = ""
            self.tidy()

    @property
    def container(self) -> Container:
        return self.engine.inspect(self.id)

    @property
    def pid(self) -> int:
        """The container's first process."""
        return self.container.state.pid

    @property
    def privileged(self) -> bool:
        """Whether a further command in the container has all of root's power: as long as the lesson's plan says nothing
        of capabilities, its first process has it too."""
        return NAMES.index(self.lesson.name) < NAMES.index("capabilities")

    @property
    def upper(self) -> str:
        """The directory in which what the container writes lands (overlayfs)."""
        return f"{self.engine.paths.container(self.id)}/upper"

    def written(self, name: str) -> str:
        """A file that was written inside; empty where it was not, or is no ordinary file."""
        try:
            fd = os.open(f"{self.upper}/{name}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return ""
        with open(fd, errors="replace") as file:
            return file.read(1 << 16)

    # --- commands

    def run(self, command: str, *, walled: bool) -> Result:
        """A command in a container of its own, which tidy() takes away."""
        spec = self.spec(command, walled=walled)
        fields = {name: value for name, value in vars(spec).items() if name not in _OF_RUN}
        return self.engine.run(spec.image, spec.command, remove=False, **fields)

    def inside(self, command: str) -> Result:
        """A command in the lesson's container."""
        return self.engine.execute(self.id, ("sh", "-c", self.placed(command)), privileged=self.privileged)

    def placed(self, command: str) -> str:
        """A command for the container as it is executed: an exec joins its namespaces, and comes to its root by the
        same way as the container's own command. In the lesson on chroot the learner goes there."""
        return command if self.lesson.name == "chroot" else in_root(command, NAMES.index(self.lesson.name) + 1)

    def outside(self, command: str) -> Result:
        """A command on the play host."""
        done = subprocess.run(["sh", "-c", command], stdin=subprocess.DEVNULL, capture_output=True, check=False)
        return Result(done.returncode, done.stdout, done.stderr)

    # --- what there is to attack

    def fork(self, life: Callable[[], object]) -> int:
        """A process of the play host that does this."""
        pid = os.fork()
        if pid == 0:
            try:
                signals.signal(signals.SIGINT, signals.SIG_IGN)
                life()
            finally:
                os._exit(0)
        return pid

    def serve(self, port: int, answers: dict[str, tuple[bytes, str]]) -> None:
        """A web server on the play host's 127.0.0.1. answers: path → what is there, and of which media type."""
        import http.server

        class Answer(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                data, kind = answers.get(self.path, (b"", ""))
                self.send_response(200 if kind else 404)
                self.send_header("Content-Type", kind or "text/plain")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(data)

            do_HEAD = do_GET

            def log_message(self, format: str, *args: object) -> None:
                """Not on our terminal."""

        server = http.server.HTTPServer(("127.0.0.1", port), Answer)  # listens from here on
        self.fork(server.serve_forever)
        server.server_close()

    def end(self, pid: int) -> None:
        """End a process of fork()."""
        os.kill(pid, signals.SIGKILL)  # it is not reaped yet, so the number is its own
        os.waitpid(pid, 0)

    def tidy(self) -> None:
        """Containers of attacks, and the mounts that they have left on the play host, are taken away."""
        others = [one.id for one in self.engine.containers(all=True) if one.id != self.id]
        for place in reversed(mounts("self", 4)):
            words = place.removeprefix(f"{self.engine.paths.run}/containers/").split("/")
            if words[0] and words[0] != self.id:
                self.kernel.umount2(place, abi.MNT_DETACH)
        for id in others:
            self.engine.remove(id, force=True)
        for name in os.listdir(f"{self.engine.paths.run}/containers"):
            if name != self.id:
                try:
                    os.rmdir(f"{self.engine.paths.run}/containers/{name}")
                except OSError:
                    pass


def mounts(pid: int | str, field: int) -> list[str]:
    """A column of a process's mountinfo (proc_pid_mountinfo(5)): 4 is the place, -1 the options, -2 the source."""
    with open(f"/proc/{pid}/mountinfo") as file:
        lines = [line.split() for line in file]
    return [line[field] if field >= 0 else line[line.index("-") + 4 + field] for line in lines]
