"""How many system calls a default run makes, all of its processes together: exact, where milliseconds are not.

Counted by strace(1) from the launcher to the end, less what an empty interpreter makes. The numbers are in
system_calls.json. They may fall (then write the new ones down) and must not rise unnoticed; `allowance` is what the
order of events may change: a poll more or less, a signal that interrupts.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.root.nano import COMMAND, Nano

BUDGET = json.loads((Path(__file__).parent / "system_calls.json").read_text())
PYTHON = "/usr/bin/python3"

needs_strace = pytest.mark.skipif(not shutil.which("strace"), reason="strace is not there: ./check setup installs it")


def traced(report: Path, env: dict[str, str], *command: str) -> tuple[Counter[str], int]:
    """Calls by name, of the command and all its descendants; and how many programs were started."""
    strace = ["strace", "-f", "-c", "-U", "name,calls,errors", "-o", str(report), *command]
    done = subprocess.run(strace, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    calls: Counter[str] = Counter()
    programs = 0
    for line in report.read_text().splitlines():
        fields = line.split()
        if len(fields) >= 2 and fields[1].isdecimal() and fields[0] != "total":
            calls[fields[0]] += int(fields[1])
            if fields[0] == "execve":
                programs = int(fields[1]) - (int(fields[2]) if len(fields) > 2 else 0)  # PATH is searched by trying
    return calls, programs


def of_run(nano: Nano, tmp_path: Path, network: str) -> Counter[str]:
    """The fewest of three, less an empty interpreter; in a row, so the bridge is there."""
    command = [COMMAND, "run", "--rm", "--network", network, "tiny", "true"]
    env = {**nano.env, "NANOCONTAINER_LINGER": "-1"}
    subprocess.run(command, env=env, check=True)
    best = min((traced(tmp_path / "run", env, *command)[0] for _ in range(3)), key=lambda calls: calls.total())
    subprocess.run(command, env=nano.env, check=True)  # takes the bridge away
    return best - traced(tmp_path / "empty", nano.env, PYTHON, "-IS", "-c", "pass")[0]


@needs_strace
@pytest.mark.parametrize("network", ["none", "bridge"])
def test_a_default_run(nano: Nano, tmp_path: Path, network: str) -> None:
    calls = of_run(nano, tmp_path, network)
    budget, allowance = BUDGET[network], BUDGET["allowance"]
    text = ", ".join(f"{name} {count}" for name, count in calls.most_common(25))
    if os.environ.get("CHECK_RECORD"):
        print(f"{network}: {calls.total()}: {text}")
    assert calls.total() <= budget + allowance, f"{calls.total()} calls, {budget} are budgeted: {text}"
    assert calls.total() >= budget * 0.9, f"only {calls.total()} calls: write that into system_calls.json ({budget})"


@needs_strace
def test_no_program_is_started_on_the_way(nano: Nano, tmp_path: Path) -> None:
    """Python, and the container's own command; not nft, not ip, not modprobe."""
    _, programs = traced(tmp_path / "run", nano.env, COMMAND, "run", "--rm", "tiny", "true")
    assert programs == 2
