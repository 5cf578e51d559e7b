"""Our tar reader beside the standard library's and GNU tar's writers, and before broken archives."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanocontainer.errors import Corrupt
from nanocontainer.image.erofs_layer import write_layer
from nanocontainer.image.tar import DIRECTORY, FILE, Entry, Source, TarReader, archived


def chunked(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def read(data: bytes, size: int = 1000) -> list[tuple[Entry, bytes]]:
    source = Source(chunked(data, size))
    reader = TarReader(source)
    return [(entry, b"".join(map(bytes, reader.data()))) for entry in reader]


def member(name: str, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for key, value in fields.items():
        setattr(info, key, value)
    return info


def written(members: list[tuple[tarfile.TarInfo, bytes]], form: int = tarfile.PAX_FORMAT) -> bytes:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=form) as tar:
        for info, data in members:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return output.getvalue()


NAME = st.lists(st.text("abcäß€ .-_0\n", min_size=1, max_size=90), min_size=1, max_size=4).map("/".join)
MEMBER = st.tuples(
    NAME,
    st.binary(max_size=1500),
    st.integers(0, 0o7777),
    st.integers(0, 2**31),
    st.integers(0, 2**31),
    st.integers(0, 2**33),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(MEMBER, max_size=5), st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]), st.integers(1, 3000))
def test_what_tarfile_writes(members: list[tuple[str, bytes, int, int, int, int]], form: int, size: int) -> None:
    infos = [
        (member(name, mode=mode, uid=uid, gid=gid, mtime=mtime), data) for name, data, mode, uid, gid, mtime in members
    ]
    found = read(written(infos, form), size)
    assert len(found) == len(members)
    for (entry, content), (name, data, mode, uid, gid, mtime) in zip(found, members, strict=True):
        assert os.fsdecode(entry.name) == name
        assert content == data
        assert (entry.mode, entry.uid, entry.gid, entry.mtime) == (mode, uid, gid, mtime * 10**9)
        assert (entry.kind, entry.size) == (FILE, len(data))


def test_kinds_times_and_xattrs() -> None:
    data = written(
        [
            (member("d", type=tarfile.DIRTYPE), b""),
            (member("l", type=tarfile.SYMTYPE, linkname="x" * 150), b""),
            (member("h", type=tarfile.LNKTYPE, linkname="f"), b""),
            (member("c", type=tarfile.CHRTYPE, devmajor=5, devminor=1), b""),
            (member("p", type=tarfile.FIFOTYPE), b""),
            (member("f", mtime=-1.25, pax_headers={"SCHILY.xattr.user.a": "b=c\nd"}), b"1"),
            (member("n" * 300), b"2"),
        ]
    )
    entries = [entry for entry, _ in read(data)]
    assert [entry.kind for entry in entries] == [b"5", b"2", b"1", b"3", b"6", b"0", b"0"]
    assert entries[1].link == b"x" * 150
    assert (entries[3].major, entries[3].minor) == (5, 1)
    assert entries[5].mtime == -1_250_000_000
    assert entries[5].xattrs == {b"user.a": b"b=c\nd"}
    assert entries[6].name == b"n" * 300


def test_old_archives_know_directories_by_their_slash() -> None:
    assert read(written([(member("old/"), b"")], tarfile.USTAR_FORMAT))[0][0].kind == DIRECTORY


def test_data_nobody_reads_is_skipped() -> None:
    reader = TarReader(Source(chunked(written([(member("a"), b"x" * 5000), (member("b"), b"y")]), 700)))
    assert [entry.name for entry in reader] == [b"a", b"b"]


def test_no_end_mark_and_an_empty_stream() -> None:
    data = written([(member("a"), b"x")])
    assert len(read(data[:1024])) == 1
    assert read(b"") == []
    assert read(bytes(10240)) == []


@pytest.mark.parametrize(
    "form", ["gnu", "posix --sparse-version=0.0", "posix --sparse-version=0.1", "posix --sparse-version=1.0"]
)
def test_sparse_files_of_gnu_tar(tmp_path: Path, form: str) -> None:
    holes = [(0, b"begin"), (1 << 20, b"middle" * 1000), (50 << 20, b"end")]
    # more pieces than one header has room for
    holes += [((100 + number) << 20, bytes([number + 1]) * 4096) for number in range(60)]
    with open(tmp_path / "sparse", "wb") as file:
        for offset, data in holes:
            file.seek(offset)
            file.write(data)
        file.truncate(200 << 20)
    (tmp_path / "after").write_bytes(b"plain")
    command = [
        "tar",
        "-C",
        str(tmp_path),
        "--sparse",
        *f"--format={form}".split(),
        "-cf",
        str(tmp_path / "t.tar"),
        "sparse",
        "after",
    ]
    subprocess.run(command, check=True)
    found = read((tmp_path / "t.tar").read_bytes(), 100_000)
    entry, data = found[0]
    assert (entry.name, entry.size) == (b"sparse", 200 << 20)
    assert entry.sparse is not None
    content: dict[int, int] = {}
    at = 0
    for offset, length in entry.sparse:
        for place in range(length):
            if data[at + place]:
                content[offset + place] = data[at + place]
        at += length
    wanted = {offset + place: byte for offset, data in holes for place, byte in enumerate(data)}
    assert content == wanted
    assert found[1][1] == b"plain"


def broken(data: bytes) -> str:
    with pytest.raises(Corrupt) as told:
        read(data)
    return told.value.why


def test_broken_archives() -> None:
    data = written([(member("a"), b"x" * 2000)])
    assert "too early" in broken(data[:1500])
    assert "too early" in broken(data[:100])
    assert "checksum" in broken(b"x" + data[1:])
    assert "checksum" in broken(b"hello world\n" * 100)
    assert "unknown type" in broken(written([(member("a", type=b"Z"), b"")]))


def with_header(pax: bytes) -> bytes:
    return written([(member("pax", type=b"x"), pax), (member("a"), b"data")], tarfile.USTAR_FORMAT)


@pytest.mark.parametrize(
    "pax",
    [
        b"5 a=b",
        b"x path=a\n",
        b"999 path=a\n",
        b"11 path=a\n",
        b"0 path=a\n",
        b"10 nothing\n",
        b"11 size=-12\n",
        b"11 uid=abcd\n",
        b"14 mtime=1e10\n",
        b"12 mtime=-\n",
        b"28 size=9999999999999999999\n",
        b"10 path=\0\n\n",
        b"19 uid=99999999999\n",
        b"11 path=x\0y\n",
        b"30 GNU.sparse.major=1\n12 GNU.s\n",
        b"22 GNU.sparse.major=1\n28 GNU.sparse.realsize=1000\n",
    ],
)
def test_broken_pax_headers(pax: bytes) -> None:
    broken(with_header(pax))


def test_limits() -> None:
    assert "extended header" in broken(with_header(b"x" * ((1 << 20) + 1)))


@pytest.mark.parametrize(
    "size", [b"777777777777", b"\x80" + b"\0" * 3 + b"\xff" * 8, b"\xff" * 12, b"12x4\0\0\0\0\0\0\0\0"]
)
def test_sizes_that_cannot_be(size: bytes) -> None:
    header = bytearray(written([(member("a"), b"")])[:512])
    header[124:136] = size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    broken(bytes(header))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 2000), st.integers(1, 700))
def test_damage_is_corrupt_or_harmless(damage: bytes, where: int, size: int) -> None:
    data = bytearray(
        written(
            [
                (member("a", pax_headers={"SCHILY.xattr.user.a": "b", "mtime": "1.5"}), b"x" * 600),
                (member("n" * 200), b""),
            ]
        )
    )
    data[where : where + len(damage)] = damage
    try:
        read(bytes(data), size)
    except Corrupt:
        pass


def test_what_is_no_archive_is_told_before_it_is_kept() -> None:
    def endless(chunk: bytes) -> Iterator[bytes]:
        for _ in range(3):
            yield chunk
        pytest.fail("it was read on")

    for chunk in (b"y\n" * 50_000, bytes(100_000)):
        with pytest.raises(Corrupt):
            list(archived(endless(chunk)))
    for whole in ([], [b"short"], [bytes(100), bytes(924)], [bytes(10240)]):
        assert list(archived(whole)) == [b"".join(whole)] * bool(whole)


def test_many_huge_sparse_files_do_not_fill_memory(tmp_path: Path) -> None:
    header = bytearray(tarfile.TarInfo("s").tobuf(tarfile.GNU_FORMAT))
    header[156:157], header[386:410] = b"S", b"%011o\0" % 0 * 2
    header[483:495] = b"\x80" + (1 << 40).to_bytes(11, "big")
    archive = b"".join(_renamed(bytes(header), number) for number in range(1000)) + bytes(1024)
    write_layer([archive], str(tmp_path / "image"), f"sha256:{'0' * 64}")
    assert os.stat(tmp_path / "image").st_blocks * 512 < 32 << 20


def _renamed(header: bytes, number: int) -> bytes:
    new = bytearray(header)
    new[:5], new[148:156] = b"f%04d" % number, b" " * 8
    new[148:156] = b"%06o\0 " % sum(new)
    return bytes(new)
