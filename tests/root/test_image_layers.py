"""Layers on disk: as GNU tar makes them, whiteouts as overlayfs wants them, and hostile archives kept inside."""

from __future__ import annotations

import errno
import io
import os
import resource
import shutil
import stat
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nanocontainer.errors import Corrupt, NanoError
from nanocontainer.image.checkup import tree_size as layer_bytes
from nanocontainer.image.layers import apply_layer

DIR, SYMLINK, LINK = tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
CHAR, BLOCK, FIFO = tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE
Member = tuple[tarfile.TarInfo, bytes]


def one(name: str, data: bytes = b"", **fields: object) -> Member:
    info = tarfile.TarInfo(name)
    info.mode, info.mtime = 0o644, 1_700_000_000
    if fields.get("type") == DIR:
        info.mode = 0o755
    for key, value in fields.items():
        setattr(info, key, value)
    info.size = len(data)
    return info, data


def tar_of(*members: Member) -> bytes:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return output.getvalue()


def chunks(data: bytes, size: int = 100_000) -> Iterator[bytes]:
    return iter([data[at : at + size] for at in range(0, len(data), size)])


def unpack(place: Path, *members: Member) -> Path:
    place.mkdir(exist_ok=True)
    apply_layer(chunks(tar_of(*members)), str(place))
    return place


def tree(root: Path) -> dict[str, tuple[object, ...]]:
    """Everything that tells two trees apart; hard links by the name that comes first."""
    found: dict[str, tuple[object, ...]] = {}
    inodes: dict[int, str] = {}
    for directory, names, files in os.walk(root):
        names.sort()
        files.sort()
        for name in [".", *names, *files] if directory == str(root) else [*names, *files]:
            path = os.path.normpath(os.path.join(directory, name))
            short = os.path.relpath(path, root)
            there = os.lstat(path)
            first = inodes.setdefault(there.st_ino, short)
            content: object = None
            if stat.S_ISLNK(there.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(there.st_mode):
                content = Path(path).read_bytes()
            xattrs = {
                key: os.getxattr(path, key, follow_symlinks=False) for key in os.listxattr(path, follow_symlinks=False)
            }
            size = there.st_blocks if stat.S_ISREG(there.st_mode) and there.st_size > 1 << 20 else 0
            found[short] = (
                stat.filemode(there.st_mode),
                there.st_uid,
                there.st_gid,
                there.st_mtime_ns,
                there.st_rdev,
                content,
                xattrs,
                first if not stat.S_ISDIR(there.st_mode) else "",
                size,
            )
    return found


def test_a_tree_of_everything_is_what_gnu_tar_makes_of_it(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir(mode=0o751)
    for path, mode in (("a/b/c", 0o755), ("setgid", 0o2775), ("sticky", 0o1777), ("private", 0o700)):
        (source / path).mkdir(parents=True)
        (source / path).chmod(mode)
    files = {
        "a/file": 0o644,
        "a/setuid": 0o4755,
        "setgid/in it": 0o640,
        "a/b/c/exe": 0o711,
        "private/none": 0,
        "ä\nß": 0o600,
    }
    for name, mode in files.items():
        (source / name).write_bytes(name.encode() * 700)
        (source / name).chmod(mode)
    os.chown(source / "a/file", 1000, 100)
    os.chown(source / "a/setuid", 7, 8)
    (source / "a/setuid").chmod(0o6755)
    os.chown(source / "a/b", 12, 34)
    (source / os.fsdecode(b"not utf-8 \xff")).touch()
    (source / ("long" * 60)).write_text("x")
    (source / "empty").touch()
    (source / "large").write_bytes(os.urandom(3_000_000))
    os.link(source / "a/file", source / "setgid/hard link")
    (source / "link").symlink_to("/etc/passwd")
    (source / "dangling").symlink_to("x/" * 200)
    os.chown(source / "link", 5, 6, follow_symlinks=False)
    os.mkfifo(source / "fifo", 0o622)
    os.mknod(source / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(source / "disk", stat.S_IFBLK | 0o660, os.makedev(259, 70000))
    os.chown(source / "disk", 0, 6)
    os.setxattr(source / "a/b/c/exe", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
    os.setxattr(source / "a/file", "user.note", b"bytes \0 and\n=lines")
    os.setxattr(source / "a", "user.of a directory", b"1")
    with open(source / "sparse", "wb") as file:
        file.seek(8 << 20)
        file.write(b"end")
        file.truncate(16 << 20)
    for number, path in enumerate(sorted(source.rglob("*"))):
        os.utime(path, ns=(0, 1_600_000_000_123_456_789 + number * 10**9), follow_symlinks=False)
    archive = tmp_path / "t.tar"
    options = ["--xattrs", "--xattrs-include=*", "--sparse", "--format=posix", "--numeric-owner"]
    subprocess.run(["tar", "-C", str(source), *options, "-cf", str(archive), "."], check=True)
    by_tar, by_us = tmp_path / "tar", tmp_path / "us"
    by_tar.mkdir()
    by_us.mkdir()
    subprocess.run(["tar", "-C", str(by_tar), *options[:2], "--numeric-owner", "-p", "-xf", str(archive)], check=True)
    size = apply_layer(chunks(archive.read_bytes(), 7000), str(by_us))
    assert tree(by_us) == tree(by_tar) == tree(source)
    assert size == sum(
        path.stat().st_size
        for path in source.rglob("*")
        if path.is_file() and not path.is_symlink() and path.name != "hard link"
    )


def test_umask_is_nothing_to_us(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        place = unpack(
            tmp_path / "l",
            one("d", type=DIR, mode=0o777),
            one("d/f", mode=0o666),
            one("made/f"),
            one("p", type=FIFO, mode=0o666),
        )
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((place / name).stat().st_mode) for name in ("d", "d/f", "made", "p")]
    assert modes == [0o777, 0o666, 0o755, 0o666]


def test_the_root_of_a_layer(tmp_path: Path) -> None:
    place = unpack(tmp_path / "l", one("./", type=DIR, mode=0o1711, uid=3, gid=4), one("./f"))
    there = place.stat()
    assert (stat.S_IMODE(there.st_mode), there.st_uid, there.st_gid, there.st_mtime) == (0o1711, 3, 4, 1_700_000_000)


def test_parents_nobody_listed_and_odd_names(tmp_path: Path) -> None:
    place = unpack(tmp_path / "l", one("a/b/c"), one("./x//y/./z"), one("/abs/f"), one("q/../r"), one("t/u/", type=DIR))
    assert sorted(str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()) == [
        "a/b/c",
        "abs/f",
        "r",
        "x/y/z",
    ]
    assert (place / "t/u").is_dir()
    assert stat.S_IMODE((place / "a").stat().st_mode) == 0o755


def test_the_last_of_a_name_counts(tmp_path: Path) -> None:
    place = unpack(
        tmp_path / "l",
        one("x", b"1"),
        one("x", b"22"),
        one("d/e/f", b"1"),
        one("d", b"file now"),
        one("s", type=SYMLINK, linkname="x"),
        one("s", b"no link"),
        one("n", b"1"),
        one("n", type=DIR),
        one("n/in", b"1"),
        one("k", type=DIR, mode=0o700),
        one("k/kept", b"1"),
        one("k", type=DIR, mode=0o755),
        one("c", type=CHAR, devmajor=1, devminor=3),
        one("c", type=SYMLINK, linkname="z"),
        one("h", b"1"),
        one("g", b"2"),
        one("h", type=LINK, linkname="g"),
        one("g", type=LINK, linkname="g"),
    )
    assert (place / "x").read_bytes() == b"22"
    assert (place / "d").read_bytes() == b"file now"
    assert not (place / "s").is_symlink()
    assert (place / "n/in").is_file()
    assert (place / "k/kept").is_file()
    assert stat.S_IMODE((place / "k").stat().st_mode) == 0o755
    assert os.readlink(place / "c") == "z"
    assert (place / "h").read_bytes() == b"2"
    assert (place / "h").stat().st_ino == (place / "g").stat().st_ino


def test_the_size_is_that_of_the_files_that_are_there(tmp_path: Path) -> None:
    """What was replaced on the way does not count; doctor compares the two to see what a power cut has emptied."""
    archive = tar_of(
        one("x", b"1" * 10), one("x", b"2" * 7),
        one("d/a", b"3" * 100), one("d/b", type=LINK, linkname="d/a"), one("kept", b"4" * 50),
        one("d/c", type=LINK, linkname="kept"), one("d", b"5"),
        one("g", b"6" * 3), one("h", type=LINK, linkname="g"), one("g", b"7" * 9), one("h", type=SYMLINK, linkname="x"),
    )  # fmt: skip
    (tmp_path / "l").mkdir()
    assert apply_layer(chunks(archive), str(tmp_path / "l")) == 7 + 50 + 1 + 9 == layer_bytes(str(tmp_path / "l"))


def test_many_directories_need_few_open_files(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    members = [one(f"d{number // 50}/e{number}/f") for number in range(500)]
    deep = "/".join(["deep"] * 200)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 90, hard))
    try:
        place = unpack(tmp_path / "l", *members, *reversed(members), one(f"{deep}/f"))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert sum(path.is_file() for path in place.rglob("*")) == 501


# --- whiteouts


def is_whiteout(path: Path) -> bool:
    there = path.lstat()
    return stat.S_ISCHR(there.st_mode) and there.st_rdev == 0


def is_opaque(path: Path) -> bool:
    return "trusted.overlay.opaque" in os.listxattr(path) and os.getxattr(path, "trusted.overlay.opaque") == b"y"


def test_whiteouts(tmp_path: Path) -> None:
    place = unpack(
        tmp_path / "l",
        one(".wh.gone"),
        one("d/.wh.also gone"),
        one("o/.wh..wh..opq"),
        one("o/new"),
        one("p", type=DIR),
        one("p/.wh..wh..opq"),
        one("d/.wh..wh.plnk", type=DIR),
        one(".wh..wh.aufs"),
    )
    assert is_whiteout(place / "gone")
    assert is_whiteout(place / "d/also gone")
    assert is_opaque(place / "o")
    assert is_opaque(place / "p")
    assert (place / "o/new").is_file()
    assert sorted(os.listdir(place)) == ["d", "gone", "o", "p"]
    assert os.listdir(place / "d") == ["also gone"]


def test_whiteouts_hide_only_what_lower_layers_have(tmp_path: Path) -> None:
    place = unpack(
        tmp_path / "l",
        one("f", b"new"),
        one(".wh.f"),
        one(".wh.g"),
        one("g", b"new"),
        one("d/x", b"new"),
        one(".wh.d"),
        one(".wh.e"),
        one("e/x", b"new"),
        one(".wh.i"),
        one("i", type=DIR),
    )
    assert (place / "f").read_bytes() == (place / "g").read_bytes() == b"new"
    for name in ("d", "e", "i"):
        assert is_opaque(place / name)
    assert (place / "d/x").is_file()
    assert (place / "e/x").is_file()


def test_overlayfs_agrees(tmp_path: Path) -> None:
    lower = unpack(
        tmp_path / "lower",
        one("gone", b"1"),
        one("o/old", b"1"),
        one("e/old", b"1"),
        one("kept", b"1"),
        one("d/old", b"1"),
        one("file", b"old"),
        one("hole/f", b"1"),
    )
    upper = unpack(
        tmp_path / "upper",
        one(".wh.gone"),
        one("o/.wh..wh..opq"),
        one("o/new", b"2"),
        one(".wh.e"),
        one("e/new", b"2"),
        one("d/new", b"2"),
        one("file", b"new"),
        one(".wh.hole"),
    )
    merged = tmp_path / "merged"
    merged.mkdir()
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", f"ro,lowerdir={upper}:{lower}", str(merged)], check=True)
    try:
        found = sorted(str(path.relative_to(merged)) for path in merged.rglob("*") if path.is_file())
        assert found == ["d/new", "d/old", "e/new", "file", "kept", "o/new"]
        assert (merged / "file").read_bytes() == b"new"
    finally:
        subprocess.run(["umount", str(merged)], check=True)


# --- hostile archives


def refused(place: Path, *members: Member) -> str:
    with pytest.raises(NanoError) as told:
        unpack(place, *members)
    assert isinstance(told.value, Corrupt), told.value
    return str(told.value)


@pytest.fixture
def jail(tmp_path: Path) -> Iterator[Path]:
    """A directory for a layer, with things around it that must stay as they are."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    os.utime(outside / "secret", (1, 1))
    os.utime(outside, (1, 1))
    layer = tmp_path / "layer"
    layer.mkdir()
    before = tree(outside)
    etc = os.stat("/etc").st_mtime_ns
    yield layer
    assert tree(outside) == before
    assert os.stat("/etc").st_mtime_ns == etc
    assert set(os.listdir(tmp_path)) <= {"layer", "outside"}


@pytest.mark.parametrize("name", ["../x", "a/../../x", "..", "./../x", "/../x", "a/b/../../../x"])
def test_names_that_lead_out(jail: Path, name: str) -> None:
    assert "leads out" in refused(jail, one(name))


@pytest.mark.parametrize(
    "target", ["../outside", "/outside", "..", "/", "../../../../..", "/proc/self/root", "/proc/self/cwd", "."]
)
def test_through_links(jail: Path, target: str) -> None:
    """Below a link to the outside: refused, or put inside, where the link leads to in the layer."""
    for name in ("link/secret", "link/tmp/x", "link/outside/secret"):
        try:
            unpack(jail, one("link", type=SYMLINK, linkname=target), one(name, b"evil"), one("link", type=DIR, mtime=5))
        except Corrupt:
            pass


def test_absolute_links_are_links_of_the_layer(jail: Path) -> None:
    unpack(jail, one("usr/lib/a", b"1"), one("lib", type=SYMLINK, linkname="/usr/lib"), one("lib/b", b"2"))
    assert (jail / "usr/lib/b").read_bytes() == b"2"


def test_links_in_the_place_of_files(jail: Path) -> None:
    outside = jail.parent / "outside"
    unpack(jail, one("f", type=SYMLINK, linkname=str(outside / "secret")), one("f", b"evil"))
    unpack(
        jail,
        one("g", type=SYMLINK, linkname=str(outside)),
        one("g", type=DIR, mode=0o777, mtime=5),
        one("g/secret", b"x"),
    )
    unpack(jail, one("h", type=DIR, mtime=77), one("h", type=SYMLINK, linkname=str(outside)))
    unpack(jail, one("i/j", type=DIR, mtime=77, mode=0o2777), one("i", type=SYMLINK, linkname="../outside"))
    unpack(jail, one("k", type=SYMLINK, linkname="../outside/secret", mode=0o777), one("k", type=FIFO, mode=0o777))


@pytest.mark.parametrize(
    "target", ["../outside/secret", "/etc/passwd", "link/secret", "missing", "", ".", "d", "l/passwd"]
)
def test_hard_links_to_the_outside(jail: Path, target: str) -> None:
    links = (
        one("link", type=SYMLINK, linkname="../outside"),
        one("l", type=SYMLINK, linkname="/etc"),
        one("d", type=DIR),
    )
    refused(jail, *links, one("hard", type=LINK, linkname=target))


def test_a_hard_link_to_a_link_is_one_to_the_link_itself(jail: Path) -> None:
    unpack(
        jail, one("s", type=SYMLINK, linkname="../outside/secret"), one("h", type=LINK, linkname="s"), one("h", b"new")
    )
    assert (jail / "s").is_symlink()
    assert (jail / "h").read_bytes() == b"new"


@pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh...", "a/.wh..", "a/.wh..."])
def test_whiteouts_of_no_name(jail: Path, name: str) -> None:
    refused(jail, one(name))


def test_whiteouts_through_links(jail: Path) -> None:
    link = one("link", type=SYMLINK, linkname="../outside")
    for name in ("link/.wh.secret", "link/.wh..wh..opq"):
        try:
            unpack(jail, link, one(name))
        except Corrupt:
            pass
    assert "trusted.overlay.opaque" not in os.listxattr(jail.parent / "outside")


def test_xattrs_of_overlayfs_and_of_the_host_are_left_out(jail: Path) -> None:
    names = (
        "trusted.overlay.redirect",
        "trusted.overlay.opaque",
        "user.overlay.whiteout",
        "security.selinux",
        "security.evm",
        "user.kept",
    )
    headers = {f"SCHILY.xattr.{name}": "x" for name in names}
    unpack(jail, one("d", type=DIR, pax_headers=headers), one("f", pax_headers=headers))
    assert os.listxattr(jail / "d") == os.listxattr(jail / "f") == ["user.kept"]


def test_a_file_in_the_way_of_a_directory(jail: Path) -> None:
    refused(jail, one("f", b"1"), one("f/g", b"2"))
    refused(jail, one("loop", type=SYMLINK, linkname="loop"), one("loop/x"))
    refused(jail, one("x" * 300))
    refused(jail, one("empty link", type=SYMLINK, linkname=""))
    refused(jail, one("/", b"no directory"))


def test_broken_numbers(jail: Path) -> None:
    refused(jail, one("dev", type=CHAR, devmajor=5000, devminor=1))
    for value in (10**18, -(10**18)):
        unpack(jail, one("t", pax_headers={"mtime": str(value)}))


NAMES = st.sampled_from(
    [
        "a",
        "b",
        "a/b",
        "a/b/c",
        "../x",
        "/a",
        "a/../b",
        "l",
        "l/x",
        "l/../x",
        ".wh.a",
        "a/.wh.b",
        "a/.wh..wh..opq",
        ".",
        "l/l",
    ]
)
TARGETS = st.sampled_from(
    ["a", "b", "../outside", "/", "..", "l", "/etc", "../../..", "a/b", "../outside/secret", "/proc/self/root/tmp"]
)
TYPES = st.sampled_from([tarfile.REGTYPE, DIR, SYMLINK, LINK, CHAR, FIFO])
MEMBERS = st.builds(
    lambda name, kind, target, mode: one(
        name, b"x" if kind == tarfile.REGTYPE else b"", type=kind, linkname=target, mode=mode, mtime=5
    ),
    NAMES,
    TYPES,
    TARGETS,
    st.integers(0, 0o7777),
)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(MEMBERS, min_size=2, max_size=8))
def test_no_archive_reaches_the_outside(jail: Path, members: list[Member]) -> None:
    shutil.rmtree(jail)
    jail.mkdir()
    try:
        unpack(jail, *members)
    except Corrupt:
        pass
    assert (jail.parent / "outside/secret").read_text() == "secret"


# --- when the host fails


def test_a_full_disk_is_told_in_words(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)], check=True)
    try:
        with pytest.raises(NanoError) as told:
            unpack(tmp_path / "l", one("big", bytes(2 << 20)))
        assert os.strerror(errno.ENOSPC) in told.value.why
        assert "df -h" in told.value.hint
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_memory_is_flat(tmp_path: Path) -> None:
    """A file of a gigabyte (a hole, in the archive too) and a hundred thousand names."""
    program = f"""
import resource, sys
sys.path[:0] = {sys.path!r}
import io, tarfile
from nanocontainer.image.checkup import tree_size as layer_bytes
from nanocontainer.image.layers import apply_layer
def archive():
    head = tarfile.TarInfo("big")
    head.size = 256 << 20
    yield head.tobuf()
    for _ in range(256):
        yield bytes(1 << 20)
    for number in range(20000):
        yield tarfile.TarInfo("big").tobuf()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
apply_layer(archive(), {str(tmp_path)!r})
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 8192  # KiB
