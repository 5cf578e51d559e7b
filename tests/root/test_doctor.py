"""doctor: each kind of leftover is planted, found, cleared away, and the machine is as it was before it was planted."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nanocontainer.container.diagnosis import Diagnosis
from nanocontainer.container.leftover import Leftover
from nanocontainer.engine import Engine
from nanocontainer.image import claims as layer_locks
from nanocontainer.kernel.calls import Kernel
from nanocontainer.network import rules
from nanocontainer.network.allot import Binding
from nanocontainer.network.model import NetworkStore, table_name
from nanocontainer.network.plan import ensure_bridge
from nanocontainer.paths import Paths, new_id
from nanocontainer.plan.step import World

from . import census
from .nano import Nano

OLD = time.time() - 3600


class Patient:
    """An engine to be examined. Other engines of this machine are not ours to judge: their things are left out."""

    def __init__(self, nano: Nano) -> None:
        self.nano, self.paths = nano, Paths(nano.root, nano.runroot)

    def examine(self, repair: bool = False) -> list[Leftover]:
        """By the command, as a user would."""
        done = self.nano("doctor", "--json", *(["--repair"] if repair else []), check=False)
        assert done.code in (0, 1) and not done.err, done
        diagnosis = Diagnosis.from_dict(json.loads(done.out))
        assert diagnosis.fine is (done.code == 0) and not diagnosis.unseen
        return [one for one in diagnosis.leftovers if not one.kind.startswith("foreign-")]

    def kinds(self) -> list[str]:
        return sorted({one.kind for one in self.examine()})

    def cured(self, *kinds: str) -> list[Leftover]:
        """These kinds are found, and nothing else; looking changes nothing; repaired, nothing is found any more."""
        assert self.kinds() == sorted(kinds)
        assert self.kinds() == sorted(kinds)
        ended = self.examine(repair=True)
        assert {one.kind for one in ended} == set(kinds)
        assert [one for one in ended if one.outcome != "repaired"] == []
        assert self.examine() == []
        return ended

    def named(self, kind: str) -> Leftover:
        """This one is found, and a repair leaves it, with a hint."""
        (one,) = self.examine(repair=True)
        assert (one.kind, one.outcome) == (kind, "left")
        assert one.why and one.hint and not one.action
        return one

    def keeper(self, name: str) -> int:
        return int(json.loads(Path(self.paths.container(self.id(name)), "state.json").read_text())["keeper"])

    def id(self, name: str) -> str:
        return self.nano("inspect", "-f", "{{.Id}}", name).out.strip()

    def status(self, name: str) -> str:
        return self.nano("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}", name).out.strip()


@pytest.fixture(scope="session", autouse=True)
def nft_of_this_process() -> None:
    """Its socket stays open (kernel/nft.py)."""
    Kernel().nft("list tables\n")


@pytest.fixture
def patient(clean: Nano) -> Patient:
    return Patient(clean)


@pytest.fixture
def counted_again(patient: Patient) -> Iterator[Callable[[], None]]:
    """Fails where the machine is not as it was when the test began."""
    before = census.take()

    def count() -> None:
        assert census.settle(before) == []

    yield count


def old(path: str | Path) -> None:
    os.utime(path, (OLD, OLD), follow_symlinks=False)


def kill_keeper(patient: Patient, name: str) -> None:
    """As the kernel does when memory is short; the container dies with it."""
    pid = patient.keeper(name)
    pidfd = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        while Path(f"/proc/{pid}").exists():
            time.sleep(0.005)
    finally:
        os.close(pidfd)


def at_rest(patient: Patient, *names: str) -> census.Count:
    """The census when nothing changes by itself any more: keepers have made themselves small, which closes files and
    changes their command lines, and the cables of containers that have ended are gone."""
    deadline = time.monotonic() + 30
    while not all(b"resume.py" in Path(f"/proc/{patient.keeper(name)}/cmdline").read_bytes() for name in names):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    while True:
        counted = census.take()
        time.sleep(0.2)
        if not census.compare(counted, census.take()):
            return counted
        assert time.monotonic() < deadline


# --- health


def test_a_healthy_engine(patient: Patient) -> None:
    """Containers in all states, seen while one is just starting and ending: nothing is found, nothing is touched."""
    nano = patient.nano
    nano("run", "-d", "--name", "web", "-p", "127.0.0.1:18087:80", "-v", "data:/data", "tiny", "sleep", "1000")
    nano("run", "-d", "--name", "frozen", "--memory", "32m", "tiny", "sleep", "1000")
    nano("pause", "frozen")
    nano("create", "--name", "new", "tiny")
    nano("run", "--name", "done", "tiny", "sh", "-c", "exit 3", check=False)
    before = tree(nano.root), tree(nano.runroot)
    counted = at_rest(patient, "web", "frozen")
    busy = nano.popen("run", "--rm", "tiny", "sleep", "0.3", stdout=subprocess.DEVNULL)
    try:
        assert patient.examine() == []
        assert patient.examine(repair=True) == []
    finally:
        busy.wait()
    assert patient.examine() == []
    assert census.settle(counted) == []
    assert (tree(nano.root), tree(nano.runroot)) == before
    assert [patient.status(name) for name in ("web", "frozen", "new", "done")] == [
        "running 0", "paused 0", "created 0", "exited 3",
    ]  # fmt: skip
    nano("rm", "-f", "web")
    shutil.rmtree(f"{patient.paths.volumes}/data")


def tree(top: str) -> list[tuple[str, int]]:
    """All files but the diary, with the times of their last change."""
    found = []
    for place, _, files in os.walk(top):
        names = [f"{place}/{name}" for name in files if name != "events.log"]
        found += [(name, os.lstat(name).st_mtime_ns) for name in names]
    return sorted(found)


def test_without_root(clean: Nano) -> None:
    """The host is looked at; that the rest is not is said."""
    process = clean.popen("doctor", "--json", user=65534, group=65534, extra_groups=[], stdout=subprocess.PIPE)
    out, _ = process.communicate()
    diagnosis = Diagnosis.from_dict(json.loads(out))
    assert process.returncode == 0
    assert diagnosis.unseen == "only root can look into the state directory" and not diagnosis.leftovers
    found = {one.name: one for one in diagnosis.features}
    assert found["openat2"].status == found["pidfd"].status == found["kernel"].status == "ok"
    assert (found["nftables"].status, found["nftables"].detail) == ("unknown", "only root can ask")
    assert not found["nftables"].costs


def test_info_without_root_counts_nothing_that_it_cannot_see(clean: Nano) -> None:
    clean("create", "--name", "it", "tiny")
    process = clean.popen("info", user=65534, group=65534, extra_groups=[], stdout=subprocess.PIPE)
    out, _ = process.communicate()
    assert process.returncode == 0 and b"KernelVersion" in out
    assert b"Containers" not in out and b"Images" not in out
    assert "Containers: 1\n" in clean("info").out


def test_this_host(patient: Patient) -> None:
    """The suite runs here, so what a run needs is there."""
    patient.nano("run", "-d", "--name", "one", "--network", "none", "tiny", "sleep", "1000")  # a group to look at
    features = Engine(patient.paths.state, patient.paths.run).doctor().features
    patient.nano("rm", "-f", "one")
    assert [one for one in features if one.needed and one.status != "ok"] == []
    assert len({one.name for one in features}) == len(features) > 30
    assert all((one.status in ("limited", "missing")) <= bool(one.costs and one.remedy) for one in features)


# --- containers


@pytest.mark.parametrize("remove", [False, True], ids=["kept", "rm"])
def test_a_keeper_that_was_killed(patient: Patient, counted_again: Callable[[], None], remove: bool) -> None:
    options = ["--rm"] if remove else []
    patient.nano("run", "-d", *options, "--name", "web", "-p", "127.0.0.1:18087:80", "tiny", "sleep", "1000")
    kill_keeper(patient, "web")
    (ended,) = patient.cured("lost-keeper")
    assert ended.subject == "web" and "keeper lost" in ended.detail and ("--rm" in ended.action) is remove
    if not remove:
        assert patient.status("web") == "exited 255 keeper lost"
        patient.nano("start", "web")
        patient.nano("rm", "-f", "web")
    counted_again()


def test_a_start_that_was_killed(patient: Patient, counted_again: Callable[[], None]) -> None:
    id = patient.nano("create", "--name", "web", "tiny", "true").out.strip()
    Path(patient.paths.container(id), "journal").write_text('{"boot": "x", "st')
    lease = Path(patient.paths.networks, "bridge/leases/172.31.255.9")
    lease.symlink_to(id)
    patient.cured("killed-start")
    assert not lease.is_symlink()
    patient.nano("start", "-a", "web")
    patient.nano("rm", "web")
    counted_again()


def test_a_container_that_is_half_made(patient: Patient, counted_again: Callable[[], None]) -> None:
    id = new_id()
    os.makedirs(f"{patient.paths.container(id)}/upper")
    Path(patient.paths.names, "half").symlink_to(id)
    patient.cured("half-made-container")
    counted_again()


def test_removals_that_were_killed(patient: Patient, counted_again: Callable[[], None]) -> None:
    os.makedirs(f"{patient.paths.containers}/.rm-{new_id()}/upper/etc")
    os.makedirs(f"{patient.paths.volumes}/.rm-data-{1 << 22}/_data")
    patient.cured("half-removed")
    counted_again()


def test_claims_of_nobody(patient: Patient, counted_again: Callable[[], None]) -> None:
    id = patient.nano("create", "--name", "idle", "tiny").out.strip()
    ports, leases = Path(patient.paths.state, "ports"), Path(patient.paths.networks, "bridge/leases")
    for owner, number in ((id, 1), (new_id(), 2)):
        (ports / f"tcp-any-1808{number}").symlink_to(owner)
        (leases / f"172.31.255.{number}").symlink_to(owner)
    Path(patient.paths.names, "nobody").symlink_to(new_id())
    os.makedirs(f"{patient.paths.run}/containers/{new_id()}")
    ended = patient.cured("stale-name", "stale-lease", "stale-port", "stale-live-directory")
    assert len(ended) == 6
    patient.nano("rm", "idle")
    counted_again()


def test_what_is_no_claim(patient: Patient) -> None:
    path = Path(patient.paths.names, "strange")
    path.write_text("x")
    try:
        assert patient.named("stray-file").subject == str(path)
        assert path.read_text() == "x"
    finally:
        path.unlink()


def test_a_broken_container_is_named_and_kept(patient: Patient) -> None:
    id = patient.nano("create", "--name", "web", "tiny").out.strip()
    directory = Path(patient.paths.container(id))
    (directory / "upper/mine").write_text("kept")
    whole = (directory / "spec.json").read_text()
    (directory / "spec.json").write_text(whole[:50])
    one = patient.named("broken-container")
    assert "spec.json" in one.detail and f"rm -f {id[:12]}" in one.hint
    assert (directory / "upper/mine").read_text() == "kept"
    (directory / "spec.json").write_text(whole)
    assert patient.examine() == []


def test_steps_of_another_version(patient: Patient) -> None:
    """Only that version knows what they left. What a user reads then, of doctor, rm and start."""
    id = patient.nano("create", "--name", "web", "tiny", "true").out.strip()
    journal = Path(patient.paths.container(id), "journal")
    journal.write_text('{"boot": "x", "step": "BoilTea", "data": {}}\n')
    one = patient.named("unknown-steps")
    assert "BoilTea" in one.detail and str(journal) in one.hint
    refused = patient.nano("rm", "-f", "web", check=False)
    assert refused.code == 1 and "BoilTea" in refused.err and "version" in refused.err and "Hint: " in refused.err
    refused = patient.nano("start", "web", check=False)
    assert refused.code == 1 and "BoilTea: unknown to this version" in refused.err and "doctor" in refused.err
    assert journal.read_text().count("\n") == 1
    journal.unlink()
    patient.nano("start", "-a", "web", check=False)


def test_a_journal_of_garbage(patient: Patient, counted_again: Callable[[], None]) -> None:
    id = patient.nano("create", "--name", "web", "tiny").out.strip()
    Path(patient.paths.container(id), "journal").write_bytes(b"\0\0\0\0\n[1]\nnonsense\n")
    (ended,) = patient.cured("killed-start")
    assert "3 lines of its journal are broken" in ended.detail
    patient.nano("rm", "web")
    counted_again()


# --- the kernel's


def test_cgroups_of_nobody(patient: Patient, counted_again: Callable[[], None]) -> None:
    """Empty ones, and one with a process; those of a container that runs stay."""
    patient.nano("run", "-d", "--name", "web", "--memory", "32m", "tiny", "sleep", "1000")
    sleeper = subprocess.Popen(["sleep", "1000"])
    try:
        for root in tops():
            os.makedirs(f"{root}/{patient.paths.group}/{new_id()}/below")
        place = Path(tops()[-1], patient.paths.group, new_id())
        place.mkdir()
        (place / "cgroup.procs").write_text(str(sleeper.pid))
        ended = patient.cured("orphan-cgroup", "processes-without-keeper")
        (one,) = [one for one in ended if one.kind == "processes-without-keeper"]
        assert f"{sleeper.pid} (sleep)" in one.detail
        assert sleeper.wait(5) == -9
        assert patient.status("web") == "running 0"
        patient.nano("rm", "-f", "web")
        counted_again()
    finally:
        sleeper.kill()
        sleeper.wait()


def tops() -> list[str]:
    """cgroup2, the last one, and what else is mounted of limits."""
    found = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    two = [fields[4] for fields in found if " ".join(fields).partition(" - ")[2].split()[0] == "cgroup2"]
    return [*(path for path in ("/sys/fs/cgroup/pids",) if os.path.ismount(path)), two[0]]


def test_an_empty_group_of_the_engine(patient: Patient, counted_again: Callable[[], None]) -> None:
    os.mkdir(f"{tops()[-1]}/{patient.paths.group}")
    patient.cured("orphan-cgroup")
    counted_again()


def test_a_bridge_without_containers(patient: Patient, counted_again: Callable[[], None]) -> None:
    network = NetworkStore(patient.paths).find("bridge")
    ensure_bridge(patient.paths, network).do(World(Kernel()))
    ended = patient.cured("idle-bridge")
    assert ended[0].subject == network.interface
    counted_again()


def test_rules_for_no_bridge(patient: Patient, counted_again: Callable[[], None]) -> None:
    network = NetworkStore(patient.paths).find("bridge")
    Kernel().nft(rules.base(table_name(patient.paths), network.interface, network.subnet))
    patient.cured("stale-bridge-rule", "idle-table")
    counted_again()


def test_published_ports_of_nobody(patient: Patient, counted_again: Callable[[], None]) -> None:
    """Those of a container that runs stay."""
    table = table_name(patient.paths)
    patient.nano("run", "-d", "--name", "web", "-p", "127.0.0.1:18087:80", "-p", "18086:81/udp", "tiny", "sleep", "99")
    ruleset = census.take()["nftables object"]
    Kernel().nft(rules.publish(table, "172.31.255.7", [Binding(80, 18085), Binding(80, 18084, "127.0.0.1", "udp")]))
    ended = patient.cured("stale-port-rule")
    assert sorted(one.subject for one in ended) == ["*:18085/tcp", "127.0.0.1:18084/udp"]
    assert census.take()["nftables object"] == ruleset
    patient.nano("rm", "-f", "web")
    counted_again()


def test_another_engine_is_named_and_only_what_is_dead_goes(patient: Patient) -> None:
    """Whose state directory is not known: an empty group that is old goes, a young one, a process and a bridge stay."""
    root = tops()[-1]
    ours = f"{os.getpid():06x}"  # others on this machine may be at the same test: cgroups are seen by all
    dead, young, held = (f"{root}/nanocontainer-{ours}0{number}" for number in range(3))
    sleeper = subprocess.Popen(["sleep", "1000"])
    engine = Engine(patient.paths.state, patient.paths.run)
    try:
        for top in (dead, young, held):
            os.makedirs(f"{top}/{new_id()}")
        Path(held, "cgroup.procs").write_text(str(sleeper.pid))
        for top in (dead, held):
            for place in (top, *(entry.path for entry in os.scandir(top) if entry.is_dir())):
                old(place)
        with Kernel().links() as links:
            links.add_bridge(f"nano-{ours}03")
        marked = [one for one in engine.doctor(repair=True).leftovers if f"-{ours}0" in one.subject]
        assert sorted((one.kind, one.subject[-8:], one.outcome) for one in marked) == [
            ("foreign-bridge", f"{ours}03", "left"),
            ("foreign-cgroup", f"{ours}00", "repaired"),
            ("foreign-cgroup", f"{ours}02", "left"),
        ]
        assert [os.path.isdir(top) for top in (dead, young, held)] == [False, True, True]
        assert sleeper.poll() is None
    finally:
        sleeper.kill()
        sleeper.wait()
        with Kernel().links() as links:
            links.delete_link(f"nano-{ours}03")
        for top in (dead, young, held):
            for place, _, _ in os.walk(top, topdown=False):
                os.rmdir(place)


# --- the disk's


def test_half_written_files(patient: Patient, counted_again: Callable[[], None]) -> None:
    """Old ones: a young one may be somebody's who is just writing it."""
    id = patient.nano("create", "--name", "web", "tiny").out.strip()
    places = [patient.paths.state, patient.paths.run, patient.paths.container(id), f"{patient.paths.networks}/bridge"]
    for place in places:
        path = Path(place, f"state.json.{os.urandom(8).hex()}.tmp")
        path.write_text("{")
        old(path)
    young = Path(patient.paths.state, f"format.{os.urandom(8).hex()}.tmp")
    young.write_text("{")
    os.mkdir(f"{patient.paths.state}/.probe-{1 << 22}")
    assert len(patient.cured("half-written-file")) == 5
    young.unlink()
    patient.nano("rm", "web")
    counted_again()


def test_what_pulls_left(patient: Patient) -> None:
    images = Path(patient.paths.images)
    before = sorted(path for path in images.rglob("*") if ".lock" not in path.name)
    for name in ("a" * 64, "b" * 64 + ".tmp", "c" * 64 + ".gone"):
        (images / "layers" / name / "etc").mkdir(parents=True)
    for name in ("layers/" + "d" * 64 + ".json", "blobs/sha256/" + "e" * 64, "ids/x.json.tmp", "refs/.tmp"):
        (images / name).write_text("{}")
    held = layer_locks.seize(str(images / "layers" / ("f" * 64)))  # a pull is at work
    assert held is not None
    (images / "layers" / ("f" * 64 + ".tmp")).mkdir()
    assert len(patient.cured("image-leftover")) == 7
    os.rmdir(images / "layers" / ("f" * 64 + ".tmp"))
    layer_locks.release(str(images / "layers" / ("f" * 64)), held)
    assert sorted(path for path in images.rglob("*") if ".lock" not in path.name) == before


def test_damaged_images_are_named_and_kept(another_nano: Callable[[], Nano]) -> None:
    patient = Patient(another_nano())
    patient.nano("run", "--rm", "--network", "none", "tiny", "true")
    patient.nano("system", "convert", "--to", "directory")
    images = Path(patient.paths.images)
    (blob,) = (images / "blobs/sha256").iterdir()
    (record,) = (images / "ids").iterdir()
    layers = [path for path in (images / "layers").iterdir() if path.is_dir()]
    whole = blob.read_bytes(), record.read_bytes()
    blob.write_bytes(b"{}")
    assert "another digest" in patient.named("damaged-image").detail
    blob.write_bytes(whole[0])
    record.write_text("{")
    assert "rmi" in patient.named("damaged-image").hint
    record.write_bytes(whole[1])
    assert patient.examine() == []
    (file,) = [path for path in layers[0].rglob("*") if path.is_file() and not path.is_symlink()][:1]
    data = file.read_bytes()
    os.truncate(file, 0)
    assert re.search(r"have (\d+) bytes, and had (\d+)", patient.named("damaged-image").detail)
    file.write_bytes(data)
    layers[0].rename(f"{layers[0]}-away")
    assert "is missing" in next(one for one in patient.examine() if one.kind == "damaged-image").detail
    Path(f"{layers[0]}-away").rename(layers[0])
    (images / "refs/docker.io%library%gone:latest").symlink_to(f"../ids/{'0' * 64}.json")
    assert patient.named("damaged-image").subject == "docker.io/library/gone:latest"
    assert blob.exists() and record.exists() and all(path.exists() for path in layers)


def test_a_shortened_image_of_a_layer_and_a_stray_mount(another_nano: Callable[[], Nano]) -> None:
    patient = Patient(another_nano())
    patient.nano("run", "--rm", "--network", "none", "tiny", "true")
    layers = Path(patient.paths.images, "layers")
    (file,) = layers.glob("*.erofs")
    data = file.read_bytes()
    os.truncate(file, len(data) - 4096)
    assert "should have" in patient.named("damaged-image").detail
    file.write_bytes(data)
    assert patient.examine() == []
    stray = Path(patient.paths.run, "layers", "1" * 64)
    stray.mkdir()
    assert str(stray) in str(patient.examine())
    patient.examine(repair=True)
    assert not stray.exists() and patient.examine() == []


def test_a_volume_that_was_being_filled(patient: Patient) -> None:
    volume = Path(patient.paths.volumes, "data")
    (volume / "_filling/etc").mkdir(parents=True)
    (volume / "_data").mkdir()
    (volume / "_data/mine").write_text("kept")
    patient.cured("half-filled-volume")
    assert (volume / "_data/mine").read_text() == "kept"
    shutil.rmtree(volume)


def test_links_out_of_the_state_directory(another_nano: Callable[[], Nano], tmp_path: Path) -> None:
    """Links may go; nothing goes that lies behind them."""
    patient = Patient(another_nano())
    patient.nano("run", "--rm", "--network", "none", "tiny", "true")
    outside = tmp_path / "outside"
    (outside / "_filling").mkdir(parents=True)
    for name in ("kept", "_filling/kept", f"state.json.{'0' * 16}.tmp", ".probe-4194304"):
        (outside / name).write_text("kept")
        old(outside / name)
    paths, id = patient.paths, "a" * 64
    half = Path(paths.container("b" * 64))
    for link in (
        paths.container(id), paths.live("d" * 64),
        f"{paths.containers}/.rm-{'c' * 64}", f"{paths.volumes}/.rm-x-4194304",
        f"{paths.volumes}/linked", f"{paths.networks}/linked", f"{paths.state}/.probe-4194304", f"{half}/upper",
        f"{half}/upper-too/deep", f"{paths.images}/layers/{id}", f"{paths.images}/layers/{'b' * 64}.tmp",
        f"{paths.images}/layers/{'c' * 64}.gone", f"{paths.volumes}/half/_filling",
    ):  # fmt: skip
        Path(link).parent.mkdir(parents=True, exist_ok=True)
        Path(link).symlink_to(outside)
    before = tree(str(outside))
    patient.nano("doctor", "--repair", check=False)
    assert tree(str(outside)) == before
    patient.nano("run", "--rm", "--network", "none", "tiny", "true")
    assert tree(str(outside)) == before


def test_a_broken_network_is_named(patient: Patient) -> None:
    directory = Path(patient.paths.networks, "lan")
    directory.mkdir()
    try:
        assert patient.named("broken-network").subject == str(directory)
        (directory / "network.json").write_text("{")
        assert "network.json" in patient.named("broken-network").detail
    finally:
        shutil.rmtree(directory)


def test_another_format_is_a_finding_and_nothing_else_is_looked_at(another_nano: Callable[[], Nano]) -> None:
    patient = Patient(another_nano())
    half = Path(patient.paths.containers, f".rm-{new_id()}")
    half.mkdir(parents=True)
    Path(patient.paths.format).write_text("7\n")
    assert "format 7" in patient.named("format").detail
    assert half.is_dir()
    refused = patient.nano("ps", check=False)
    assert refused.code == 1 and "has format 7: this version of NanoContainer reads format 1" in refused.err
    assert patient.nano("run", "tiny", check=False).code == 125
    Path(patient.paths.format).unlink()


# --- what people read


def test_the_table(patient: Patient) -> None:
    patient.nano("run", "-d", "--name", "web", "--network", "none", "tiny", "sleep", "1000")
    kill_keeper(patient, "web")
    shown = patient.nano("doctor", check=False)
    assert shown.code == 1
    found = "  found      web\n             lost-keeper: it ran: keeper lost\n"
    assert f"{found}             --repair  taken down\n" in shown.out
    assert shown.out.endswith("clear away with: nanocontainer doctor --repair\n")
    assert max(map(len, shown.out.splitlines())) <= 80 and "\x1b" not in shown.out
    shown = patient.nano("system", "doctor", "--repair", check=False)
    assert f"{found.replace('found   ', 'repaired')}             done      taken down\n" in shown.out
