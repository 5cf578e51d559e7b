"""The tar writer: what it writes, this module's reader, Python's tarfile and GNU tar read in the same way."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as some

from nanocontainer.image import tar, tarwrite
from nanocontainer.image.layertar import tar_of

NAMES = some.lists(
    some.binary(min_size=1, max_size=120).filter(lambda part: not {0, 47} & set(part) and part not in (b".", b"..")),
    min_size=1, max_size=4,
).map(b"/".join)  # fmt: skip
TIMES = some.integers(-(1 << 62), 1 << 62) | some.integers(0, 4_000_000_000).map(lambda seconds: seconds * 10**9)
IDS = some.integers(0, (1 << 32) - 2)
XATTRS = some.dictionaries(
    some.sampled_from([b"user.a", b"security.capability", b"user.long.name"]), some.binary(max_size=40), max_size=3
)


@given(
    name=NAMES, link=NAMES, mtime=TIMES, uid=IDS, gid=IDS, mode=some.integers(0, 0o7777), xattrs=XATTRS,
    data=some.binary(max_size=1500),
    kind=some.sampled_from([tar.FILE, tar.LINK, tar.SYMLINK, tar.CHAR, tar.BLOCK_DEVICE, tar.DIRECTORY, tar.FIFO]),
)  # fmt: skip
@settings(max_examples=400, deadline=None)
def test_what_is_written_is_read(  # type: ignore[no-untyped-def]
    name, link, mtime, uid, gid, mode, xattrs, data, kind
) -> None:
    one = tarwrite.entry(name, kind, size=len(data) if kind == tar.FILE else 0, mode=mode, mtime=mtime)
    one.uid, one.gid, one.xattrs = uid, gid, xattrs
    if kind in (tar.LINK, tar.SYMLINK):
        one.link = link
    if kind in (tar.CHAR, tar.BLOCK_DEVICE):
        one.major, one.minor = 4095, (1 << 20) - 1
    archive = tarwrite.header(one)
    if kind == tar.FILE:
        archive += data + tarwrite.padding(len(data))
    archive += tarwrite.END
    assert len(archive) % 512 == 0

    reader = tar.TarReader(tar.Source([archive]))
    (entry,) = iter_with_data(reader, data if kind == tar.FILE else b"")
    slash = b"/" if kind == tar.DIRECTORY else b""
    for field in ("kind", "link", "mode", "uid", "gid", "mtime", "size", "major", "minor"):
        assert getattr(entry, field) == getattr(one, field), field
    assert entry.name == name + slash
    assert (entry.xattrs or {}) == xattrs

    with tarfile.open(fileobj=io.BytesIO(archive), encoding="utf-8", errors="surrogateescape") as theirs:
        (info,) = theirs.getmembers()
        assert os.fsencode(info.name) == name
        assert (info.mode, info.uid, info.gid, info.size) == (mode, uid, gid, one.size)
        assert os.fsencode(info.linkname) == one.link
        if kind == tar.FILE:
            extracted = theirs.extractfile(info)
            assert extracted and extracted.read() == data


def iter_with_data(reader: tar.TarReader, data: bytes) -> list[tar.Entry]:
    found = []
    for entry in reader:
        assert bytes(reader.small()) == data
        found.append(entry)
    return found


def test_sizes_that_ustar_cannot_hold() -> None:
    one = tarwrite.entry(b"big", size=1 << 40)
    entry = next(iter(tar.TarReader(tar.Source([tarwrite.header(one)]))))
    assert entry.size == 1 << 40
    info = tarfile.TarFile.open(fileobj=io.BytesIO(tarwrite.header(one) + bytes(1024)), mode="r|").next()
    assert info and info.size == 1 << 40


def make_tree(top: Path) -> None:
    (top / "b" / "deep").mkdir(parents=True)
    (top / "b" / "file").write_bytes(b"x" * 700)
    os.link(top / "b" / "file", top / "a-link")
    (top / "c").symlink_to("b/file")
    (top / ("long" * 60)).write_text("1")
    (top / os.fsdecode(b"\xff\xfe")).write_text("2")
    (top / os.fsdecode(b"\xff" + b"l" * 200)).write_text("3")
    (top / "empty").touch()
    (top / "sparse").write_bytes(b"")
    os.truncate(top / "sparse", 100_000)
    os.mkfifo(top / "fifo")
    for path in sorted(top.rglob("*"), reverse=True):
        os.utime(path, ns=(0, 1_234_567_890_123_456_789), follow_symlinks=False)


def test_a_tree_is_what_gnu_tar_unpacks(tmp_path: Path) -> None:
    top, copy = tmp_path / "top", tmp_path / "copy"
    make_tree(top)
    archive = b"".join(tar_of(str(top)))
    assert archive == b"".join(tar_of(str(top)))  # twice the same
    copy.mkdir()
    env = {**os.environ, "LC_ALL": "C"}
    unpack = ["tar", "-xpf", "-", "-C", str(copy)]
    done = subprocess.run(unpack, input=archive, capture_output=True, env=env, check=True)
    assert b"rror" not in done.stderr
    assert b"".join(tar_of(str(copy))) == archive  # a full comparison: names, kinds, links, modes, times, contents
    with tarfile.open(fileobj=io.BytesIO(archive)) as theirs:
        names = theirs.getnames()
    assert names == sorted(names, key=lambda name: os.fsencode(name).split(b"/"))


def test_left_out_and_not_newer(tmp_path: Path) -> None:
    make_tree(tmp_path / "top")
    archive = b"".join(tar_of(str(tmp_path / "top"), newest=10**18, skip=lambda name: name == b"b"))
    with tarfile.open(fileobj=io.BytesIO(archive)) as theirs:
        assert "b/file" not in theirs.getnames() and "a-link" in theirs.getnames()
        assert {info.mtime for info in theirs} == {10**9}
