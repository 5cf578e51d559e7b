"""Which of two sides is weaker, judged from recorded sides; and how that is shown."""

from __future__ import annotations

import json

import pytest

from nanocontainer.cmd.compare import html, text
from nanocontainer.cmd.paint import Paint, columns
from nanocontainer.container.comparison import A_WEAKER, B_WEAKER, DIFFERENT, SAME, Comparison, Row, judge
from nanocontainer.container.procfs import MountEntry, Process
from nanocontainer.container.sides import Side, host_files, open_paths, shown_paths, sockets

from .pages import HOSTILE, Seen

DOCKER = 0xA80425FB
KINDS = ("mnt", "pid", "net", "uts", "ipc", "cgroup", "user", "time")


def container(label: str = "web", first: int = 100, **changes: object) -> Side:
    """A container as docker makes it by default; changes: fields of Side or of its Process."""
    process = Process(
        pid=first,
        uids=(0, 0, 0, 0),
        capabilities={"effective": DOCKER, "bounding": DOCKER},
        seccomp=2,
        filters=1,
        namespaces={kind: 7 if kind in ("user", "time") else first + at for at, kind in enumerate(KINDS)},
        uid_map=("0 0 4294967295",),
        limits={"open files": ("1024", "4096"), "processes": ("100", "100")},
        label="docker-default (enforce)",
    )
    fields = {name: value for name, value in changes.items() if name in Process._fields}
    rest = {name: value for name, value in changes.items() if name not in Process._fields}
    base = Side(
        label, "container", process.replace(**fields), host=("user", "time"), root="own", interfaces=("lo", "eth0"),
        limits={"memory": 64 << 20, "pids": 100, "cpus": 0.5},
    )  # fmt: skip
    return base.replace(**rest)


def rows(a: Side, b: Side) -> dict[str, Row]:
    return {row.subject: row for row in judge(a, b).rows}


def test_two_containers_of_one_kind_are_the_same() -> None:
    found = judge(container(), container("db", 200))
    assert {row.verdict for row in found.rows} == {SAME}
    assert "Neither is weaker" in found.summary
    first = found.rows[0]
    assert (first.subject, first.a) == ("namespaces mnt pid net uts ipc cgroup", "its own")


@pytest.mark.parametrize(
    ("subject", "change", "why"),
    [
        ("user", {"uids": (1000, 1000, 1000, 1000)}, "who gets out is root"),
        ("capabilities it holds", {"capabilities": {"effective": 0, "bounding": DOCKER}}, "web also has CHOWN"),
        ("capabilities within reach", {"capabilities": {"effective": DOCKER, "bounding": 0}}, "14"),
        ("no_new_privs", {"no_new_privs": True}, "set-user-ID"),
        ("root file system", {"root": "own, read-only"}, "can be replaced"),
        ("network", {"interfaces": ("lo",)}, "reach others"),
        ("memory", {"limits": {"memory": 1 << 20, "pids": 100, "cpus": 0.5}}, "higher"),
        ("ulimit open files", {"limits": {"memory": 64 << 20, "pids": 100, "cpus": 0.5}}, ""),
    ],
)
def test_a_is_weaker_than_one_that_is_confined_more(subject: str, change: dict[str, object], why: str) -> None:
    if subject.startswith("ulimit"):
        other = container("db", 200)
        limits = {"open files": ("10", "20"), "processes": ("100", "100")}
        other = other.replace(process=other.process.replace(limits=limits))
    else:
        other = container("db", 200)
        process = {name: value for name, value in change.items() if name in Process._fields and name != "limits"}
        rest = {name: value for name, value in change.items() if name not in process}
        other = other.replace(process=other.process.replace(**process), **rest)
    row = rows(container(), other)[subject]
    assert row.verdict == A_WEAKER and (why in row.why or why in row.a)
    back = rows(other, container())[subject]
    assert back.verdict == B_WEAKER and (back.a, back.b) == (row.b, row.a)
    weaker = [row.subject for row in judge(container(), other).rows if row.verdict != SAME]
    assert weaker == [subject]


@pytest.mark.parametrize(
    ("subject", "change", "why"),
    [
        ("seccomp", {"seccomp": 0, "filters": 0}, "every system call"),
        ("security module", {"label": "unconfined"}, "AppArmor"),
        ("writable host files", {"host_files": ("/d ← /srv",)}, "written on the host"),
        ("writable host files", {"root": "the host's"}, "written on the host"),
        ("engine sockets", {"sockets": ("/run/docker.sock",)}, "owns the host"),
        ("writable /proc and /sys", {"writable": ("/proc/sys",)}, "the host's kernel"),
        ("unhidden /proc and /sys", {"shown": ("/proc/kcore",)}, "keys and memory"),
        ("mounts that travel", {"shared": ("/x",)}, "appears on the host"),
        ("block devices", {"blocks": ("sda",)}, "all files of the host"),
    ],
)
def test_a_hole_makes_weaker(subject: str, change: dict[str, object], why: str) -> None:
    fields = {name: value for name, value in change.items() if name in Process._fields}
    rest = {name: value for name, value in change.items() if name not in fields}
    holed = container("db", 200)
    holed = holed.replace(process=holed.process.replace(**fields), **rest)
    row = rows(container(), holed)[subject]
    assert row.verdict == B_WEAKER and why in row.why
    assert f"db is weaker in {2 if 'root' in change else 1} of" in judge(container(), holed).summary


@pytest.mark.parametrize("kind", KINDS)
def test_a_namespace_of_the_host_is_weaker_and_says_what_that_opens(kind: str) -> None:
    other = container("db", 200, host=tuple({"user", "time", kind}))
    if kind in ("user", "time"):
        mine = container(host=tuple({"user", "time"} - {kind}))
        mine = mine.replace(process=mine.process.replace(namespaces={**mine.process.namespaces, kind: 99}))
    else:
        mine = container()
    row = rows(mine, other)[f"namespace {kind}"]
    assert row.verdict == B_WEAKER and row.why and (row.a, row.b) == ("its own", "the host's")


def test_shared_namespaces_and_sets_that_do_not_contain_each_other() -> None:
    other = container("db", 200)
    other = other.replace(process=other.process.replace(namespaces={**other.process.namespaces, "net": 102}))
    row = rows(container(), other)["namespace net"]
    assert (row.a, row.verdict) == ("one for both", SAME) and "not separated from each other" in row.why
    one, two = container(host_files=("/a ← /srv/a",)), container("db", 200, host_files=("/b ← /srv/b",))
    assert rows(one, two)["writable host files"].verdict == DIFFERENT
    caps = [container(name, first, capabilities={"effective": mask, "bounding": mask})
            for name, first, mask in (("web", 100, 1), ("db", 200, 1 << 21))]  # fmt: skip
    row = rows(*caps)["capabilities it holds"]
    assert row.verdict == DIFFERENT and "web also has CHOWN" in row.why and "db also has SYS_ADMIN" in row.why


def test_a_user_namespace_maps_root_to_somebody() -> None:
    mapped = container("db", 200, host=("time",), uids=(100000,) * 4, uid_map=("0 100000 65536",))
    row = rows(container(), mapped)["user"]
    assert (row.b, row.verdict) == ("uid 0 inside, 100000 outside", A_WEAKER)


def entry(point: str, kind: str = "ext4", root: str = "/", options: str = "rw", device: str = "8:1") -> MountEntry:
    return MountEntry(1, 0, device, root, point, tuple(options.split(",")), "private", kind, "/dev/sda1", ("rw",))


def test_dangerous_mounts_are_found() -> None:
    outer = (entry("/"), entry("/proc", "proc", device="0:5"))
    table = (
        entry("/", "overlay", device="0:9"), entry("/proc", "proc", device="0:7"), entry("/etc/hosts", root="/x/hosts"),
        entry("/data", root="/srv/data"), entry("/ro", root="/srv/ro", options="ro"),
        entry("/vol", root="/var/lib/docker/volumes/v/_data"), entry("/s", "tmpfs", "/docker.sock", device="0:20"),
        entry("/host"), entry("/proc/sys", "proc", "/sys", "ro", "0:7"),
        entry("/proc/keys", "tmpfs", "/null", device="0:8"),
        entry("/sys", "sysfs", options="ro", device="0:6"),
    )  # fmt: skip
    assert host_files(table, outer) == ("/data ← /srv/data", "/host ← /")
    assert sockets(table) == ("/s", "/host")
    assert open_paths(table, ("/proc/sys", "/proc/self"), "/sys") == ("/proc/self",)
    assert shown_paths(table, ("/proc/keys", "/proc/stat", "/no/such")) == ("/proc/stat",)


@pytest.mark.parametrize("width", [40, 80, 100, 140])
@pytest.mark.parametrize("word", ["web", HOSTILE, "容器" * 30], ids=["plain", "hostile", "wide"])
def test_it_fits_the_terminal_and_nothing_in_it_acts(word: str, width: int) -> None:
    a, b = container(word, host_files=(f"/{word} ← /{word}",)), container(word, 200, uids=(1, 1, 1, 1))
    found = judge(a, b)
    for on in (False, True):
        shown = text(found, found.rows, Paint(on), width)
        assert all(columns(line) <= width for line in shown.split("\n")), shown
    assert text(found, found.rows, Paint(False), width).replace("\n", "").isprintable()
    seen = Seen(html(found, found.rows))
    assert not {"script", "img", "link", "iframe"} & set(seen.tags)
    assert Comparison.from_dict(json.loads(json.dumps(found.as_dict()))) == found
