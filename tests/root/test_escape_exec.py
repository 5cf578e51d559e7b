"""Ways out through what the engine itself has open, or is, when a command starts."""

from __future__ import annotations

import os
from pathlib import Path

from .nano import Nano

HOST_PYTHON = Path(os.path.realpath("/usr/bin/python3"))


def test_a_working_directory_is_no_open_file_of_the_engine(nano: Nano) -> None:
    """CVE-2024-21626: the working directory is /proc/self/fd/N, an open directory of the host."""
    for number in range(3, 40):
        done = nano("run", "--rm", "--network", "none", "-w", f"/proc/self/fd/{number}", "tiny", "pwd", check=False)
        assert done.code == 125, done.out
        assert "working directory" in done.err


def test_exec_into_a_directory_that_became_a_link(nano: Nano, clean: Nano) -> None:
    """The same by exec: the container exchanges its working directory for a link while it runs."""
    clean("run", "-d", "--name", "trap", "--network", "none", "-w", "/w", "tiny", "sleep", "60")
    for number in range(3, 30):
        clean("exec", "-w", "/", "trap", "sh", "-c", f"rm -rf /w; ln -s /proc/self/fd/{number} /w")
        done = clean("exec", "trap", "cat", "../../../../../../../etc/hostname", check=False)
        assert done.code != 0 and done.out == "", done.out
    clean("rm", "-f", "trap")


def test_the_command_is_no_path_through_an_open_file(nano: Nano) -> None:
    for number in range(3, 40):
        place = f"/proc/self/fd/{number}/../../../../../../../../../..{HOST_PYTHON}"
        done = nano("run", "--rm", "--network", "none", "tiny", place, "-V", check=False)
        assert (done.code, done.out) == (127, "")


def test_the_engines_program_cannot_be_executed_inside(nano: Nano) -> None:
    """CVE-2019-5736: /proc/self/exe as the command is not the host's Python."""
    done = nano("run", "--rm", "--network", "none", "tiny", "/proc/self/exe", "-V", check=False)
    assert (done.code, done.out, done.err) == (126, "", "")


def test_the_engines_program_is_no_interpreter_either(nano: Nano, clean: Nano) -> None:
    before = HOST_PYTHON.stat()
    clean("run", "-d", "--name", "trap", "--network", "none", "tiny", "sleep", "60")
    clean("exec", "-i", "trap", "sh", "-c", "cat > /s; chmod +x /s", input=b"#!/proc/self/exe\nimport os\n")
    done = clean("exec", "trap", "/s", check=False)
    assert (done.code, done.out) == (126, "")
    clean("rm", "-f", "trap")
    after = HOST_PYTHON.stat()
    assert (after.st_mode, after.st_ctime) == (before.st_mode, before.st_ctime)
