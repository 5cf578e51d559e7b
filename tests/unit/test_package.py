"""The package as users get it: built by hatchling, with its commands and data files."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    place = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(place)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return zipfile.ZipFile(next(place.glob("nanocontainer-*-py3-none-any.whl")))


def test_every_file_of_the_source_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    source = ROOT / "src"
    wanted = {
        str(path.relative_to(source))
        for path in source.rglob("*")
        if path.is_file() and path.suffix in (".py", ".json", ".md", ".typed")
    }
    assert wanted
    assert wanted <= set(wheel.namelist())


def test_nothing_else_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    strange = [name for name in wheel.namelist() if not name.startswith(("nanocontainer/", "nanocontainer-"))]
    assert not strange
    assert not [name for name in wheel.namelist() if name.endswith(".pyc")]


def test_both_commands(wheel: zipfile.ZipFile) -> None:
    entry = next(name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    text = wheel.read(entry).decode()
    assert "nanocontainer = nanocontainer.cmd.main:entry" in text
    assert "nanoc = nanocontainer.cmd.main:entry" in text


def test_a_plain_installation_needs_no_other_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["dependencies"] == []
