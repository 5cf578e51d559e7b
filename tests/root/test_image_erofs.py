"""Layers as EROFS images: mounted, they are what the directory format and GNU tar make of the same archive."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nanocontainer.errors import Corrupt, NanoError
from nanocontainer.image.erofs_layer import shortened, tar_chunks, verify_layer, write_layer
from nanocontainer.image.layers import apply_layer

from .images import DEBIAN_PACKAGES, _debian_tar, cached_layout
from .isolation import MNT_DETACH, MS_RDONLY, mount, umount
from .nano import Nano
from .test_image_layers import CHAR, DIR, FIFO, LINK, MEMBERS, SYMLINK, Member, chunks, one, tar_of, tree

Found = dict[str, tuple[object, ...]]


def mounts_erofs() -> bool:
    """Whether this kernel has EROFS from a file (6.12)."""
    release = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])
    return release >= (6, 12) and "erofs" in Path("/proc/filesystems").read_text()


pytestmark = pytest.mark.skipif(not mounts_erofs(), reason="this kernel does not mount EROFS from a file")


def written(place: Path, archive: bytes, size: int = 100_000) -> int:
    return write_layer(chunks(archive, size), str(place), hashlib.sha256(archive).hexdigest())


@contextmanager
def mounted(image: Path) -> Iterator[Path]:
    place = image.parent / "mounted"
    place.mkdir(exist_ok=True)
    mount(str(image), str(place), "erofs", MS_RDONLY)
    try:
        yield place
    finally:
        umount(str(place), MNT_DETACH)


@pytest.fixture
def limited() -> Iterator[Callable[[str, str], None]]:
    """Mount a file system of some size in memory."""
    made: list[str] = []

    def make(place: str, size: str) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], check=True)
        made.append(place)

    yield make
    for place in made:
        subprocess.run(["umount", place], check=True)


def alike(found: Found) -> Found:
    """Without what the two formats need not agree in: how many blocks a file takes, and times that no entry gave."""
    recent = 1_750_000_000 * 10**9
    return {
        name: (*facts[:3], 0 if facts[3] > recent or facts[3] == 0 else facts[3], *facts[4:-1])  # type: ignore[operator]
        for name, facts in found.items()
    }


def both(tmp_path: Path, archive: bytes) -> Found | None:
    """The tree of an archive in both formats, which must be the same; None where both refuse it."""
    directory, image = tmp_path / "directory", tmp_path / "image"
    directory.mkdir()
    refusals, sizes = [], []
    for make in (lambda: apply_layer(chunks(archive), str(directory)), lambda: written(image, archive)):
        try:
            sizes.append(make())
        except NanoError as error:
            assert isinstance(error, Corrupt), error
            refusals.append(str(error))
    try:
        if refusals:
            assert len(refusals) == 2, (refusals, sizes)
            return None
        assert sizes[0] == sizes[1]
        assert b"".join(tar_chunks(str(image))) == archive
        with mounted(image) as place:
            found = tree(place)
            assert alike(found) == alike(tree(directory))
            for above, below, _ in os.walk(place):
                assert os.lstat(above).st_nlink == 2 + sum(not os.path.islink(f"{above}/{name}") for name in below)
        return found
    finally:
        shutil.rmtree(directory)
        image.unlink(missing_ok=True)


SPECIAL = [
    one("./", type=DIR, mode=0o1751, uid=3, gid=4),
    one("setuid", b"x" * 600, mode=0o4755, uid=1 << 31, gid=(1 << 32) - 2),
    one("h1", b"data"), one("h2", type=LINK, linkname="h1"), one("d/h3", type=LINK, linkname="h2"),
    one("link", type=SYMLINK, linkname="/etc/passwd", uid=5), one("link2", type=LINK, linkname="link"),
    one("long", type=SYMLINK, linkname="x/" * 2000), one("middle", type=SYMLINK, linkname="y/" * 220),
    one("null", type=CHAR, devmajor=1, devminor=3), one("disk", type=tarfile.BLKTYPE, devmajor=259, devminor=70000),
    one("fifo", type=FIFO, mode=0o622), one("n" * 255, b"1"), one("!before dot", b"2"), one("-", b""),
    one("empty"), one("ä\nß", b"3"), one("block", b"4" * 512), one("page", b"5" * 4096),
    one("large", bytes(range(256)) * 400),
    one("old", mtime=-5), one("late", pax_headers={"mtime": "4294967299.123456789"}),
    one("cap", b"6", pax_headers={"SCHILY.xattr.security.capability": "\1\0\0\2\0\4" + "\0" * 14}),
    one("notes", b"7", pax_headers={f"SCHILY.xattr.user.{number}": "v" * number * 7 for number in range(1, 20)}),
    one("s", type=SYMLINK, linkname="t" * 300, pax_headers={"SCHILY.xattr.trusted.note": "w" * 100}),
    one(".wh.gone"), one("o/.wh..wh..opq"), one("o/new"), one("d/.wh.also"), one(".wh.h1"), one("made/up/parents"),
]  # fmt: skip


def test_all_that_a_layer_can_hold(tmp_path: Path) -> None:
    found = both(tmp_path, tar_of(*SPECIAL))
    assert found
    assert found["d/h3"][7] == found["h2"][7] == "h1" or found["d/h3"][7] == found["h1"][7]
    assert found["old"][3] == -5 * 10**9
    assert found["late"][3] == 4_294_967_299_123_456_789


def test_the_same_archive_gives_the_same_bytes(tmp_path: Path) -> None:
    archive = tar_of(*SPECIAL)
    for name, size in (("a", 100_000), ("b", 777)):
        written(tmp_path / name, archive, size)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(MEMBERS, min_size=2, max_size=8))
def test_both_formats_come_to_the_same_tree(tmp_path: Path, members: list[Member]) -> None:
    both(tmp_path, tar_of(*members))


@pytest.mark.parametrize("form", ["gnu", "posix", "oldgnu"])
def test_sparse_files(tmp_path: Path, form: str) -> None:
    source = tmp_path / "source"
    source.mkdir()
    chooser = random.Random(1)
    for number in range(6):
        with open(source / str(number), "wb") as file:
            for _ in range(number * 3):
                file.seek(chooser.randrange(1 << 22))
                file.write(b"data" * chooser.randrange(1, 3000))
            file.truncate(chooser.randrange(1 << 22, 1 << 23))
    with open(source / "huge", "wb") as file:
        file.seek(5 << 30)
        file.write(b"end")
        file.truncate(300 << 30)
    archive = tmp_path / "t.tar"
    subprocess.run(["tar", "-C", str(source), "--sparse", f"--format={form}", "-cf", str(archive), "."], check=True)
    assert archive.stat().st_size < 4 << 20
    written(tmp_path / "image", archive.read_bytes())
    assert (tmp_path / "image").stat().st_blocks * 512 < 64 << 20
    with mounted(tmp_path / "image") as place:
        for path in source.iterdir():
            if path.name != "huge":
                assert (place / path.name).read_bytes() == path.read_bytes()
        there = place / "huge"
        assert there.stat().st_size == 300 << 30
        with open(there, "rb") as file:
            assert file.read(10) == bytes(10)
            for offset, expected in ((5 << 30, b"end\0"), ((5 << 30) - 2, b"\0\0en"), ((300 << 30) - 4, bytes(4))):
                file.seek(offset)
                assert file.read(4) == expected


def test_a_hundred_thousand_names_in_one_directory(tmp_path: Path) -> None:
    digests = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(100_000)]
    names = [f"d/{digest[: 1 + number % 60]}-{number}" for number, digest in enumerate(digests)]
    written(tmp_path / "image", b"".join(tarfile.TarInfo(name).tobuf() for name in names))
    with mounted(tmp_path / "image") as place:
        assert sorted(os.listdir(place / "d")) == sorted(name[2:] for name in names)
        for name in random.Random(2).sample(names, 500):
            assert stat.S_ISREG(os.lstat(place / name).st_mode)
        assert not (place / "d/missing").exists()


def test_debian_is_what_gnu_tar_makes_of_it(tmp_path: Path, limited: Callable[[str, str], None]) -> None:
    layout = cached_layout(f"debian-bookworm-{DEBIAN_PACKAGES}", _debian_tar, {})
    blob = max((layout / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    archive = subprocess.run(["zcat", str(blob)], capture_output=True, check=True).stdout
    written(tmp_path / "image", archive, 1 << 20)
    (tmp_path / "tar").mkdir()
    limited(str(tmp_path / "tar"), "512m")
    options = ["--xattrs", "--xattrs-include=*", "--numeric-owner", "-p"]
    subprocess.run(["tar", "-C", str(tmp_path / "tar"), *options, "-x"], input=archive, check=True)
    with mounted(tmp_path / "image") as place:
        found, wanted = tree(place), tree(tmp_path / "tar")
        assert {name: facts[:-1] for name, facts in found.items()} == {
            name: facts[:-1] for name, facts in wanted.items()
        }


def test_overlayfs_stacks_both_formats(tmp_path: Path) -> None:
    lower = tmp_path / "lower"
    lower.mkdir()
    members = [one("gone", b"1"), one("o/old", b"1"), one("kept", b"1"), one("file", b"old"), one("d/old", b"1")]
    apply_layer(chunks(tar_of(*members)), str(lower))
    above = [one(".wh.gone"), one("o/.wh..wh..opq"), one("o/new", b"2"), one("file", b"new"), one("d/new", b"2")]
    written(tmp_path / "image", tar_of(*above))
    merged, upper, work = (tmp_path / name for name in ("merged", "upper", "work"))
    for directory in (merged, upper, work):
        directory.mkdir()
    with mounted(tmp_path / "image") as place:
        mount("overlay", str(merged), "overlay", 0, f"lowerdir={place}:{lower},upperdir={upper},workdir={work}")
        try:
            found = sorted(str(path.relative_to(merged)) for path in merged.rglob("*") if path.is_file())
            assert found == ["d/new", "d/old", "file", "kept", "o/new"]
            assert (merged / "file").read_bytes() == b"new"
            (merged / "file").write_bytes(b"changed")
            os.rename(merged / "kept", merged / "d/kept")
            assert (merged / "d/kept").read_bytes() == b"1"
        finally:
            umount(str(merged), MNT_DETACH)


@pytest.mark.parametrize("block", [4096, 512])
def test_fsck_finds_nothing(tmp_path: Path, block: int) -> None:
    """Debian's fsck.erofs knows blocks of 4096 bytes only: an archive whose files begin at such is good for both."""
    if not shutil.which("fsck.erofs"):
        pytest.skip("fsck.erofs is missing: apt install erofs-utils")
    from nanocontainer.image import erofs_layer

    image = tmp_path / "image"
    erofs_layer.write_layer(chunks(aligned(SPECIAL)), str(image), "1" * 64, block=block)
    done = subprocess.run(["fsck.erofs", str(image)], capture_output=True, text=True)
    if block == 512 and "blksize 512 isn't supported" in done.stdout + done.stderr:
        pytest.skip("this fsck.erofs knows blocks of 4096 bytes only")
    assert done.returncode == 0, done
    shown = subprocess.run(["dump.erofs", "--path=/d/h3", str(image)], capture_output=True, text=True, check=True)
    assert "Links: 3" in shown.stdout
    with mounted(image) as place:
        found = tree(place)
    with_usual = tmp_path / "usual"
    written(with_usual, tar_of(*SPECIAL))
    with mounted(with_usual) as place:
        assert tree(place) == found


def aligned(members: list[Member]) -> bytes:
    """An archive in which the data of every file begin at a multiple of 4096 bytes: comments fill the gaps."""
    archive = b""
    for info, data in members:
        entry = info.tobuf(tarfile.PAX_FORMAT) + data + bytes(-len(data) % 512)
        headers = len(entry) - len(data) - -len(data) % 512
        gap = -(len(archive) + headers) % 4096
        if gap:
            filler = tarfile.TarInfo("filler")
            filler.type, filler.size = tarfile.XGLTYPE, max(gap - 512, 0)
            archive += filler.tobuf() + bytes(filler.size)
        archive += entry
    return archive + bytes(1024)


def test_a_full_disk_is_told_in_words(tmp_path: Path, limited: Callable[[str, str], None]) -> None:
    limited(str(tmp_path), "1m")
    with pytest.raises(NanoError) as told:
        written(tmp_path / "image", tar_of(one("big", b"1" * (2 << 20))))
    assert "No space left" in told.value.why and "df -h" in told.value.hint


def test_a_bomb_of_zeros_takes_no_space(tmp_path: Path) -> None:
    head = tarfile.TarInfo("big")
    head.size = 1 << 30
    zeros = bytes(1 << 20)

    def archive() -> Iterator[bytes]:
        yield head.tobuf()
        for _ in range(1 << 10):
            yield zeros

    assert write_layer(archive(), str(tmp_path / "image"), "2" * 64) == 1 << 30
    assert (tmp_path / "image").stat().st_blocks * 512 < 1 << 20


def test_damage_is_found(tmp_path: Path) -> None:
    archive = tar_of(*SPECIAL)
    diff_id = f"sha256:{hashlib.sha256(archive).hexdigest()}"
    image = tmp_path / "image"
    written(image, archive)
    verify_layer(str(image), diff_id)
    good = image.read_bytes()
    for at in (1024 + 20, 4096 + 700, len(good) - 5000):
        image.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        with pytest.raises(Corrupt):
            verify_layer(str(image), diff_id)
    image.write_bytes(good[:-512])
    assert "should have" in shortened(str(image))
    with pytest.raises(Corrupt):
        verify_layer(str(image), diff_id)
    assert os.listdir(tmp_path) == ["image"]


# --- in the engine


def layers_of(nano: Nano) -> list[Path]:
    return sorted(Path(nano.root, "images", "layers").glob("*"))


def mounts_of(nano: Nano) -> list[str]:
    """The places of mounted layers."""
    table = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line.split()[4] for line in table if line.split()[4].startswith(f"{nano.runroot}/layers/")]


NONE = ("run", "--rm", "--network", "none")


def test_a_layer_is_mounted_once_and_goes_with_its_image(another_nano: Callable[[], Nano]) -> None:
    nano = another_nano()
    nano("pull", "tiny")
    assert [path.suffix for path in layers_of(nano)] == [".erofs", ".json", ".lock"]
    assert mounts_of(nano) == []
    running = [nano.popen(*NONE, "tiny", "true") for _ in range(6)]  # all at once
    assert [process.wait(30) for process in running] == [0] * 6
    (place,) = mounts_of(nano)
    nano("run", "-d", "--name", "web", "--network", "none", "tiny", "sleep", "1000")
    assert mounts_of(nano) == [place]
    assert nano("rmi", "-f", "tiny").code == 0  # it only loses its name: a container has it
    assert nano("exec", "web", "echo", "here").out == "here\n"
    nano("rm", "-f", "web")
    nano("image", "prune", "-f")
    assert mounts_of(nano) == []
    assert layers_of(nano) == []
    assert os.listdir(f"{nano.runroot}/layers") == []


def test_convert(another_nano: Callable[[], Nano]) -> None:
    nano = another_nano()
    nano("run", "-d", "--name", "web", "--network", "none", "tiny", "sleep", "1000")
    (image, *_) = layers_of(nano)
    before = image.read_bytes()
    nano("system", "convert", "--to", "directory")
    directory = image.with_suffix("")
    assert directory.is_dir() and not image.exists() and mounts_of(nano) == []
    assert nano("exec", "web", "cat", "/etc/os-release").code == 0  # beside a container that has the image mounted
    refused = nano("system", "convert", check=False)
    assert refused.code == 1 and "container web runs on it" in refused.err
    assert directory.is_dir()
    nano("rm", "-f", "web")
    assert "Converted 1 layer" in nano("system", "convert").out
    assert image.read_bytes() == before and not directory.exists()
    assert "all of them are so already" in nano("system", "convert", "tiny").out
    assert nano(*NONE, "tiny", "echo", "hi").out == "hi\n"
    assert nano("system", "convert", "--to", "zfs", check=False).code != 0
    both = directory.with_suffix(".erofs")
    shutil.copytree(mounts_of(nano)[0], directory, symlinks=True)  # as who was killed leaves it
    assert both.exists() and nano(*NONE, "tiny", "echo", "hi").out == "hi\n"
    assert "Converted 1 layer" in nano("system", "convert").out
    assert not directory.exists()


def test_a_layer_that_is_damaged_or_gone_is_told(another_nano: Callable[[], Nano]) -> None:
    nano = another_nano()
    nano("pull", "tiny")
    image = next(path for path in layers_of(nano) if path.suffix == ".erofs")
    data = image.read_bytes()
    image.write_bytes(bytes(len(data)))
    told = nano(*NONE, "tiny", "true", check=False)
    assert told.code == 125 and "Traceback" not in told.err and "damaged" in told.err
    image.unlink()
    told = nano(*NONE, "tiny", "true", check=False)
    assert told.code == 125 and "is missing" in told.err
