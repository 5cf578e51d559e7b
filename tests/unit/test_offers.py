"""What a host offers: hosts that lack things, each made of a kernel that fails as such a kernel does."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from nanocontainer.cmd.doctor import lines
from nanocontainer.cmd.main import App, main
from nanocontainer.cmd.paint import Paint, plain
from nanocontainer.container.diagnosis import Diagnosis, _fine
from nanocontainer.container.leftover import Leftover
from nanocontainer.container.offers import QUESTIONS, Feature, Question, examine
from nanocontainer.errors import Unsupported
from nanocontainer.kernel import probes
from nanocontainer.kernel.calls import Kernel
from nanocontainer.kernel.facts import Facts
from nanocontainer.kernel.host import Host, Lack

FIT = Facts(
    kernel=(6, 18), release="6.18.0", machine="x86_64", filesystems=("overlay",), cgroup2="/sys/fs/cgroup",
    controllers=("memory", "cpu", "cpuset", "pids", "io"), swap_limit=True, capabilities=(1 << 41) - 1, apparmor=True,
)  # fmt: skip


class Failing(Kernel):
    """A kernel of which some calls fail; the rest is this host's."""

    def __init__(self, **errors: Exception) -> None:
        for name, error in errors.items():

            def fail(*_: Any, error: Exception = error, **__: Any) -> None:
                raise error

            setattr(self, name, fail)


def feature(
    name: str, facts: Facts = FIT, kernel: Kernel | None = None, *, root: bool = True, state: str = "/"
) -> Feature:
    host = Host(state, facts, kernel)
    host.root = root
    (question,) = [one for one in QUESTIONS if one.name == name]
    return question.put(host)


NO_CALL = OSError(errno.ENOSYS, "Function not implemented")


@pytest.mark.parametrize(
    ("name", "call"),
    [("mount-api", "fsopen"), ("mount-setattr", "mount_setattr"), ("openat2", "openat2"), ("pidfd", "pidfd_open")],
)
def test_a_kernel_without_a_system_call(name: str, call: str) -> None:
    found = feature(name, kernel=Failing(**{call: NO_CALL}))
    assert (found.status, found.detail, found.needed) == ("missing", "Function not implemented", True)
    assert found.costs.startswith("no container runs") and "5.14" in found.remedy


@pytest.mark.parametrize(("name", "call"), [("mount-api", "fsopen"), ("mount-setattr", "mount_setattr")])
def test_a_call_that_is_refused_is_there(name: str, call: str) -> None:
    assert feature(name, kernel=Failing(**{call: OSError(errno.EPERM, "no")}), root=False).status == "ok"


@pytest.mark.parametrize(
    ("name", "facts", "status", "words"),
    [
        ("kernel", {"kernel": (5, 10), "release": "5.10.1"}, "missing", "5.10.1"),
        ("kernel", {"machine": "s390x"}, "missing", "s390x"),
        ("cgroup2", {"cgroup2": ""}, "missing", "no cgroup2"),
        ("cgroup-kill", {"cgroup2": ""}, "missing", "no cgroup2"),
        ("cgroup-memory", {"controllers": ("cpu",)}, "missing", "cgroup.controllers"),
        ("cgroup-memory", {"cgroup1": {"cpu": "/cpu"}}, "missing", "version 1"),
        ("cgroup-io", {"cgroup1": {"blkio": "/blkio"}}, "ok", "version 1, /blkio"),
        ("cgroup-io", {}, "ok", "version 2"),
        ("swap-limit", {"swap_limit": False}, "missing", "swap"),
        ("overlayfs", {"filesystems": ()}, "missing", "does not know it"),
        ("seccomp", {"seccomp": False}, "missing", "without it"),
        ("apparmor", {"apparmor": False}, "missing", "not built in"),
        ("capabilities", {"capabilities": (1 << 41) - 1 - (1 << 21)}, "limited", "40 of 41: CAP_SYS_ADMIN cannot"),
        ("capabilities", {}, "ok", "all 41"),
    ],
)  # fmt: skip
def test_facts(name: str, facts: dict[str, Any], status: str, words: str) -> None:
    found = feature(name, FIT.replace(**facts))
    assert found.status == status and words in found.detail
    assert (status == "ok") is not bool(found.costs and found.remedy)


@pytest.mark.parametrize(
    ("name", "kernel", "status", "words"),
    [
        ("many-layers", Failing(fsopen=OSError(errno.ENODEV, "No such device")), "missing", "No such device"),
        ("many-layers", Failing(fsopen=lambda: 0, fsconfig=OSError(errno.EINVAL, "x")), "limited", "4 KiB"),
        ("erofs-files", Failing(fsconfig=OSError(errno.ENOTBLK, "Block device required")), "missing", "6.12"),
        ("device-rules", Failing(bpf=OSError(errno.EPERM, "Operation not permitted")), "missing", "not permitted"),
        ("nftables", Failing(unshare=OSError(errno.EPERM, "Operation not permitted")), "missing", "not permitted"),
        ("nftables", Failing(unshare=Unsupported("cannot", "nftables is not installed")), "missing", "not installed"),
        ("bridges", Failing(unshare=OSError(errno.EOPNOTSUPP, "Operation not supported")), "missing", "not supported"),
        ("user-namespaces", Failing(unshare=OSError(errno.ENOSPC, "No space left")), "missing", "No space"),
    ],
)  # fmt: skip
def test_what_the_kernel_says(
    name: str, kernel: Kernel, status: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "erofs-files" or status == "limited":
        monkeypatch.setattr(kernel, "fsopen", lambda kind: os.open("/dev/null", os.O_RDONLY), raising=False)
    found = feature(name, kernel=kernel)
    assert found.status == status and words in found.detail, found


@pytest.mark.parametrize(
    "name", ["device-rules", "nftables", "bridges", "many-layers", "erofs-files", "idmapped-mounts"]
)
def test_only_root_can_ask(name: str) -> None:
    found = feature(name, root=False)
    assert (found.status, found.detail, found.costs) == ("unknown", "only root can ask", "")


@pytest.mark.parametrize(("free", "status"), [(1 << 20, "limited"), (1 << 34, "ok")])
def test_a_full_disk(free: int, status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = os.statvfs_result((4096, 4096, 1 << 28, 0, free // 4096, 1000, 10, free // (1 << 24), 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda path: answer)
    assert feature("disk-space").status == status
    assert feature("inodes").status == status


def test_sysctls_in_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {"/proc/sys/user/max_user_namespaces": "0"}
    monkeypatch.setattr(Host, "text", lambda host, path: texts.get(path, ""))
    assert feature("user-namespaces").status == "missing"
    texts["/proc/sys/user/max_user_namespaces"] = "100"
    texts["/proc/sys/kernel/unprivileged_userns_clone"] = "0"
    assert feature("user-namespaces").status == "limited"
    assert feature("ipv6").status == "missing"
    assert "turns it on" in feature("ip-forward").detail
    assert feature("seccomp-notify").status == feature("selinux").status == "missing"
    texts["/sys/fs/selinux/enforce"] = "1"
    assert feature("selinux").detail == "enforcing"


def test_a_process_with_threads_does_not_fork() -> None:
    host = Host("/", FIT)
    host.root, host.threads = True, 2
    for ask in (probes.nftables, probes.bridges, probes.idmapped_mounts, probes.overlay_in_userns):
        with pytest.raises(Lack, match="threads"):
            ask(host)


def test_a_state_directory_that_is_not_there(tmp_path: Path) -> None:
    found = feature("state-directory", state=str(tmp_path / "none"))
    assert found.status == "unknown" and "not there yet" in found.detail
    assert not (tmp_path / "none").exists()


def test_every_question_says_what_it_costs() -> None:
    assert len({one.name for one in QUESTIONS}) == len(QUESTIONS)
    for one in QUESTIONS:
        assert one.name == "ip-forward" or (one.costs and one.remedy), one.name


# --- the verdict, and what people read


def diagnosis(*features: Feature, leftovers: tuple[Leftover, ...] = (), unseen: str = "") -> Diagnosis:
    return Diagnosis(features, leftovers, unseen, _fine(features, leftovers))


GOOD = Feature("seccomp", "Security", "seccomp", "ok", "filters can be loaded", needed=True)
LACKING = Feature("overlayfs", "File systems", "overlayfs", "missing", "not known", "no container runs", "mend", True)
COSTLY = Feature("selinux", "Security", "SELinux", "missing", "turned off", "labels", "boot with it")
FULL = Feature("disk-space", "File systems", "free space", "limited", "1 MB", "pulls fail", "prune")
LEFT = Leftover("stale-name", "/names/web", "container is not there", "given back")


@pytest.mark.parametrize(
    ("found", "fine"),
    [
        (diagnosis(GOOD), True),
        (diagnosis(GOOD, COSTLY), True),
        (diagnosis(LACKING), False),
        (diagnosis(FULL), False),
        (diagnosis(LACKING.replace(status="unknown")), True),
        (diagnosis(GOOD, leftovers=(LEFT,)), False),
        (diagnosis(GOOD, leftovers=(LEFT.replace(outcome="repaired"),)), True),
        (diagnosis(GOOD, leftovers=(LEFT.replace(outcome="left", why="x"),)), False),
    ],
)
def test_the_verdict(found: Diagnosis, fine: bool) -> None:
    assert found.fine is fine


def test_the_table_is_aligned_and_fits() -> None:
    found = diagnosis(LACKING, GOOD, COSTLY.replace(costs="a long story " * 12), leftovers=(LEFT,))
    text = list(lines(found, Paint(False), 70, repair=False))
    assert text[:3] == [
        "File systems",
        "  missing    overlayfs  not known",
        "                        costs   no container runs",
    ]
    assert "  ok         seccomp    filters can be loaded" in text
    assert max(map(len, text)) <= 70
    assert "A plain run does not work here: overlayfs missing. 1 thing left over;" in " ".join(text)
    assert list(map(plain, lines(found, Paint(True), 70, repair=False))) == text


@pytest.mark.parametrize(
    ("found", "repair", "last"),
    [
        (diagnosis(leftovers=(LEFT,)), False, "1 thing left over; clear away with: nanocontainer doctor --repair"),
        (diagnosis(GOOD, leftovers=(LEFT.replace(outcome="left"), LEFT)), True, "2 things left over."),
        (diagnosis(FULL), False, "Nearly used up: free space."),
    ],
)
def test_the_last_line(found: Diagnosis, repair: bool, last: str) -> None:
    assert list(lines(found, Paint(False), 100, repair=repair))[-1] == last


class Engine:
    def __init__(self, found: Diagnosis) -> None:
        self.found, self.asked = found, [False]

    def doctor(self, *, repair: bool) -> Diagnosis:
        self.asked.append(repair)
        return self.found


@pytest.mark.parametrize(("found", "code"), [(diagnosis(GOOD), 0), (diagnosis(GOOD, leftovers=(LEFT,)), 1)])
def test_the_command(found: Diagnosis, code: int, capfd: pytest.CaptureFixture[str]) -> None:
    app = App()
    app._engine = engine = Engine(found)  # type: ignore[assignment]
    assert main(["doctor", "--json"], app) == code
    said = json.loads(capfd.readouterr().out)
    assert Diagnosis.from_dict(said) == found
    assert said.keys() == {"features", "leftovers", "unseen", "fine"}
    assert main(["system", "doctor", "--repair"], app) == code
    assert "Left over from crashes" in capfd.readouterr().out
    assert engine.asked == [False, False, True]
    assert main(["doctor", "all"], app) == 1


def test_an_answer_that_fails_is_no_crash() -> None:
    def ask(host: Host) -> str:
        raise OSError(errno.EIO, "Input/output error")

    (found,) = examine(Host("/", FIT), [Question("x", "G", "thing", ask, "all of it", "none")])
    assert (found.status, found.detail, found.costs) == ("missing", "Input/output error", "all of it")
