"""The command itself is limited: open files, the size of files (setrlimit(2)), memory (cgroups(7)). It says so, or it
works; nothing is left half made."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from nanocontainer.kernel.facts import probe

from .nano import COMMAND, Nano


def limited(nano: Nano, limit: str, *words: str) -> subprocess.CompletedProcess[str]:
    """The command, started by a shell that has limited itself before."""
    script = f'{limit}; exec "$@"'
    return subprocess.run(
        ["sh", "-c", script, "sh", COMMAND, *words], env=nano.env, capture_output=True, text=True, timeout=30
    )


def test_few_open_files(clean: Nano) -> None:
    """Three are not enough for the interpreter itself."""
    codes = []
    for most in range(5, 41):
        done = limited(clean, f"ulimit -n {most}", "run", "--rm", "--network", "none", "tiny", "true")
        codes.append(done.returncode)
        if done.returncode:
            assert done.returncode == 125, done
            assert done.stderr.startswith("Error: "), done
            assert "Too many open files" in done.stderr, done
            assert "ulimit -n" in done.stderr, done
        assert clean("ps", "-aq").out == ""
    assert codes[0] == 125
    assert codes[-1] == 0
    assert codes == sorted(codes, reverse=True)  # once there are enough, more are enough too


@pytest.mark.parametrize("blocks", [0, 1, 2, 4, 100])
def test_small_files(clean: Nano, blocks: int) -> None:
    """SIGXFSZ, which would end us without a word, is ignored by the interpreter: write(2) says EFBIG."""
    done = limited(clean, f"ulimit -f {blocks}", "run", "--rm", "--network", "none", "tiny", "sh", "-c", "exit 7")
    if blocks == 0:
        assert done.returncode == 125, done
    if done.returncode != 7:
        assert done.returncode == 125, done
        assert "File too large" in done.stderr, done
        assert "ulimit -f" in done.stderr, done
    assert clean("ps", "-aq").out == ""
    if blocks == 100:
        assert done.returncode == 7, done


@pytest.fixture
def squeezed() -> Iterator[Path]:
    """A cgroup of version 1 that limits memory."""
    top = probe().cgroup1.get("memory")
    if not top:
        pytest.skip("there is no memory hierarchy of cgroup version 1")
    group = Path(top, f"nanocontainer-squeeze-{os.getpid()}")
    group.mkdir()
    yield group
    group.rmdir()


def test_little_memory(clean: Nano, squeezed: Path) -> None:
    """Killed for memory in the middle of a start, at every stage: what is left of it the next command sweeps."""
    killed, codes = 0, []
    for kilobytes in range(3_000, 20_001, 1_000):
        (squeezed / "memory.limit_in_bytes").write_text(f"{kilobytes << 10}")
        words = ("run", "-d", "--name", "it", "--network", "none", "tiny", "sleep", "1000")
        done = limited(clean, f"echo $$ > {squeezed}/cgroup.procs", *words)
        codes.append(done.returncode)
        killed += done.returncode in (-9, 137) or "was killed" in done.stderr
        if done.returncode > 0 and done.returncode != 137:
            assert done.stderr.startswith("Error: "), done
            assert "Traceback" not in done.stderr, done
        listed = clean("ps", "-a", "--format", "{{.Names}} {{.State}}").out
        assert listed in ("", "it running\n", "it created\n", "it exited\n"), listed
        if listed:
            clean("rm", "-f", "it")
    assert killed
    assert codes[-1] == 0
