"""A disk that is really full: the container goes on, and the log says what it lacks."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from nanocontainer.container.jsonlog import FILE, JsonLog
from nanocontainer.container.logs import read_logs
from nanocontainer.container.streams import Streams

from .isolation import umount

SIZE = 1 << 20


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of a megabyte."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(tmp_path)], check=True)
    yield tmp_path
    umount(str(tmp_path))


def broken(line: str) -> None:
    raise AssertionError(f"broken: {line!r}")


def fill(path: Path) -> None:
    with pytest.raises(OSError, match="No space left"), open(path, "wb", buffering=0) as file:
        while True:
            file.write(bytes(65536))


@pytest.mark.parametrize("max_size", [-1, 100_000])
def test_lines_are_counted_until_there_is_space_again(small: Path, max_size: int) -> None:
    log = JsonLog(str(small), max_size=max_size, max_file=100)
    number = 0
    while not log.lost:
        log.write("stdout", b"".join(b"%d %s\n" % (number + one, b"x" * 70) for one in range(100)))
        number += 100
    for _ in range(50):
        log.write("stdout", b"".join(b"%d\n" % (number + one) for one in range(100)))
        number += 100
    rotated = [name for name in os.listdir(small) if name != FILE]
    oldest = max(rotated, key=lambda name: int(name.rpartition(".")[2]), default="")
    if oldest:
        os.unlink(small / oldest)
    else:
        os.truncate(small / FILE, 0)
    log.write("stdout", b"last\n")
    assert log.lost == 0
    log.close()
    lines = [line.text for line in read_logs(str(small), on_broken=broken)]
    assert lines[-1] == "last\n"
    assert lines[-2].endswith("log lines lost: No space left on device]\n")
    if oldest:
        first, before = int(lines[0].split()[0]), int(lines[-3].split()[0])
        assert [int(line.split()[0]) for line in lines[:-2]] == list(range(first, before + 1))
        assert before + 1 + int(lines[-2].split()[1]) == number


def test_a_container_goes_on_when_the_disk_is_full(small: Path) -> None:
    log = JsonLog(str(small))
    fill(small / "filler")
    read, write = os.pipe()
    process = subprocess.Popen(["/usr/bin/seq", "200000"], stdout=write)
    os.close(write)
    pidfd = os.pidfd_open(process.pid)
    streams = Streams(pidfd=pidfd, signal=process.send_signal, stdout=read, log=log)
    streams.run()
    streams.finish(process.wait())
    os.close(pidfd)
    assert process.returncode == 0
    os.unlink(small / "filler")
    log.close()
    lines = list(read_logs(str(small), on_broken=broken))
    lost = int(lines[-1].text.split()[1])
    assert lines[-1].stream == "stderr"
    assert len(lines) - 1 + lost == 200_000
