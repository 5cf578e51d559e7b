"""Speed is an import problem (DESIGN section 7): what the everyday commands import, exactly, and no stopwatch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.root.nano import COMMAND, Nano

HERE = Path(__file__).parent
PYTHON = "/usr/bin/python3"

# What may be imported of Python itself: C modules, and ctypes, which cannot be had for less.
ALLOWED = {
    "__future__", "os", "sys", "time", "errno", "posix", "gc", "types", "select", "fcntl", "termios", "resource",
    "zlib", "math", "grp", "pwd", "binascii", "_json", "_socket", "_signal", "_struct", "struct",
    "ctypes", "_ctypes", "ctypes._endian",
}  # fmt: skip

# Ours that belong to other commands, and must not come along.
COLD = (
    "nanocontainer.build", "nanocontainer.daemon", "nanocontainer.oci",
    "nanocontainer.image.registry", "nanocontainer.image.pull", "nanocontainer.image.layers",
    "nanocontainer.image.archive", "nanocontainer.image.tiny", "nanocontainer.image.manifest",
    "nanocontainer.cmd.images", "nanocontainer.cmd.progress", "nanocontainer.cmd.complete",
)  # fmt: skip

# How many modules of ours a command may import. Each costs some 0.2 ms: raise a number only for something worth that.
OURS = {"run": 80, "exec": 55, "ps": 34, "stop": 34, "logs": 34, "rm": 36}


def imported(nano: Nano, log: Path, *args: str, code: int = 0) -> set[str]:
    """The modules that a command imports."""
    nano(*args, check=False)  # the second time shows no caches being filled
    log.unlink(missing_ok=True)
    watch = [PYTHON, "-IS", str(HERE / "watch_imports.py"), str(log), COMMAND, *args]
    done = subprocess.run(watch, env=nano.env, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stderr
    return set(log.read_text().split())


def judge(command: str, modules: set[str]) -> None:
    ours = {name for name in modules if name.split(".")[0] == "nanocontainer"}
    assert ours
    others = modules - ours - ALLOWED
    assert not others, f"{command} imports {', '.join(sorted(others))}"
    cold = {name for name in ours if name.startswith(COLD)}
    assert not cold, f"{command} imports {', '.join(sorted(cold))}"
    assert len(ours) <= OURS[command], f"{command} imports {len(ours)} modules of ours: {', '.join(sorted(ours))}"


@pytest.mark.parametrize("network", ["none", "bridge"])
def test_run(nano: Nano, tmp_path: Path, network: str) -> None:
    judge("run", imported(nano, tmp_path / "log", "run", "--rm", "--network", network, "tiny", "true"))


def test_the_watch_sees_a_late_import(tmp_path: Path) -> None:
    """The test of the test: an import in a forked child is written down."""
    launcher = tmp_path / "launcher"
    launcher.write_text("import os\npid = os.fork()\nif pid == 0:\n    import json\nelse:\n    os.waitpid(pid, 0)\n")
    log = tmp_path / "log"
    subprocess.run([PYTHON, "-IS", str(HERE / "watch_imports.py"), str(log), str(launcher)], check=True)
    assert {"json", "json.decoder", "re"} <= set(log.read_text().split())
    with pytest.raises(AssertionError, match="imports json"):
        judge("run", {"nanocontainer", "json"})


def test_commands_on_a_running_container(nano: Nano, tmp_path: Path) -> None:
    nano("run", "-d", "--name", "budget", "tiny", "sleep", "1000")
    try:
        judge("exec", imported(nano, tmp_path / "log", "exec", "budget", "true"))
        judge("ps", imported(nano, tmp_path / "log", "ps"))
        judge("logs", imported(nano, tmp_path / "log", "logs", "budget"))
        nano("run", "-d", "--name", "budget-2", "tiny", "sleep", "1000")
        log = tmp_path / "log-2"
        judge("stop", imported(nano, log, "stop", "-t", "0", "budget"))
        nano("stop", "-t", "0", "budget-2")
        watch = [PYTHON, "-IS", str(HERE / "watch_imports.py"), str(tmp_path / "rm"), COMMAND, "rm", "budget-2"]
        subprocess.run(watch, env=nano.env, check=True, capture_output=True)
        judge("rm", set((tmp_path / "rm").read_text().split()))
    finally:
        nano("rm", "-f", "budget", "budget-2", check=False)


def test_help_and_errors_are_as_lean(nano: Nano, tmp_path: Path) -> None:
    modules = imported(nano, tmp_path / "log", "exec", "nobody", "true", code=1)
    assert not {name for name in modules if name.split(".")[0] in ("re", "json", "argparse", "typing", "traceback")}


def test_the_interpreter_is_started_without_site() -> None:
    first = Path(COMMAND).read_text().splitlines()[0]
    assert first == "#!/usr/bin/python3 -IS"
    assert sys.version_info >= (3, 11)
