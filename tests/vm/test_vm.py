"""Tests of tests/root and tests/crash on hosts that have pure cgroup2: Debian's kernel, and a newer one of Alpine.

What is run is what meets cgroups: limits, the freezer, killing, running out of memory, devices, counters, and starts
and keepers that are killed. Both guests run at the same time. What cannot be had (qemu, a kernel's package) is a skip
with its name. The summary has the counts of each kernel, and .check/vm-KERNEL.xml each test by name (JUnit's format).
"""

from __future__ import annotations

import os
import shlex
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from xml.etree import ElementTree

import pytest

from . import machine
from .conftest import results

PROJECT = Path(__file__).parents[2]
# An emulated machine takes some two seconds for each: what has nothing to do with cgroups is left to the host.
TESTS = os.environ.get("NANOCONTAINER_VM_TESTS") or " ".join(
    f"tests/{name if '/' in name else f'root/{name}'}"
    for name in (
        "test_cgroup2.py",
        "test_bpf_devices.py",
        "test_limits_root.py::test_contradictions",
        "test_limits_root.py::test_a_child_left_behind_does_not_hinder_the_end",
        "test_lifecycle.py::test_a_whole_life",
        "test_lifecycle.py::test_a_paused_container_can_be_killed_and_stopped",
        "test_lifecycle.py::test_paused_is_what_the_kernel_says",
        "test_keeper.py::test_a_killed_keeper_of_a_container_to_be_removed",
        "test_keeper.py::test_a_stopped_keeper_is_woken_by_who_ends_the_container",
        "test_exec.py::test_the_same_namespaces_cgroup_and_confinement",
        "test_exec.py::test_a_command_ends_with_its_container",
        "test_isolation.py::test_devices_that_were_not_given_cannot_be_used",
        "test_isolation.py::test_everything_is_in_its_cgroup_and_goes_with_it",
        "test_script.py::test_streams_and_the_exit_code_are_the_commands",
        "test_script.py::test_device_rules_are_the_same",
        "crash/test_steps.py::test_killed_at_every_step[limits]",
        "crash/test_steps.py::test_killed_at_every_step[exec]",
    )
)
SECONDS = 900
MARK = "report of the tests:\n"  # guest.sh


@pytest.fixture(scope="module")
def guests() -> Iterator[dict[str, Future[machine.Ran]]]:
    """Kernel → what came of its guest."""
    python = sys.executable.replace(f"{PROJECT}/", "/run/project/")  # where init puts the project
    variables = {"PROJECT": "/run/project", "PYTHON": python, "TESTS": TESTS}
    script = "".join(f"{name}={shlex.quote(value)}\n" for name, value in variables.items())
    script += Path(__file__).with_name("guest.sh").read_text()

    def boot(name: str) -> machine.Ran:
        return machine.boot(machine.KERNELS[name](), script, SECONDS)

    with ThreadPoolExecutor(len(machine.KERNELS)) as pool:
        yield {name: pool.submit(boot, name) for name in machine.KERNELS}


@pytest.mark.timeout(SECONDS + 300)
@pytest.mark.parametrize("kernel", machine.KERNELS)
def test_cgroup2(guests: dict[str, Future[machine.Ran]], kernel: str) -> None:
    try:
        ran = guests[kernel].result()
    except machine.Unavailable as error:
        pytest.skip(f"no guest with the kernel of {kernel}: {error}")
    output, mark, report = ran.output.partition(MARK)
    if mark:
        summarize(f"{kernel} {machine.KERNELS[kernel]().release}", report)
        place = PROJECT / ".check" / f"vm-{kernel}.xml"
        if os.access(place.parent, os.W_OK):
            place.write_text(report)
    if ran.code:
        pytest.fail(f"exit code {ran.code} in the guest\n{output}\nits kernel said:\n{ran.console}", pytrace=False)
    assert mark, output


def summarize(kernel: str, report: str) -> None:
    """Counts for the kernel and for each file; what was skipped or failed by name."""
    total: Counter[str] = Counter()
    files: dict[str, Counter[str]] = {}
    named = []
    seconds = 0.0
    for case in ElementTree.fromstring(report).iter("testcase"):
        outcomes = {"failure": "failed", "error": "failed", "skipped": "skipped"}
        found = next((child for child in case if child.tag in outcomes), None)
        outcome = "passed" if found is None else outcomes[found.tag]
        file = str(case.get("classname")).rpartition(".")[2]
        files.setdefault(file, Counter())[outcome] += 1
        total[outcome] += 1
        seconds += float(case.get("time") or 0)
        if found is not None:
            why = str(found.get("message")).splitlines()[0]
            named.append(f"    {outcome}: {file}::{case.get('name')}: {why[:150]}")
    results.append(f"{kernel}: {_counts(total)}, in {seconds:.0f} s")
    results.extend(f"    {file}: {_counts(count)}" for file, count in files.items())
    results.extend(named)


def _counts(count: Counter[str]) -> str:
    return ", ".join(f"{count[word]} {word}" for word in ("passed", "failed", "skipped") if count[word])
