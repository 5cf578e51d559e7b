"""The rules of overlayfs, walked by hand, on directories that need no root; against the kernel: tests/root."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nanocontainer.errors import InvalidInput, NotFound
from nanocontainer.rootfs.strata import changes, trace


@pytest.fixture
def layers(tmp_path: Path) -> list[str]:
    """Top first: own, middle, bottom."""
    own, middle, bottom = (tmp_path / name for name in ("own", "middle", "bottom"))
    (bottom / "usr/bin").mkdir(parents=True)
    (bottom / "usr/bin/sh").write_text("bottom")
    (bottom / "etc").mkdir()
    (bottom / "etc/passwd").write_text("old")
    os.symlink("usr/bin", bottom / "bin")
    os.symlink("loop", bottom / "loop")
    os.symlink("/no/where", bottom / "dangling")
    os.symlink("../../../../usr", bottom / "etc/out")
    (middle / "etc").mkdir(parents=True)
    (middle / "etc/passwd").write_text("newer")
    (middle / "usr").mkdir()
    (own / "etc").mkdir(parents=True)
    (own / "etc/new").write_text("12345")
    return [str(own), str(middle), str(bottom)]


def roles(layers: list[str], path: str) -> list[tuple[int, str]]:
    return [(one.layer, one.role) for one in trace(layers, path).findings]


def test_the_topmost_file_counts_and_hides_the_others(layers: list[str]) -> None:
    assert roles(layers, "/etc/passwd") == [(1, "provides"), (2, "hidden")]
    assert roles(layers, "/etc/new") == [(0, "provides")] and trace(layers, "/etc/new").findings[0].size == 5
    assert roles(layers, "/etc/") == [(0, "provides"), (1, "merges"), (2, "merges")]
    assert roles(layers, "/") == [(0, "provides"), (1, "merges"), (2, "merges")]


def test_links_are_followed_in_the_merged_tree_and_never_out_of_it(layers: list[str]) -> None:
    found = trace(layers, "/bin/sh")
    assert (found.resolved, found.exists, [link.path for link in found.links]) == ("/usr/bin/sh", True, ["/bin"])
    assert trace(layers, "/etc/out/bin/../bin/sh").resolved == "/usr/bin/sh"
    dangling = trace(layers, "/dangling")
    assert not dangling.exists and dangling.links and not dangling.findings
    circle = trace(layers, "/loop/x")
    assert not circle.exists and len(circle.links) > 40
    assert trace(layers, "/bin/../share/../bin/sh").exists is False  # usr/share is not there
    assert trace(layers, "/bin/../bin/sh").resolved == "/usr/bin/sh"  # not /bin: ".." goes up from where the link led


def test_a_whiteout_deletes_and_a_file_in_the_way_hides(layers: list[str]) -> None:
    try:
        os.mknod(f"{layers[0]}/usr", 0o020000, 0)
    except PermissionError:
        pytest.skip("whiteouts need root here")
    found = trace(layers, "/usr")
    assert not found.exists and roles(layers, "/usr") == [(0, "deletes"), (1, "hidden"), (2, "hidden")]
    below = trace(layers, "/usr/bin/sh")
    assert not below.exists and (below.findings[0].role, below.findings[0].path) == ("deletes", "/usr")
    assert below.findings[-1].role == "hidden"
    Path(layers[1], "etc/passwd").unlink()
    Path(layers[0], "etc/passwd").mkdir()
    assert roles(layers, "/etc/passwd") == [(0, "provides"), (2, "hidden")]


def test_changes_counts_what_the_container_did(layers: list[str]) -> None:
    Path(layers[0], "etc/passwd").write_text("mine")
    Path(layers[0], "var").mkdir()
    found = changes(layers[0], layers[1:])
    assert (found.added, found.changed, found.deleted, found.size) == (2, 1, 0, 9)
    assert set(found.paths) == {"A /etc/new", "A /var", "C /etc/passwd"}
    assert len(changes(layers[0], layers[1:], most=1).paths) == 1


@pytest.mark.parametrize("path", ["etc/passwd", "", "/etc\0/passwd"])
def test_a_path_that_is_none(layers: list[str], path: str) -> None:
    with pytest.raises(InvalidInput):
        trace(layers, path)


def test_a_layer_that_is_gone(layers: list[str]) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(NotFound, match="cannot look into layer"):
        trace([*layers, "/no/such/layer"], "/")
    trace(layers, "/bin/sh")
    assert len(os.listdir("/proc/self/fd")) == before
