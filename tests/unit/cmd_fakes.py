"""An engine for tests of the command line: it has containers and images, and remembers what it was asked to do."""

from __future__ import annotations

import os
import socket
from typing import Any

from nanocontainer.cmd.main import App, main
from nanocontainer.container.attach import Client, Session
from nanocontainer.container.spec import Container, Port, Spec, State
from nanocontainer.errors import NotFound
from nanocontainer.image.details import Details
from nanocontainer.image.model import Image, ImageConfig
from nanocontainer.image.usage import Sharing
from nanocontainer.paths import Paths

WEB, OLD = "ab" * 32, "cd" * 32
IMAGE = "sha256:" + "12" * 32


class FakeEngine:
    def __init__(self) -> None:
        self.paths = Paths("/state", "/run")
        self.asked: list[tuple[Any, ...]] = []
        self.failing: dict[str, Exception] = {}
        self.far: socket.socket | None = None
        web = Spec(
            "nginx", id=WEB, name="web", image_id=IMAGE, created="2024-05-01T12:00:00.000000000Z",
            args=("nginx", "-g", "daemon off;"), labels={"tier": "front", "a.b": "c"}, exposed=("80/tcp", "443/tcp"),
        )  # fmt: skip
        old = Spec(
            "debian:12", id=OLD, name="old", image_id="sha256:" + "34" * 32, created="2024-04-01T12:00:00.000000000Z",
            args=("sh", "-c", "exit 3"),
        )  # fmt: skip
        self.known = [
            Container(web, State(
                "running", pid=4711, started="2024-05-01T12:00:01.000000000Z", ip="10.88.0.2",
                mac="02:42:0a:58:00:02",
                ports=(Port(80, 8080), Port(443, 8443, "127.0.0.1")),
            )),
            Container(old, State(
                "exited", exit_code=3, started="2024-04-01T12:00:01.000000000Z",
                finished="2024-04-01T12:00:02.000000000Z",
            )),
        ]  # fmt: skip
        self.stored = [
            Image(IMAGE, ("docker.io/library/nginx:latest", "localhost:5000/nginx:1"),
                  ("docker.io/library/nginx@sha256:" + "56" * 32,), ImageConfig(cmd=("nginx",), labels={"x": "y"}),
                  created="2024-01-01T00:00:00Z", size=187_654_321),
            Image("sha256:" + "78" * 32, created="2023-01-01T00:00:00Z", size=999_960),
        ]  # fmt: skip

    def _ask(self, *what: Any) -> None:
        self.asked.append(what)
        if what[0] in self.failing:
            raise self.failing[what[0]]

    def network_inspect(self, ref: str) -> Any:
        self._ask("network_inspect", ref)
        raise NotFound(f"network {ref} not found")

    def containers(self, *, all: bool = False, on_broken: Any = None) -> list[Container]:
        self._ask("containers", all)
        return [one for one in self.known if all or one.state.status == "running"]

    def inspect(self, ref: str) -> Container:
        for one in self.known:
            if ref in (one.name, one.id) or one.id.startswith(ref):
                return one
        raise NotFound(f"no such container: {ref}")

    def image(self, name: str, *, make: bool = True) -> Image:
        for image in self.stored:
            if name in (image.id, "nginx", "nginx:latest") and image.names:
                return image
        raise NotFound(f"no such image: {name}")

    def image_inspect(self, name: str) -> Details:
        return Details(self.image(name), layers=("/layers/1",))

    def image_sharing(self) -> dict[str, Sharing]:
        return {image.id: Sharing(0, image.size) for image in self.stored}

    def image_prune(self, **how: Any) -> tuple[list[str], int]:
        self._ask("image_prune", how["all"], how["until"], how["labels"], how["without"])
        return [f"Untagged: {self.stored[-1].id}"], self.stored[-1].size

    def images(self, on_broken: Any = None) -> list[Image]:
        return self.stored

    def size(self, ref: str) -> tuple[int, int]:
        return 1095, 187_655_416

    def launch(self, spec: Spec, *, attach: bool, **how: Any) -> tuple[str, Session | None]:
        self._ask("launch", spec, attach, how)
        if not attach:
            return WEB, None
        session, self.far = Session.pair()
        return WEB, session

    def create(self, spec: Spec, **how: Any) -> str:
        self._ask("create", spec, how)
        return WEB

    def start(self, ref: str, *, attach: bool = False) -> Session | None:
        self._ask("start", ref, attach)
        return None

    def stop(self, ref: str, timeout: int | None = None, signal: str = "") -> None:
        self._ask("stop", ref, timeout, signal)

    def kill(self, ref: str, signal: str = "KILL") -> None:
        self._ask("kill", ref, signal)

    def restart(self, ref: str, timeout: int | None = None) -> None:
        self._ask("restart", ref, timeout)

    def pause(self, ref: str) -> None:
        self._ask("pause", ref)

    def unpause(self, ref: str) -> None:
        self._ask("unpause", ref)

    def wait(self, ref: str) -> int:
        self._ask("wait", ref)
        return 3

    def remove(self, ref: str, *, force: bool = False, volumes: bool = False) -> None:
        self.inspect(ref)
        self._ask("remove", ref, force, volumes)

    def exec(self, ref: str, args: Any, **how: Any) -> Any:
        self._ask("exec", ref, tuple(args), how)
        return Direct(5)

    def logs(self, ref: str, **how: Any) -> Any:
        from nanocontainer.container.logs import LogLine

        self._ask("logs", ref, how)
        self.inspect(ref)
        return iter([
            LogLine("2024-05-01T12:00:00.000000001Z", "stdout", "one\n"),
            LogLine("2024-05-01T12:00:00.000000002Z", "stderr", "two\n"),
            LogLine("2024-05-01T12:00:00.000000003Z", "stdout", "three"),
        ])  # fmt: skip

    def pull(self, reference: str, *, platform: str = "", on_progress: Any = None, access: Any = None) -> Image:
        self._ask("pull", reference, platform)
        return self.stored[0]

    def pull_newer(self, reference: str, *, platform: str = "", on_progress: Any = None) -> Image:
        self._ask("pull_newer", reference, platform)
        return self.stored[0]

    def pull_all(self, repository: str, *, platform: str = "", on_progress: Any = None, access: Any = None) -> None:
        self._ask("pull_all", repository, platform)

    def load(self, source: Any, on_progress: Any = None, *, platform: str = "") -> list[Image]:
        self._ask("load", source)
        return self.stored

    def tag(self, name: str, new: str) -> None:
        self._ask("tag", name, new)

    def remove_image(self, name: str, *, force: bool = False) -> list[str]:
        self._ask("remove_image", name, force)
        return [f"Untagged: {name}"]

    def info(self) -> dict[str, object]:
        return {
            "Name": "host",
            "Containers": 2,
            "Lists": ["a", "b"],
            "Flag": True,
            "Inner": {"Key": "value"},
            "MemTotal": int(23.54 * (1 << 30)),
        }


class Direct:
    """An exec that has our own streams."""

    direct = True

    def __init__(self, code: int) -> None:
        self.code = code
        self.closed = False

    def wait(self) -> int:
        return self.code

    def signal(self, number: int) -> None:
        raise AssertionError("nobody sends signals here")

    def close(self) -> None:
        self.closed = True


class Cli:
    """The command line with a fake engine: cli("ps", "-a") -> (code, stdout, stderr)."""

    def __init__(self, capfd: Any) -> None:
        self.engine = FakeEngine()
        self.capfd = capfd

    def __call__(self, *words: str) -> tuple[int, str, str]:
        app = App()
        app._engine = self.engine  # type: ignore[assignment]
        self.capfd.readouterr()
        code = main(list(words), app)
        out, err = self.capfd.readouterr()
        assert "Traceback" not in err, err
        assert "bug of NanoContainer" not in err, err
        return code, out, err


def keeper_end(engine: FakeEngine) -> Client:
    assert engine.far is not None
    return Client(engine.far)


def no_terminal() -> None:
    """stdin from nowhere: tests must not depend on where they are started."""
    fd = os.open("/dev/null", os.O_RDONLY)
    os.dup2(fd, 0)
    os.close(fd)
