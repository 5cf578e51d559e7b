"""Bind mounts, volumes, tmpfs: what they show, who owns them, what an image's links cannot do to the host."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from .nano import Nano


def inside(nano: Nano, script: str, *options: str) -> str:
    return nano("run", "--rm", "--network", "none", *options, "tiny", "sh", "-c", script).out


@pytest.fixture
def volumes(clean: Nano) -> Iterator[Path]:
    """The directory of volumes; those of the test are gone after it."""
    place = Path(clean.root) / "volumes"
    yield place
    clean.remove_all()
    shutil.rmtree(place, ignore_errors=True)


@pytest.mark.parametrize("form", ["-v", "--mount", "short"])
def test_a_directory_of_the_host(nano: Nano, tmp_path: Path, form: str) -> None:
    (tmp_path / "f").write_text("from the host")
    mount = {
        "-v": ("-v", f"{tmp_path}:/data"),
        "--mount": ("--mount", f"type=bind,src={tmp_path},dst=/data"),
        "short": ("--mount", f"{tmp_path}:/data"),
    }[form]
    assert inside(nano, "cat /data/f; echo back > /data/g", *mount) == "from the host"
    assert (tmp_path / "g").read_text() == "back\n"


def test_read_only_is_for_all_that_is_below(nano: Nano, tmp_path: Path) -> None:
    said = inside(nano, "touch /data/x 2>/dev/null || echo no", "-v", f"{tmp_path}:/data:ro")
    assert said == "no\n"
    assert os.listdir(tmp_path) == []


def test_a_file_of_the_host(nano: Nano, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("one")
    assert inside(nano, "cat /deep/er/file", "-v", f"{tmp_path}/f:/deep/er/file") == "one"


def test_a_missing_source(nano: Nano, tmp_path: Path) -> None:
    done = nano("run", "--rm", "--mount", f"type=bind,src={tmp_path}/no,dst=/d", "tiny", "true", check=False)
    assert done.code == 125
    assert f"{tmp_path}/no" in done.err
    inside(nano, "touch /d/x", "-v", f"{tmp_path}/made:/d")
    assert os.listdir(tmp_path / "made") == ["x"]


def test_a_file_on_a_directory_is_an_error_in_words(nano: Nano, tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    done = nano("run", "--rm", "--network", "none", "-v", f"{tmp_path}/f:/bin", "tiny", "true", check=False)
    assert done.code == 125
    assert "directory" in done.err


def test_a_named_volume_outlives_its_containers(nano: Nano, volumes: Path) -> None:
    inside(nano, "echo kept > /data/f", "-v", "vol:/data")
    assert inside(nano, "cat /other/f", "--mount", "type=volume,src=vol,dst=/other") == "kept\n"
    assert (volumes / "vol/_data/f").read_text() == "kept\n"


def test_a_new_volume_starts_with_what_the_image_has(nano: Nano, volumes: Path) -> None:
    """Modes, owners and links included; a second container finds what is there by then."""
    look = "ls -lan /bin | sed 1,3d | awk '{print $1, $3, $4, $5, $6, $7, $8, $9}' | sort"
    original = inside(nano, look)
    copied = inside(nano, f"{look}; echo new > /bin/added", "-v", "bin:/bin")
    assert copied == original
    assert inside(nano, "cat /bin/added", "-v", "bin:/bin") == "new\n"
    assert os.stat(volumes / "bin/_data/sh").st_ino == os.stat(volumes / "bin/_data/ls").st_ino  # one file, many names
    assert inside(nano, "ls /bin2 | wc -l", "--mount", "type=volume,src=other,dst=/bin2") == "0\n"


def test_nocopy(nano: Nano, volumes: Path) -> None:
    assert inside(nano, "/d/sh -c true 2>/dev/null || ls -A /bin/x | wc -l", "--mount",
                  "type=volume,src=v1,dst=/bin/x,volume-nocopy") == "0\n"  # fmt: skip


def test_a_part_of_a_volume_and_no_link_that_leads_out_of_it(nano: Nano, volumes: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").touch()
    script = f"mkdir -p /v/sub{tmp_path.parent} && touch /v/sub/mine && ln -s {tmp_path} /v/out && ln -s /sub /v/in"
    inside(nano, script, "-v", "vol:/v")
    mount = "type=volume,src=vol,dst=/part,volume-subpath="
    assert "mine" in inside(nano, "ls /part; touch /part/back", "--mount", f"{mount}sub")
    assert (volumes / "vol/_data/sub/back").exists()
    assert "mine" in inside(nano, "ls /part", "--mount", f"{mount}in")  # its root is the volume's
    done = nano("run", "--rm", "--network", "none", "--mount", f"{mount}out", "tiny", "ls", "/part", check=False)
    assert done.code == 125
    assert "does not exist" in done.err
    (volumes / f"vol/_data{tmp_path}").mkdir(parents=True)
    assert inside(nano, "ls /part", "--mount", f"{mount}out") == ""


def test_an_anonymous_volume_goes_with_rm(nano: Nano, volumes: Path) -> None:
    inside(nano, "touch /data/x", "-v", "/data")
    assert os.listdir(volumes) == []
    id = nano("run", "-d", "--network", "none", "-v", "/data", "tiny", "true").out.strip()
    nano("wait", id)
    assert len(os.listdir(volumes)) == 1
    nano("rm", "-v", id)
    assert os.listdir(volumes) == []


def test_tmpfs(nano: Nano) -> None:
    said = inside(nano, "grep ' /t ' /proc/mounts; stat -c %a /t", "--tmpfs", "/t:size=1m,mode=700").split()
    assert said[0] == "tmpfs"
    assert {"nosuid", "nodev", "noexec", "size=1024k", "mode=700"} <= set(said[3].split(","))
    assert said[-1] == "700"


def test_deep_and_shallow_mounts_in_any_order(nano: Nano, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    said = inside(nano, "ls /m /m/b/c", "-v", f"{tmp_path}/b:/m/b/c", "-v", f"{tmp_path}/a:/m")
    assert said.split() == ["/m:", "a", "b", "/m/b/c:", "b"]


@pytest.mark.parametrize("link", ["/etc/cron.d", "../../../../../../tmp", "/proc/self/root/etc", "/proc/1/cwd"])
def test_a_link_in_the_containers_files_leads_nowhere_on_the_host(clean: Nano, tmp_path: Path, link: str) -> None:
    """The place of a mount is a link that the container itself has made: it is followed inside (CVE-2021-30465)."""
    (tmp_path / "mark").touch()
    before = os.listdir("/etc/cron.d") if os.path.isdir("/etc/cron.d") else []
    id = clean("create", "--network", "none", "-v", f"{tmp_path}:/at/here", "tiny", "ls", "/at/here").out.strip()
    upper = Path(clean.root) / "containers" / id / "upper"
    (upper / "at").mkdir()
    (upper / "at/here").symlink_to(link)
    done = clean("start", "-a", id, check=False)
    assert "mark" not in os.listdir("/tmp")
    assert (os.listdir("/etc/cron.d") if os.path.isdir("/etc/cron.d") else []) == before
    if done.code:
        assert "bug" not in done.err


def test_a_container_cannot_make_itself_unremovable(clean: Nano) -> None:
    script = "i=0; while [ $i -lt 1500 ]; do mkdir d && cd d || exit 1; i=$((i+1)); done; pwd | wc -c"
    id = clean("run", "-d", "--network", "none", "tiny", "sh", "-c", script).out.strip()
    clean("wait", id)
    clean("rm", id)
    assert not os.path.exists(f"{clean.root}/containers/{id}")
