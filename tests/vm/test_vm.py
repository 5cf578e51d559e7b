"""The tests of cgroup2 (tests/root/test_cgroup2.py) on hosts that have it: Debian's kernel, and a newer one of Alpine.

Both guests run at the same time. What cannot be had (qemu, a kernel's package) is a skip with its name.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from . import machine

PROJECT = Path(__file__).parents[2]
TESTS = os.environ.get("NANOCONTAINER_VM_TESTS") or "tests/root/test_cgroup2.py"
SECONDS = 600


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
    if ran.code:
        pytest.fail(f"exit code {ran.code} in the guest\n{ran.output}\nits kernel said:\n{ran.console}", pytrace=False)
