"""How limits were met: the counters of both versions of cgroups; and what is said of commands that cannot be run."""

from __future__ import annotations

from pathlib import Path

from nanocontainer.container.command_checkup import check_command
from nanocontainer.container.pressure import pressed_of
from nanocontainer.container.spec import Limits

ALL = Limits(memory=1 << 24, pids=5, cpus=0.5)


def fill(place: Path, files: dict[str, str]) -> str:
    place.mkdir(parents=True)
    for name, text in files.items():
        (place / name).write_text(text)
    return str(place)


def test_version_2(tmp_path: Path) -> None:
    group = fill(tmp_path / "g", {
        "memory.events": "low 0\nhigh 0\nmax 7\noom 1\noom_kill 1\n", "memory.peak": "16777216\n",
        "pids.events": "max 3\n", "cpu.stat": "usage_usec 9\nnr_periods 5\nnr_throttled 4\nthrottled_usec 250000\n",
    })  # fmt: skip
    assert pressed_of(group, (), ALL) == {
        "memory peak": 16777216, "memory max": 7, "memory oom_kill": 1, "pids max": 3, "cpu throttled": 4,
        "cpu throttled_ms": 250,
    }  # fmt: skip
    assert pressed_of(group, (), Limits(pids=5)) == {"pids max": 3}
    assert pressed_of(group, (), Limits()) == {}


def test_version_1(tmp_path: Path) -> None:
    memory = fill(tmp_path / "memory" / "g", {
        "memory.max_usage_in_bytes": "100\n", "memory.failcnt": "2\n",
        "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
    })  # fmt: skip
    pids = fill(tmp_path / "pids" / "g", {"pids.events": "max 1\n"})
    cpu = fill(tmp_path / "cpu,cpuacct" / "g", {"cpu.stat": "nr_periods 5\nnr_throttled 2\nthrottled_time 5000000\n"})
    assert pressed_of(str(tmp_path), (memory, pids, cpu), ALL) == {
        "memory peak": 100, "memory max": 2, "memory oom_kill": 3, "pids max": 1, "cpu throttled": 2,
        "cpu throttled_ms": 5,
    }  # fmt: skip
    assert pressed_of(str(tmp_path / "gone"), (), ALL) == {}


def test_a_command_behind_links_and_layers(tmp_path: Path) -> None:
    """The top layer decides; absolute links mean the container's root; what is broken is no crash."""
    top, low = tmp_path / "top", tmp_path / "low"
    for layer in (top, low):
        (layer / "bin").mkdir(parents=True)
    (low / "bin" / "one").write_bytes(b"#!/bin/two\n")
    (top / "bin" / "two").write_bytes(b"\x7fELF" + bytes(60))
    (low / "bin" / "link").symlink_to("/bin/one")
    (low / "bin" / "away").symlink_to("/etc/nowhere")
    for file in (low / "bin" / "one", top / "bin" / "two"):
        file.chmod(0o755)

    def problem(*args: str) -> str:
        return check_command((str(top), str(low)), args, ("PATH=/bin",), "/", "riscv64", {}).problem

    assert "broken" in problem("/bin/two") and "broken" in problem("link")
    assert "a link to /etc/nowhere" in problem("/bin/away")
    assert "there is no thre in PATH" in problem("thre")
    assert "is a directory" in problem("/bin")
    assert problem("./x") == "there is no file /x"
