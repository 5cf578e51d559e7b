"""The format number of a state directory: who reads what another version wrote is told so."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nanocontainer.container.spec import Spec
from nanocontainer.engine import Engine
from nanocontainer.errors import Corrupt, NanoError, NotFound, Unsupported
from nanocontainer.paths import FORMAT, Paths, check_format, make_state


def paths_of(tmp_path: Path) -> Paths:
    return Paths(str(tmp_path / "state"), str(tmp_path / "run"))


def test_looking_makes_no_state_directory(tmp_path: Path) -> None:
    engine = Engine(str(tmp_path / "state"))
    assert engine.containers() == []
    with pytest.raises(NotFound):
        engine.image("nobody")
    assert not (tmp_path / "state").exists()


def test_a_new_state_directory_has_the_format(tmp_path: Path) -> None:
    paths = paths_of(tmp_path)
    assert not check_format(paths)
    make_state(paths)
    assert Path(paths.format).read_text() == f"{FORMAT}\n"
    assert check_format(paths)
    assert os.listdir(paths.state) == ["format"]


def test_the_first_image_makes_it(tmp_path: Path) -> None:
    engine = Engine(str(tmp_path / "state"))
    with pytest.raises(NanoError):  # no archive; what came before it is what is tested
        engine.load(str(tmp_path / "none.tar"))
    assert (tmp_path / "state/format").read_text() == f"{FORMAT}\n"


def test_what_was_made_before_there_were_numbers_is_marked(tmp_path: Path) -> None:
    paths = paths_of(tmp_path)
    os.makedirs(paths.names)
    assert check_format(paths)
    assert Path(paths.format).read_text() == "1\n"


def test_a_directory_that_cannot_be_marked_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = paths_of(tmp_path)
    os.makedirs(paths.names)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("nanocontainer.paths.write_file", refuse)
    assert check_format(paths)


@pytest.mark.parametrize(("number", "which"), [("999", "newer"), ("0", "older")])
def test_another_format_is_named_and_nothing_is_touched(tmp_path: Path, number: str, which: str) -> None:
    paths = paths_of(tmp_path)
    os.makedirs(f"{paths.containers}/.rm-{'ab' * 32}")
    Path(paths.format).write_text(f"{number}\n")
    engine = Engine(paths.state, paths.run)
    spec = Spec("tiny", command=("true",))
    for ask in (
        engine.containers, engine.images, engine.info, lambda: engine.inspect("x"), lambda: engine.create(spec),
        lambda: engine.pull("tiny"), lambda: engine.load("x"), lambda: engine.image("tiny"),
        lambda: engine.remove("x", force=True), lambda: engine.logs("x"), lambda: engine.remove_image("x"),
    ):  # fmt: skip
        with pytest.raises(Unsupported) as caught:
            ask()
        assert str(caught.value) == (
            f"state directory {paths.state} has format {number}: this version of NanoContainer reads format {FORMAT}"
        )
        assert which in caught.value.hint and "--root" in caught.value.hint
    assert sorted(os.listdir(paths.state)) == ["containers", "format"]
    assert os.listdir(paths.containers) == [f".rm-{'ab' * 32}"]


@pytest.mark.parametrize("said", [b"", b"one", b"-1", b"1 2", b"\xff", b"9" * 40])
def test_what_is_no_number_is_broken(tmp_path: Path, said: bytes) -> None:
    paths = paths_of(tmp_path)
    os.makedirs(paths.state)
    Path(paths.format).write_bytes(said)
    with pytest.raises(Corrupt, match="broken file .*format"):
        check_format(paths)
