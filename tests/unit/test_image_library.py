"""Finding libraries outside of sys.path, as the launcher's `python -IS` needs it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nanocontainer import library
from nanocontainer.errors import NanoError
from nanocontainer.image import library as image_library

SRC = str(Path(library.__file__).parents[1])


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(library, "_found", {})
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith("zz_"):
            del sys.modules[name]


def place(tmp_path: Path, name: str, text: str, module: str = "zz_lib") -> str:
    (tmp_path / name / module).mkdir(parents=True)
    (tmp_path / name / module / "__init__.py").write_text(text)
    return str(tmp_path / name)


def test_a_module_is_found_in_the_first_place_where_it_works(tmp_path: Path) -> None:
    broken = place(tmp_path, "broken", "import zz_lib.missing")
    good = place(tmp_path, "good", "here = 1")
    module = library.borrow("zz_lib", str(tmp_path / "nowhere"), broken, good)
    assert module is not None
    assert module.__file__ == f"{good}/zz_lib/__init__.py"
    assert broken not in sys.path
    assert library.borrow("zz_lib") is module


def test_what_is_nowhere_leaves_no_trace(tmp_path: Path) -> None:
    before = list(sys.path)
    assert library.borrow("zz_nothing", str(tmp_path)) is None
    assert sys.path == before
    assert library.borrow("zz_nothing") is None


def test_any_failure_of_a_copy_is_survived(tmp_path: Path) -> None:
    assert library.borrow("zz_lib", place(tmp_path, "a", "1/0"), place(tmp_path, "b", "this is no python")) is None


def fake_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/args\n{script}\n')
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))


def test_pip_is_the_last_resort(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "state/lib"
    fake_python(tmp_path, monkeypatch, f"mkdir -p {own}/zz_urllib3; touch {own}/zz_urllib3/__init__.py")
    real = library.borrow
    zz = lambda name, *more: real("zz_urllib3", *more) if name == "urllib3" else None  # noqa: E731
    monkeypatch.setattr(image_library, "borrow", zz)
    module = image_library.urllib3(str(tmp_path / "state"))
    assert module.__file__ == f"{own}/zz_urllib3/__init__.py"
    assert f"--target {own} urllib3" in (tmp_path / "args").read_text()
    assert len(capfd.readouterr().err.splitlines()) == 1


def test_when_all_fails_it_is_said_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    fake_python(tmp_path, monkeypatch, "echo no network >&2; exit 1")
    monkeypatch.setattr(image_library, "borrow", lambda name, *more: None)
    with pytest.raises(NanoError) as told:
        image_library.urllib3(str(tmp_path))
    assert "apt install python3-urllib3" in told.value.hint
    assert "no network" in capfd.readouterr().err


def test_from_an_interpreter_that_knows_no_site() -> None:
    """pytest's own environment has urllib3 (see pyproject.toml): -IS must find it too."""
    program = (
        f"import sys; sys.path.insert(0, {SRC!r})\n"
        "from nanocontainer.image.library import urllib3\n"
        "print(urllib3('/nonexistent').PoolManager.__name__)"
    )
    done = subprocess.run([sys.executable, "-IS", "-c", program], capture_output=True, text=True)
    assert done.stdout == "PoolManager\n", done.stderr
