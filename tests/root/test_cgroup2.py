"""Limits, freezing, killing and counting where all controllers are in cgroup2, as on today's hosts.

Hosts with a hybrid layout skip this; `./check vm` runs it in virtual machines, with an older and a newer kernel.
Elsewhere a disk to be read from is named by NANOCONTAINER_TEST_DISK.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nanocontainer.kernel.calls import Kernel
from nanocontainer.runtime.cgroup import counter, out_of_memory

from . import census
from .isolation import MS_BIND, mount, umount
from .nano import Nano

CGROUP = Path("/sys/fs/cgroup")


def _controllers() -> set[str]:
    try:
        return set((CGROUP / "cgroup.controllers").read_text().split())
    except OSError:
        return set()


pytestmark = [
    pytest.mark.skipif(
        not _controllers() >= {"cpu", "memory", "pids"}, reason="needs cgroup2 with controllers: ./check vm"
    ),
    pytest.mark.timeout(120),
]


@pytest.fixture
def running(clean: Nano) -> Callable[..., str]:
    """Start a container with options that sleeps, or runs a script: its id."""

    def start(*options: str, script: str = "exec sleep 1000") -> str:
        return clean("run", "-d", "--network", "none", *options, "tiny", "sh", "-c", script).out.strip()

    return start


def group(nano: Nano, id: str) -> Path:
    return CGROUP / f"nanocontainer-{census.mark(nano.root)}" / id


def state(nano: Nano, id: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(nano("inspect", id).out)[0]["State"]
    return found


def numbers(file: Path) -> dict[str, int]:
    """A flat keyed file."""
    return {key: int(value) for key, value in (line.split() for line in file.read_text().splitlines())}


def until(what: Callable[[], object], timeout: float = 20) -> None:
    deadline = time.monotonic() + timeout * census.PATIENCE
    while not what():
        assert time.monotonic() < deadline, "it does not come to be"
        time.sleep(0.05)


def test_info_names_the_version_and_the_controllers(nano: Nano) -> None:
    said = nano("info").out
    assert "CgroupVersion: 2\n" in said
    listed = next(line for line in said.splitlines() if line.startswith("CgroupControllers:")).split()[1:]
    assert set(listed) == _controllers()


def test_a_container_without_limits_has_a_group_of_its_own(clean: Nano, running: Callable[..., str]) -> None:
    id = running()
    pid = str(state(clean, id)["Pid"])
    assert (group(clean, id) / "cgroup.procs").read_text().split() == [pid]
    # seen from inside it is the root of the tree, read-only
    inside = "cat /proc/self/cgroup; cat /sys/fs/cgroup/cgroup.procs; echo 1 > /sys/fs/cgroup/cgroup.freeze"
    said = clean("exec", id, "sh", "-c", inside, check=False)
    assert said.out.splitlines()[:2] == ["0::/", "1"]
    assert "Read-only file system" in said.err


def test_limits_are_written_and_an_exec_shares_them(clean: Nano, running: Callable[..., str]) -> None:
    id = running(
        "-m", "64m", "--memory-swap", "96m", "--memory-reservation", "32m", "--cpus", "0.5", "--cpu-shares", "512",
        "--cpuset-cpus", "0", "--pids-limit", "20",
    )  # fmt: skip
    files = {
        "memory.max": str(64 << 20), "memory.swap.max": str(32 << 20), "memory.low": str(32 << 20),
        "cpu.max": "50000 100000", "cpu.weight": "20", "cpuset.cpus": "0", "cpuset.cpus.effective": "0",
        "pids.max": "20",
    }  # fmt: skip
    assert {name: (group(clean, id) / name).read_text().strip() for name in files} == files
    script = "cat /proc/self/cgroup /sys/fs/cgroup/pids.max; nproc; wc -l < /sys/fs/cgroup/cgroup.procs"
    said = clean("exec", id, "sh", "-c", script).out.split()
    assert said[:3] == ["0::/", "20", "1"]
    assert int(said[3]) > 1  # the first process and those of the exec


@pytest.mark.parametrize(("swap", "file"), [("", 32 << 20), ("32m", "0"), ("-1", "max")])
def test_what_memory_swap_means(clean: Nano, swap: str, file: object) -> None:
    options = ("--memory-swap", swap) if swap else ()
    show = ("tiny", "cat", "/sys/fs/cgroup/memory.swap.max")
    assert clean("run", "--rm", "--network", "none", "-m", "32m", *options, *show).out == f"{file}\n"


def test_the_kernel_kills_what_uses_too_much_memory(clean: Nano) -> None:
    script = "x=0123456789abcdef; while :; do x=$x$x; done"
    options = ("--name", "greedy", "--network", "none", "-m", "16m", "--memory-swap", "16m")
    assert clean("run", *options, "tiny", "sh", "-c", script, check=False).code == 137
    found = state(clean, "greedy")
    assert (found["OOMKilled"], found["ExitCode"], found["Status"]) == (True, 137, "exited")


def test_processor_time_is_limited(clean: Nano) -> None:
    script = "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done; cat /sys/fs/cgroup/cpu.stat"
    said = clean("run", "--rm", "--network", "none", "--cpus", "0.2", "tiny", "sh", "-c", script).out
    found = {key: int(value) for key, value in (line.split() for line in said.splitlines())}
    assert found["nr_throttled"] > 0
    assert found["throttled_usec"] > found["usage_usec"]  # at a fifth, it waits four times as long as it runs


def test_the_number_of_processes_is_limited(clean: Nano, running: Callable[..., str]) -> None:
    # The shell that cannot fork any more ends, and must not be the container's first process.
    script = "(i=0; while [ $i -lt 20 ]; do sleep 100 & i=$((i+1)); done); exec sleep 100"
    id = running("--pids-limit", "10", script=script)
    until(lambda: numbers(group(clean, id) / "pids.events")["max"] > 0)
    assert int((group(clean, id) / "pids.current").read_text()) <= 10


def disk() -> str:
    found = os.environ.get("NANOCONTAINER_TEST_DISK")
    if not found:
        pytest.skip("no disk to read from: NANOCONTAINER_TEST_DISK names none")
    return found


def test_disks_are_limited(clean: Nano) -> None:
    number = os.stat(disk()).st_rdev
    options = ("--network", "none", "--device", disk(), "--device-read-bps", f"{disk()}:1mb")
    script = f"cat /sys/fs/cgroup/io.max; dd if={disk()} of=/dev/null bs=64k count=24 iflag=direct"
    result = clean("run", "--rm", *options, "tiny", "sh", "-c", script)
    assert result.out == f"{os.major(number)}:{os.minor(number)} rbps=1048576 wbps=max riops=max wiops=max\n"
    assert result.seconds > 1.0  # for 1.5 MiB


def test_a_share_of_disk_time_where_the_kernel_knows_it(clean: Nano) -> None:
    options = ("--network", "none", "--blkio-weight", "505")
    result = clean("run", "--rm", *options, "tiny", "cat", "/sys/fs/cgroup/io.weight", check=False)
    if result.code:  # Alpine's is built without
        assert "cannot limit its share of disk time: this kernel has no io.weight" in result.err
    else:
        assert result.out == "default 5000\n"


def test_pause_freezes_all_and_unpause_lets_go_on(clean: Nano, running: Callable[..., str]) -> None:
    id = running(script="(while :; do echo x; sleep 0.02; done) & wait")
    place = group(clean, id)
    clean("pause", id)
    assert numbers(place / "cgroup.events")["frozen"] == 1
    usage = numbers(place / "cpu.stat")["usage_usec"]
    time.sleep(0.3)
    assert numbers(place / "cpu.stat")["usage_usec"] == usage
    assert clean("exec", id, "true", check=False).code == 1
    clean("unpause", id)
    assert numbers(place / "cgroup.events")["frozen"] == 0
    until(lambda: numbers(place / "cpu.stat")["usage_usec"] > usage)
    clean("pause", id)
    clean("kill", id)  # a frozen container can be killed
    assert clean("wait", id).out == "137\n"
    assert not place.exists()


def test_nothing_survives_the_end_of_the_first_process(clean: Nano, running: Callable[..., str]) -> None:
    """Children that ignore signals and have sessions of their own, started by it and by an exec."""
    script = "trap '' TERM HUP; (setsid sleep 1000 &); (setsid sleep 1000 &); while :; do sleep 1; done"
    id = running("--pid", "host", script=script)
    clean("exec", "-d", id, "sh", "-c", "trap '' TERM HUP; sleep 1000; true")
    procs = group(clean, id) / "cgroup.procs"
    until(lambda: len(procs.read_text().split()) >= 5)
    pids = [int(pid) for pid in procs.read_text().split()]
    clean("stop", "-t", "1", id)
    assert state(clean, id)["ExitCode"] == 137
    assert not procs.exists()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_device_that_was_not_given_cannot_be_opened(clean: Nano) -> None:
    script = (
        "for n in 'x b 7 0' 'y c 1 1' 'z c 1 11'; do mknod /tmp/$n; dd if=/tmp/${n%% *} count=0; done; "
        "head -c1 /dev/zero | wc -c; echo > /dev/null"
    )
    result = clean("run", "--rm", "--network", "none", "--tmpfs", "/tmp:dev", "tiny", "sh", "-c", script)
    assert result.err.count("Operation not permitted") == 3, result
    assert result.out.strip() == "1"


def test_a_device_given_for_reading_cannot_be_written(clean: Nano) -> None:
    script = f"dd if={disk()} of=/dev/null count=1 && echo readable; dd if=/dev/zero of={disk()} count=0 conv=notrunc"
    options = ("--network", "none", "--device", f"{disk()}:{disk()}:r")
    result = clean("run", "--rm", *options, "tiny", "sh", "-c", script, check=False)
    assert (result.out, result.code) == ("readable\n", 1)
    assert "Operation not permitted" in result.err


def test_a_killed_keeper_is_swept(clean: Nano, running: Callable[..., str]) -> None:
    id = running("-m", "64m", "--pids-limit", "10")
    keeper = int(next(
        pid for pid in os.listdir("/proc") if pid.isdecimal() and f"keeper {id[:12]}".encode() in _command(pid)
    ))  # fmt: skip
    os.kill(keeper, signal.SIGKILL)
    until(lambda: clean("ps", "-q").out == "")
    assert state(clean, id)["Status"] == "exited"
    assert not group(clean, id).exists()
    clean("start", id)
    assert state(clean, id)["Running"]


def _command(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
    except OSError:
        return b""


def test_bridge(clean: Nano) -> None:
    script = "ip -4 addr show eth0 | grep -c inet; set -- $(ip route show default); ping -c1 -W5 $3 | grep -c ' 0% '"
    result = clean("run", "--rm", "tiny", "sh", "-c", script, check=False)
    assert result.out.split() == ["1", "1"], result


@pytest.fixture
def without_pids(another_nano: Callable[[], Nano], tmp_path: Path) -> Iterator[Nano]:
    """An engine that finds no pids controller."""
    listed = tmp_path / "controllers"
    listed.write_text(" ".join(_controllers() - {"pids"}))
    mount(str(listed), str(CGROUP / "cgroup.controllers"), None, MS_BIND)
    try:
        yield another_nano()
    finally:
        umount(str(CGROUP / "cgroup.controllers"))


def test_a_limit_without_its_controller_is_an_error(without_pids: Nano) -> None:
    result = without_pids("run", "--rm", "--network", "none", "--pids-limit", "5", "tiny", "true", check=False)
    assert result.code == 125
    assert "cannot limit the number of processes" in result.err
    assert "'pids' is missing" in result.err


def test_a_hierarchy_of_version_1_for_something_else(another_nano: Callable[[], Nano], tmp_path: Path) -> None:
    """net_cls and net_prio have no version 2: hosts mount them beside cgroup2."""
    try:
        mount("net_cls", str(tmp_path), "cgroup", 0, "net_cls")
    except OSError as error:
        pytest.skip(f"no net_cls here: {error}")
    try:
        show = ("tiny", "cat", "/sys/fs/cgroup/memory.max")
        result = another_nano()("run", "--rm", "--network", "none", "-m", "32m", *show)
        assert result.out.strip() == str(32 << 20)
    finally:
        umount(str(tmp_path))


def test_a_value_that_the_kernel_refuses_leaves_nothing(clean: Nano) -> None:
    result = clean("run", "--rm", "--network", "none", "--cpuset-cpus", "4000", "tiny", "true", check=False)
    assert result.code == 125
    assert "cannot limit which processors it runs on" in result.err
    assert os.strerror(errno.EINVAL) in result.err or os.strerror(errno.ERANGE) in result.err or "4000" in result.err


def test_the_kernel_counts_what_it_kills_in_a_container_that_goes_on(clean: Nano, running: Callable[..., str]) -> None:
    """The first process lives, a child is killed: the count that `inspect` asks for at the end is there before."""
    script = "(x=0123456789abcdef; while :; do x=$x$x; done); exec sleep 1000"
    id = running("-m", "16m", "--memory-swap", "16m", script=script)
    place = group(clean, id)
    until(lambda: counter(Kernel(), f"{place}/memory.events", "oom_kill"))
    assert out_of_memory(Kernel(), str(place))
    assert not out_of_memory(Kernel(), f"{place}/nowhere")
    assert state(clean, id)["Running"]
    clean("kill", id)
    assert state(clean, id)["OOMKilled"]


def test_what_stats_will_read(clean: Nano, running: Callable[..., str]) -> None:
    """There is no `stats` yet. The files it needs are there, and say what the container does: memory, processor time,
    disk, processes (docs.kernel.org/admin-guide/cgroup-v2.html)."""
    script = f"dd if={disk()} of=/dev/null bs=64k count=16 iflag=direct; sleep 100 & exec sleep 100"
    limits = ("-m", "64m", "--pids-limit", "10", "--device-read-bps", f"{disk()}:1gb")  # what is limited is counted
    id = running("--device", disk(), *limits, script=script)
    place, kernel = group(clean, id), Kernel()
    number = os.stat(disk()).st_rdev
    read = f"{os.major(number)}:{os.minor(number)} rbytes={1 << 20} wbytes=0 rios=16 "
    until(lambda: read in (place / "io.stat").read_text())
    until(lambda: (place / "pids.current").read_text() == "2\n")
    assert 0 < int((place / "memory.current").read_text()) <= 64 << 20
    assert 0 < counter(kernel, f"{place}/memory.stat", "anon") < 64 << 20
    assert counter(kernel, f"{place}/cpu.stat", "usage_usec") > 0
    assert counter(kernel, f"{place}/cpu.stat", "no such key") == 0
