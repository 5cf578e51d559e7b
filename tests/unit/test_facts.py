"""What is found out about a host, and what of it is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanocontainer.errors import Unsupported
from nanocontainer.kernel import facts as module
from nanocontainer.kernel.facts import Facts, facts, require
from nanocontainer.paths import Paths

FIT = Facts(
    boot="now", version=Facts.FORMAT, kernel=(6, 1), machine="x86_64", filesystems=("overlay",), cgroup2="/cg"
)  # fmt: skip


def found(monkeypatch: pytest.MonkeyPatch, host: Facts) -> None:
    monkeypatch.setattr(module, "probe", lambda boot="": host)


def test_facts_of_an_unfit_host_are_not_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The hint says "modprobe overlay": after that it must be seen."""
    paths = Paths(str(tmp_path / "state"), str(tmp_path / "run"))
    found(monkeypatch, FIT.replace(filesystems=()))
    with pytest.raises(Unsupported, match="overlayfs is missing"):
        require(facts(paths, "now"))
    found(monkeypatch, FIT)
    require(facts(paths, "now"))
    found(monkeypatch, FIT.replace(release="another"))
    assert facts(paths, "now") == FIT  # from the cache


@pytest.mark.parametrize(
    ("change", "words"),
    [({"kernel": (5, 10)}, "too old"), ({"machine": "s390x"}, "s390x"), ({"cgroup2": ""}, "cgroup2")],
)
def test_what_is_missing_is_named(change: dict[str, object], words: str) -> None:
    with pytest.raises(Unsupported, match=words):
        require(FIT.replace(**change))


def test_version_1_hierarchies_without_limits_do_not_make_a_host_hybrid(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        "30 1 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw",
        "31 1 0:2 / /cls rw - cgroup net_cls rw,net_cls,net_prio",
        "32 1 0:3 / /mem rw - cgroup memory rw,memory",
        "33 1 0:4 /part /cpu rw - cgroup cpu rw,cpu",
    ]
    monkeypatch.setattr(module, "_text", lambda path: "\n".join(lines))
    assert module._cgroups() == ("/sys/fs/cgroup", {"memory": "/mem"})
