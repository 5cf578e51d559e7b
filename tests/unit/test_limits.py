"""From --memory and its kin to files of cgroups: both versions, hosts that lack something, contradictions."""

from __future__ import annotations

import os

import pytest

from nanocontainer.container.spec import Limits, Rate
from nanocontainer.errors import InvalidInput, Unsupported
from nanocontainer.kernel.facts import Facts
from nanocontainer.runtime import limits
from nanocontainer.runtime.cgroup import EnableControllers, MakeCgroup, SetLimit
from nanocontainer.runtime.cgroup1 import MakeCgroup1

V2 = Facts(cgroup2="/cg", controllers=("cpuset", "cpu", "io", "memory", "pids"), swap_limit=True)
V1 = Facts(
    cgroup2="/cg/unified",
    cgroup1={name: f"/cg/{name}" for name in ("memory", "cpu", "cpuset", "pids", "blkio")},
    cpus="0-1",
    mems="0",
    swap_limit=True,
)
MIB = 1 << 20
RATE = Rate("read_bps", "8:0", 1000)

TABLE2 = [
    (Limits(memory=64 * MIB), {"memory.max": "67108864", "memory.swap.max": "67108864"}),
    (Limits(memory=64 * MIB, memory_swap=100 * MIB), {"memory.max": "67108864", "memory.swap.max": str(36 * MIB)}),
    (Limits(memory=64 * MIB, memory_swap=64 * MIB), {"memory.max": "67108864", "memory.swap.max": "0"}),
    (Limits(memory=64 * MIB, memory_swap=-1), {"memory.max": "67108864", "memory.swap.max": "max"}),
    (Limits(memory_reservation=MIB), {"memory.low": "1048576"}),
    (Limits(cpus=0.5), {"cpu.max": "50000 100000"}),
    (Limits(cpu_quota=20000), {"cpu.max": "20000 100000"}),
    (Limits(cpu_quota=20000, cpu_period=50000), {"cpu.max": "20000 50000"}),
    (Limits(cpu_quota=-1), {}),
    (Limits(cpu_shares=1024), {"cpu.weight": "39"}),
    (Limits(cpuset_cpus="0", cpuset_mems="0"), {"cpuset.cpus": "0", "cpuset.mems": "0"}),
    (Limits(pids=7), {"pids.max": "7"}),
    (Limits(pids=-1), {}),
    (Limits(blkio_weight=10), {"io.weight": "default 1"}),
    (Limits(blkio_weight=1000), {"io.weight": "default 10000"}),
    (Limits(rates=(RATE, RATE.replace(kind="write_iops"))), {"io.max": "8:0 wiops=1000"}),
    (Limits(), {}),
]
TABLE1 = [
    (
        Limits(memory=64 * MIB),
        {"memory/memory.limit_in_bytes": "67108864", "memory/memory.memsw.limit_in_bytes": str(128 * MIB)},
    ),
    (
        Limits(memory=64 * MIB, memory_swap=-1),
        {"memory/memory.limit_in_bytes": "67108864", "memory/memory.memsw.limit_in_bytes": "-1"},
    ),
    (Limits(memory_reservation=MIB), {"memory/memory.soft_limit_in_bytes": "1048576"}),
    (Limits(cpus=0.5), {"cpu/cpu.cfs_period_us": "100000", "cpu/cpu.cfs_quota_us": "50000"}),
    (Limits(cpu_shares=512), {"cpu/cpu.shares": "512"}),
    (Limits(cpuset_cpus="1"), {"cpuset/cpuset.cpus": "1"}),
    (Limits(pids=7), {"pids/pids.max": "7"}),
    (Limits(pids=-1), {}),
    (Limits(blkio_weight=300), {"blkio/blkio.bfq.weight": "300"}),
    (Limits(rates=(RATE,)), {"blkio/blkio.throttle.read_bps_device": "8:0 1000"}),
    (Limits(), {}),
]


@pytest.mark.parametrize(("wish", "files"), TABLE2)
def test_version_2(wish: Limits, files: dict[str, str]) -> None:
    made, groups = limits.steps(wish, V2, "nano", "id")
    assert {step.path: step.value for step in made if isinstance(step, SetLimit)} == {
        f"/cg/nano/id/{name}": value for name, value in files.items()
    }
    assert groups == ()
    used = tuple(dict.fromkeys(name.split(".")[0] for name in files))
    at = [type(step) for step in made].index(MakeCgroup)
    assert made[at] == MakeCgroup("/cg/nano/id", used)
    assert made[:at] == ([EnableControllers("/cg", used)] if used else [])


@pytest.mark.parametrize(("wish", "files"), TABLE1)
def test_version_1(wish: Limits, files: dict[str, str]) -> None:
    made, groups = limits.steps(wish, V1, "nano", "id")
    found = {step.path: step.value for step in made if isinstance(step, SetLimit)}
    assert found == {f"/cg/{path.replace('/', '/nano/id/')}": value for path, value in files.items()}
    assert groups == tuple({f"/cg/{path.split('/')[0]}/nano/id": None for path in files})
    assert [step.path for step in made if isinstance(step, MakeCgroup1)] == list(groups)


def test_the_cgroup_that_kills_is_made_last_so_that_it_is_undone_first() -> None:
    made, _ = limits.steps(Limits(pids=5, memory=64 * MIB), V1, "nano", "id")
    kinds = [type(step) for step in made if not isinstance(step, SetLimit)]
    assert kinds == [MakeCgroup1, MakeCgroup1, MakeCgroup]


def test_a_cpuset_of_version_1_is_filled_before_anybody_can_join() -> None:
    made, _ = limits.steps(Limits(cpuset_cpus="1"), V1, "nano", "id")
    assert made[0] == MakeCgroup1("/cg/cpuset/nano/id", {"cpuset.cpus": "0-1", "cpuset.mems": "0"})


def test_several_limits_of_one_controller_share_a_group() -> None:
    made, groups = limits.steps(Limits(memory=64 * MIB, memory_reservation=MIB), V1, "nano", "id")
    assert len([step for step in made if isinstance(step, MakeCgroup1)]) == len(groups) == 1


@pytest.mark.parametrize("facts", [V2.replace(controllers=("cpu",)), V1.replace(cgroup1={"cpu": "/cg/cpu"})])
@pytest.mark.parametrize(
    ("wish", "controller"),
    [(Limits(memory=64 * MIB), "memory"), (Limits(pids=5), "pids"), (Limits(cpuset_cpus="0"), "cpuset")],
)
def test_a_missing_controller_is_named(facts: Facts, wish: Limits, controller: str) -> None:
    with pytest.raises(Unsupported) as caught:
        limits.steps(wish, facts, "nano", "id")
    assert repr(controller) in caught.value.why
    assert caught.value.hint


@pytest.mark.parametrize(("facts", "file"), (
    (V1, "/cg/memory/nano/id/memory.limit_in_bytes"),
    (V2, "/cg/nano/id/memory.max"),
))
def test_swap_that_the_kernel_does_not_count(facts: Facts, file: str) -> None:
    facts = facts.replace(swap_limit=False)
    with pytest.raises(Unsupported, match="swap"):
        limits.steps(Limits(memory=64 * MIB, memory_swap=80 * MIB), facts, "nano", "id")
    made, _ = limits.steps(Limits(memory=64 * MIB), facts, "nano", "id")  # nobody asked for it
    assert [step.path for step in made if isinstance(step, SetLimit)] == [file]


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        (Limits(memory=MIB), "Minimum memory limit allowed is 6MB"),
        (Limits(memory_swap=MIB), "always set the Memory limit"),
        (Limits(memory=64 * MIB, memory_swap=32 * MIB), "larger than memory limit"),
        (Limits(memory=64 * MIB, memory_reservation=65 * MIB), "less than memory reservation"),
        (Limits(cpus=-1), "range of CPUs"),
        (Limits(cpus=0.001), "range of CPUs"),
        (Limits(cpus=(os.cpu_count() or 1) + 0.1), "range of CPUs"),
        (Limits(cpus=1, cpu_quota=5000), "cannot be used with"),
        (Limits(cpus=1, cpu_period=5000), "cannot be used with"),
        (Limits(blkio_weight=9), "from 10 to 1000"),
        (Limits(blkio_weight=1001), "from 10 to 1000"),
    ],
)
def test_contradictions(wish: Limits, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        limits.steps(wish, V2, "nano", "id")


@pytest.mark.parametrize(("shares", "weight"), [(1, 1), (2, 1), (1024, 39), (262144, 10000), (1 << 30, 10000)])
def test_shares_to_weight(shares: int, weight: int) -> None:
    assert limits.shares_to_weight(shares) == weight


@pytest.mark.parametrize("device", ["/dev/null", "/nowhere"])
def test_what_is_no_block_device(device: str) -> None:
    with pytest.raises(InvalidInput, match="invalid device"):
        limits.numbered(Limits(rates=(Rate("read_bps", device, 1),)))
    assert limits.numbered(Limits(pids=1)) == Limits(pids=1)
