"""image layers, files, diff, tree: on an image whose layers do everything that layers can do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from .images import write_layout
from .nano import Nano
from .test_image_layers import one, tar_of

BOTTOM = tar_of(
    one("etc/keep", b"k" * 10), one("etc/change", b"1" * 1000), one("etc/gone", b"2" * 200), one("dir/a", b"3" * 30),
    one("dir/sub/b", b"4" * 40), one("opaque/old", b"5" * 50),
)  # fmt: skip
MIDDLE = tar_of(
    one("etc/change", b"x" * 1500), one("etc/.wh.gone", b""), one(".wh.dir", b""), one("opaque/.wh..wh..opq", b""),
    one("opaque/new", b"6" * 60),
)  # fmt: skip
TOP = tar_of(one("etc/gone", b"back"), one("etc/change", b"y" * 7))
OTHER = tar_of(one("etc/keep", b"k" * 10), one("etc/change", b"y" * 8), one("fresh/f", b"7"))


@pytest.fixture(scope="module")
def looked(nano: Nano, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    place = tmp_path_factory.mktemp("layers")
    for name, tars in (("whole", (BOTTOM, MIDDLE, TOP)), ("part", (BOTTOM, MIDDLE)), ("other", (OTHER,))):
        files = []
        for number, data in enumerate(tars):
            files.append(Path(place, f"{name}{number}.tar"))
            files[-1].write_bytes(data)
        write_layout(place / name, files, {"Cmd": ["x"]})
        loaded = nano("load", "-q", "-i", str(place / name)).out.split()[-1]
        nano("tag", loaded, f"{name}:1")
    yield
    nano("rmi", "whole:1", "part:1", "other:1")


def test_layers(nano: Nano, looked: None) -> None:
    views = json.loads(nano("image", "layers", "--format", "json", "whole:1").out)
    assert [(view["size"], view["unseen"]) for view in views] == [(1330, 1320), (1560, 1500), (11, 0)]
    assert [(view["added"], view["changed"], view["deleted"]) for view in views] == [(10, 0, 0), (1, 2, 2), (1, 1, 0)]
    middle = {change["path"]: change for change in views[1]["changes"]}
    assert middle["/dir"] == {"letter": "D", "path": "/dir", "kind": "directory", "size": 0, "before": 70}
    assert (middle["/etc/change"]["before"], middle["/etc/change"]["size"]) == (1000, 1500)
    assert middle["/opaque"]["before"] == 50
    text = nano("image", "layers", "whole:1").out
    assert "3 layers, 2.9kB" in text and "2.82kB of that (97%) are unseen" in text
    assert "   C /etc/change  1kB → 1.5kB\n" in text and "   D /dir/  -70B\n" in text
    assert "more (--all)" in text and "more (--all)" not in nano("image", "layers", "-a", "whole:1").out


def test_files(nano: Nano, looked: None) -> None:
    found = json.loads(nano("image", "files", "-r", "--format", "json", "whole:1").out)
    assert {one["path"]: one["layer"] for one in found if one["kind"] == "file"} == {
        "/etc/keep": 1, "/etc/change": 3, "/etc/gone": 3, "/opaque/new": 2,
    }  # fmt: skip
    text = nano("image", "files", "whole:1", "/etc/change").out
    assert "Layer 2 has one too (1.5kB), which is hidden.\nLayer 1 has one too (1kB), which is hidden.\n" in text
    missing = nano("image", "files", "part:1", "/etc/gone", check=False)
    assert missing.code == 1 and "layer 2 deletes /etc/gone" in missing.err
    for path in ("etc", "/nothing", "/etc/keep/below"):
        assert nano("image", "files", "whole:1", path, check=False).code == 1


def test_what_a_container_sees_is_what_is_listed(nano: Nano, looked: None, tmp_path: Path) -> None:
    """The kernel's overlayfs is the oracle: export goes through it."""
    import io
    import tarfile

    nano("create", "--name", "seen", "whole:1", "x")
    try:
        with tarfile.open(fileobj=io.BytesIO(nano("export", "seen").raw)) as archive:
            theirs = {f"/{member.name}": member.size for member in archive if member.isfile()}
    finally:
        nano("rm", "seen")
    found = json.loads(nano("image", "files", "-r", "--format", "json", "whole:1").out)
    assert {one["path"]: one["size"] for one in found if one["kind"] == "file"} == theirs


def test_diff_and_tree(nano: Nano, looked: None) -> None:
    assert nano("image", "diff", "whole:1", "other:1").out.splitlines() == [
        "C /etc/change  7B → 8B", "D /etc/gone  -4B", "A /fresh/", "A /fresh/f  1B", "D /opaque/  -60B"
    ]  # fmt: skip
    assert nano("image", "diff", "part:1", "part:1").out == "The files are the same.\n"
    lines = nano("image", "tree").out.splitlines()
    (at,) = (number for number, line in enumerate(lines) if "part:1" in line)
    assert lines[at].startswith("└ ") and lines[at + 1].startswith("  └ ") and "whole:1" in lines[at + 1]
    nodes = json.loads(nano("image", "tree", "--format", "json").out)
    assert any(node["names"] == ["docker.io/library/other:1"] for node in nodes)
    assert nano("image", "tree", "--format", "yaml", check=False).code == 1
