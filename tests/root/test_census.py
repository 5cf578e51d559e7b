"""The census itself: every kind of leak is seen and named, and nothing else is."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from . import census, isolation


def run(*args: str) -> None:
    subprocess.run(args, check=True, capture_output=True)


def leaks(make: Callable[[], object], undo: Callable[[], object]) -> list[str]:
    """What the census says about a leak; and that it says nothing once the leak is gone."""
    before = census.take()
    make()
    try:
        lines = census.compare(before, census.take())
    finally:
        undo()
    assert census.settle(before) == []
    return lines


def test_nothing_is_reported_when_nothing_happened() -> None:
    assert leaks(lambda: None, lambda: None) == []


def test_a_mount(tmp_path: Path) -> None:
    place = str(tmp_path)
    lines = leaks(lambda: isolation.mount("leak", place, "tmpfs", 0), lambda: isolation.umount(place))
    assert lines == [f"+ mount: {place} (tmpfs from leak, root /)"]


def test_a_second_mount_on_the_same_place(tmp_path: Path) -> None:
    place = str(tmp_path)
    isolation.mount("leak", place, "tmpfs", 0)
    try:
        lines = leaks(lambda: isolation.mount("leak", place, "tmpfs", 0), lambda: isolation.umount(place))
    finally:
        isolation.umount(place)
    assert lines == [f"+ mount: {place} (tmpfs from leak, root /)"]


def test_a_mount_that_is_gone(tmp_path: Path) -> None:
    place = str(tmp_path)
    isolation.mount("mine", place, "tmpfs", 0)
    before = census.take()
    isolation.umount(place)
    assert census.compare(before, census.take()) == [f"- mount: {place} (tmpfs from mine, root /)"]


def test_a_veth_pair() -> None:
    lines = leaks(
        lambda: run("ip", "link", "add", "leak0", "type", "veth", "peer", "name", "leak1"),
        lambda: run("ip", "link", "del", "leak0"),
    )
    assert lines == ["+ network link: leak0", "+ network link: leak1"]


def test_a_named_network_namespace() -> None:
    lines = leaks(lambda: run("ip", "netns", "add", "leak"), lambda: run("ip", "netns", "del", "leak"))
    assert "+ named network namespace: leak" in lines
    assert any(line.startswith("+ mount: /run/netns/leak (nsfs") for line in lines)


def test_an_nftables_table_a_rule_and_an_element() -> None:
    lines = leaks(
        lambda: run("nft", "add table ip leak; add chain ip leak c; add rule ip leak c counter accept"),
        lambda: run("nft", "delete table ip leak"),
    )
    assert len(lines) == 3 and all(line.startswith("+ nftables object: ip") for line in lines)

    run("nft", "add table ip mine; add map ip mine ports { type inet_service : ipv4_addr; }")
    try:
        lines = leaks(
            lambda: run("nft", "add element ip mine ports { 8080 : 10.0.0.2 }"),
            lambda: run("nft", "delete element ip mine ports { 8080 : 10.0.0.2 }"),
        )
    finally:
        run("nft", "delete table ip mine")
    assert lines == ['+ nftables object: ip mine ports element [8080, "10.0.0.2"]']


def test_packets_are_not_a_finding() -> None:
    run("nft", "add table ip mine; add chain ip mine out { type filter hook output priority 0; }")
    run("nft", "add rule ip mine out counter accept")
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            assert leaks(lambda: sock.sendto(b"x", ("127.0.0.1", 9)), lambda: None) == []
    finally:
        run("nft", "delete table ip mine")


def test_a_process_that_has_forked_away() -> None:
    """Two forks and a session of its own: its parent is the reaper, and it is still ours."""
    read, write = os.pipe()

    def make() -> None:
        if (pid := os.fork()) == 0:
            os.setsid()
            if os.fork() == 0:
                os.write(write, os.getpid().to_bytes(4, "little"))
                time.sleep(60)
            os._exit(0)
        os.waitpid(pid, 0)
        found.append(int.from_bytes(os.read(read, 4), "little"))

    found: list[int] = []
    try:
        lines = leaks(make, lambda: os.kill(found[0], 9))
    finally:
        os.close(read)
        os.close(write)
    assert len(lines) == 1 and lines[0].startswith(f"+ process: {found[0]} (")


def test_a_process_in_a_namespace_of_its_own() -> None:
    started: list[subprocess.Popen[bytes]] = []

    def make() -> None:
        started.append(subprocess.Popen(["unshare", "--uts", "--net", "sleep", "60"]))
        while os.readlink(f"/proc/{started[0].pid}/ns/uts") == os.readlink("/proc/self/ns/uts"):
            time.sleep(0.001)
        while b"sleep\0" != Path(f"/proc/{started[0].pid}/cmdline").read_bytes()[:6]:
            time.sleep(0.001)

    def undo() -> None:
        started[0].kill()
        started[0].wait()

    lines = leaks(make, undo)
    assert sum(line.startswith("+ namespace: uts:[") for line in lines) == 1
    assert sum(line.startswith("+ namespace: net:[") for line in lines) == 1
    assert sum(line.startswith("+ process: ") for line in lines) == 1


def test_a_zombie_nobody_waits_for() -> None:
    started: list[subprocess.Popen[bytes]] = []

    def make() -> None:
        started.append(subprocess.Popen(["true"]))
        os.waitid(os.P_PID, started[0].pid, os.WEXITED | os.WNOWAIT)

    lines = leaks(make, lambda: started[0].wait())
    assert [line for line in lines if "process" in line and "zombie" in line]


def test_a_cgroup_of_a_watched_engine_in_each_hierarchy(tmp_path: Path) -> None:
    state = str(tmp_path / "state")
    hierarchies = [f"/sys/fs/cgroup/{name}" for name in os.listdir("/sys/fs/cgroup")]
    hierarchies = [top for top in hierarchies if os.path.exists(f"{top}/cgroup.procs")]
    if os.path.exists("/sys/fs/cgroup/cgroup.procs"):
        hierarchies = ["/sys/fs/cgroup"]
    assert hierarchies
    groups = [f"{top}/nanocontainer-{census.mark(state)}" for top in sorted(hierarchies)]
    census.watch(state, f"{state}/run")
    try:
        lines = leaks(lambda: [os.mkdir(group) for group in groups], lambda: [os.rmdir(group) for group in groups])
    finally:
        del census.watched[state]
    assert lines == [f"+ cgroup: {group}" for group in groups]


def test_files_of_an_engine_but_not_its_images(tmp_path: Path) -> None:
    state = tmp_path / "state"
    (state / "containers").mkdir(parents=True)
    (state / "images" / "blobs").mkdir(parents=True)
    (state / "names").mkdir()
    census.watch(str(state), str(state / "run"))

    def make() -> None:
        (state / "images" / "blobs" / "sha256").write_text("")
        (state / "containers" / "abc").mkdir()
        (state / "containers" / "abc" / "spec.json").write_text("")
        (state / "names" / "web").symlink_to("nowhere")

    def undo() -> None:
        (state / "containers" / "abc" / "spec.json").unlink()
        (state / "containers" / "abc").rmdir()
        (state / "names" / "web").unlink()

    try:
        lines = leaks(make, undo)
    finally:
        del census.watched[str(state)]
    assert lines == [
        f"+ file of the engine: {state}/containers/abc/",
        f"+ file of the engine: {state}/containers/abc/spec.json",
        f"+ file of the engine: {state}/names/web",
    ]


def test_an_open_file() -> None:
    opened: list[int] = []
    lines = leaks(lambda: opened.append(os.open("/dev/null", os.O_RDONLY)), lambda: os.close(opened[0]))
    assert lines == [f"+ open file of this process: {opened[0]} /dev/null"]


def test_a_unix_socket(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        lines = leaks(lambda: sock.bind(str(tmp_path / "attach.sock")), sock.close)
    assert lines == [f"+ unix socket: {tmp_path}/attach.sock"]


def test_a_thread() -> None:
    end = threading.Event()
    thread = threading.Thread(target=end.wait, name="forgotten")
    lines = leaks(thread.start, lambda: (end.set(), thread.join()))
    assert "+ thread of this process: forgotten" in lines


def test_what_vanishes_by_itself_soon_is_no_leak() -> None:
    before = census.take()
    process = subprocess.Popen(["sh", "-c", "sleep 0.3"])
    threading.Thread(target=process.wait).start()
    assert census.compare(before, census.take()) != []
    assert census.settle(before) == []


def test_a_leak_fails_the_test_that_made_it(pytester: pytest.Pytester) -> None:
    """The fixture, in a pytest of its own: a test that passes and leaves a link behind does not pass."""
    pytester.makeconftest("from tests.root.conftest import counted")
    pytester.makepyfile(
        """
        import subprocess

        def test_leaves_a_link_behind():
            subprocess.run(["ip", "link", "add", "leak7", "type", "bridge"], check=True)

        def test_is_clean():
            pass
        """
    )
    try:
        result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    finally:
        run("ip", "link", "del", "leak7")
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*left behind by this test*", "*+ network link: leak7*"])


def test_a_count_is_quick() -> None:
    """Two of them belong to every test. Generous: a loaded machine must not fail this."""
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        census.take()
        times.append(time.perf_counter() - begin)
    assert min(times) < 0.1
