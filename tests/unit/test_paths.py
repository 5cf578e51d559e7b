"""Where things lie, names, and files that are written whole or not at all."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import pytest

from nanocontainer.errors import InvalidInput, NanoError
from nanocontainer.paths import RUN, STATE, Paths, check_name, is_id, make_dirs, new_id, read_file, write_file


def test_standard_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NANOCONTAINER_ROOT", raising=False)
    monkeypatch.delenv("NANOCONTAINER_RUNROOT", raising=False)
    assert Paths.default() == Paths(STATE, RUN)
    assert Paths().mark == ""


def test_places_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NANOCONTAINER_ROOT", "/a/b/../c")
    monkeypatch.delenv("NANOCONTAINER_RUNROOT", raising=False)
    assert Paths.default() == Paths("/a/c", "/a/c/run")
    monkeypatch.setenv("NANOCONTAINER_RUNROOT", "/r")
    assert Paths.default().run == "/r"


def test_the_mark_tells_engines_apart() -> None:
    assert Paths("/a").mark != Paths("/b").mark
    assert len(Paths("/a").mark) == 8


def test_ids() -> None:
    assert is_id(new_id())
    assert new_id() != new_id()
    for text in ("", "a" * 63, "a" * 65, "A" * 64, "g" * 64, "a" * 63 + "/"):
        assert not is_id(text)


@pytest.mark.parametrize("name", ["ab", "web-1", "A.b_c", "0x", "a" * 128])
def test_good_names(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "a", "a" * 129, "-ab", ".ab", "_ab", "a/b", "..", "a b", "a\n", "a\0b", "é1", "ab²", "²ab", "\udcffab"]
)
def test_bad_names(name: str) -> None:
    with pytest.raises(InvalidInput, match="invalid container name"):
        check_name(name)


def test_make_dirs(tmp_path: Path) -> None:
    make_dirs(f"{tmp_path}/a/b")
    make_dirs(f"{tmp_path}/a/b")
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o700
    (tmp_path / "file").touch()
    with pytest.raises(NanoError, match="cannot create"):
        make_dirs(f"{tmp_path}/file/below")


def test_write_file_replaces_whole(tmp_path: Path) -> None:
    path = f"{tmp_path}/f"
    write_file(path, "first")
    write_file(path, b"second", durable=True)
    assert read_file(path) == "second"
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["f"]


def test_write_file_that_fails_leaves_the_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = f"{tmp_path}/f"
    write_file(path, "old")

    def full(*_: object) -> int:
        raise OSError(28, "full")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="full"):
        write_file(path, "new")
    monkeypatch.undo()
    assert read_file(path) == "old"
    assert os.listdir(tmp_path) == ["f"]


def test_write_file_by_several_threads_at_once(tmp_path: Path) -> None:
    path, failed = f"{tmp_path}/f", []

    def write(letter: str) -> None:
        try:
            for _ in range(50):
                write_file(path, letter * 100_000)
        except OSError as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert len(set(read_file(path))) == 1
    assert os.listdir(tmp_path) == ["f"]


def test_write_file_into_a_directory_that_goes_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "d").mkdir()
    rename = os.rename

    def late(old: str, new: str) -> None:
        shutil.rmtree(tmp_path / "d")
        rename(old, new)

    monkeypatch.setattr(os, "rename", late)
    with pytest.raises(FileNotFoundError, match=r"-> '.*/f'"):
        write_file(f"{tmp_path}/d/f", "x")


def test_read_file_is_text(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"\xff")
    with pytest.raises(ValueError):
        read_file(f"{tmp_path}/f")
