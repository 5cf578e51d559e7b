"""Reading ELF files, beside ldd."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from nanocontainer.image.elf import libraries, read_program


@pytest.mark.parametrize("name", ["sh", "ls", "ip", "bash", "python3", "mount", "ps"])
def test_libraries_are_those_of_ldd(name: str) -> None:
    path = shutil.which(name, path="/usr/bin:/bin:/usr/sbin:/sbin")
    if not path or not shutil.which("ldd"):
        pytest.skip(f"no {name} or no ldd here")
    told = subprocess.run(["ldd", path], capture_output=True, text=True)
    if told.returncode != 0:
        pytest.skip(f"ldd cannot read {name}")
    words = [line.split() for line in told.stdout.splitlines() if "vdso" not in line]
    wanted = {os.path.realpath(line[2] if "=>" in line else line[0]) for line in words}
    found = libraries(path)
    assert found is not None
    assert {os.path.realpath(library) for library in found} == wanted
    assert found[0] == read_program(path).interpreter  # type: ignore[union-attr]


def test_static_programs_and_others(tmp_path: Path) -> None:
    static = shutil.which("busybox")
    if static and b"statically linked" in subprocess.run(["ldd", static], capture_output=True).stdout:
        assert libraries(static) == []
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    assert read_program(str(script)) is None
    assert libraries(str(script)) is None
    assert read_program(str(tmp_path / "missing")) is None


def test_broken_files_are_no_programs(tmp_path: Path) -> None:
    data = Path("/bin/sh").read_bytes()
    for end in (4, 5, 20, 63, 64, 100, 500):
        (tmp_path / "x").write_bytes(data[:end])
        assert read_program(str(tmp_path / "x")) is None
