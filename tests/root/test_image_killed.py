"""push, save, commit and import that are killed (SIGKILL) or interrupted in the middle: nothing half has a name, and
the next attempt works as if nothing had been."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .nano import Nano
from .test_image_layers import one, tar_of
from .test_image_push import Fake, Handler

LAYERS = [tar_of(one(f"file{number}", os.urandom(3_000_000))) for number in range(2)]


@pytest.fixture(scope="module")
def big(nano: Nano, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    place = tmp_path_factory.mktemp("big")
    (place / "layer.tar").write_bytes(LAYERS[0])
    yield nano("import", str(place / "layer.tar"), "big:1").out.strip()
    nano("rmi", "-f", "big:1", check=False)


@pytest.fixture
def stalling(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    """A registry that stops in the middle of each body until it is told to go on."""
    server = Fake()
    go = threading.Event()
    begun = threading.Event()
    body = Handler.body

    def stalled(self: Handler, into: bytearray) -> bool:
        if not go.is_set():
            begun.set()
            go.wait(30)
        return body(self, into)

    monkeypatch.setattr(Handler, "body", stalled)
    server.go, server.begun = go, begun  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    go.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_push(nano: Nano, big: str, stalling: Fake, number: signal.Signals) -> None:
    name = f"{stalling.address}/big:1"
    nano("tag", "big:1", name)
    try:
        process = nano.popen("push", name, stderr=subprocess.DEVNULL)
        assert stalling.begun.wait(20)  # type: ignore[attr-defined]
        process.send_signal(number)
        if number == signal.SIGINT:
            time.sleep(0.3)
            stalling.go.set()  # type: ignore[attr-defined]
        assert process.wait(40) in (-9, 130)
        stalling.go.set()  # type: ignore[attr-defined]
        assert not stalling.manifests
        sound(nano)
        assert nano("push", "-q", name).out.startswith(f"{name}@sha256:")
        assert list(stalling.manifests) == ["big:1"]
    finally:
        nano("rmi", name)


def sound(nano: Nano) -> None:
    """doctor finds nothing among the images, and every image can be read."""
    found = nano("doctor", check=False).out
    assert "image-leftover" not in found and "damaged-image" not in found, found
    nano("images", "-q")


def killed(nano: Nano, words: tuple[str, ...], after: float, input: Path | None = None) -> int:
    with open(input or "/dev/null", "rb") as stdin:
        process = nano.popen(*words, stdin=stdin, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(after)
        process.kill()
        return process.wait()


def test_save(nano: Nano, big: str, tmp_path: Path) -> None:
    whole = tmp_path / "whole.tar"
    nano("save", "-o", str(whole), "big:1")
    for step in range(8):
        target = tmp_path / "out.tar"
        killed(nano, ("save", "-o", str(target), "big:1"), 0.03 + 0.02 * step)
        assert not target.exists() or target.read_bytes() == whole.read_bytes()
        assert {path.name for path in tmp_path.iterdir()} <= {"whole.tar", "out.tar"}
        target.unlink(missing_ok=True)


def test_commit_and_import(nano: Nano, big: str, tmp_path: Path) -> None:
    (tmp_path / "layer.tar").write_bytes(LAYERS[1])
    nano("create", "--name", "base", "big:1", "x")
    upper = next(Path(nano.root, "containers").iterdir()) / "upper"
    (upper / "new").write_bytes(LAYERS[1])
    words: list[tuple[str, ...]] = [("commit", "base", "half:1"), ("import", str(tmp_path / "layer.tar"), "half:2")]
    try:
        for step in range(6):
            killed(nano, words[step % 2], 0.04 + 0.03 * step)
            listed = nano("images", "--format", "{{.Repository}}:{{.Tag}}", "half").out.split()
            for name in listed:  # named: then it is whole
                assert nano("image", "layers", name).code == 0
                nano("rmi", name)
        nano("doctor", "--repair", check=False)
        sound(nano)
        for number, command in enumerate(words, 1):
            nano(*command)
            nano("rmi", f"half:{number}")
    finally:
        nano("rm", "base")




def test_a_container_runs_on_when_its_commit_is_killed(nano: Nano, big: str) -> None:
    nano("run", "-d", "--name", "still", "--network", "none", "tiny", "sleep", "1000")
    try:
        upper = next(Path(nano.root, "containers").iterdir()) / "upper"
        with open(upper / "large", "wb") as file:
            file.write(LAYERS[1] * 8)
        for step in range(6):
            killed(nano, ("commit", "still", "half:3"), 0.06 + 0.03 * step)
            deadline = time.monotonic() + 5
            while (status := nano("inspect", "-f", "{{.State.Status}}", "still").out.strip()) == "paused":
                assert time.monotonic() < deadline, status
                time.sleep(0.02)
            assert status == "running"
    finally:
        nano("rm", "-f", "still")
        nano("rmi", "half:3", check=False)
