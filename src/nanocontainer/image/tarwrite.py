"""Writing tar archives, byte for byte the same for the same content.

One form for everything: a ustar header (POSIX.1-2017, pax), and before it, where it cannot hold a value exactly, a pax
header with the full one: names of more than 100 bytes, sizes from 8 GiB, owners from 2097152, times before 1970 or with
a fraction, extended attributes (SCHILY.xattr.*, as GNU tar, bsdtar and Go write them). Names are bytes; a pax header
that is no UTF-8 says so (hdrcharset=BINARY). User and group names are left out: they mean something else elsewhere.
"""

from __future__ import annotations

from .tar import BLOCK, BLOCK_DEVICE, CHAR, DIRECTORY, FILE, Entry

END = bytes(2 * BLOCK)
_NAME = 100  # bytes of a name in a ustar header
_SIZE, _TIME, _ID = 1 << 33, 1 << 33, 1 << 21  # the first number that 11 octal digits, or 7, cannot hold
_SECOND = 1_000_000_000


def entry(name: bytes, kind: bytes = FILE, *, size: int = 0, mode: int = 0o644, mtime: int = 0) -> Entry:
    """An entry owned by root. mtime: nanoseconds."""
    made = Entry()
    made.name, made.link, made.kind, made.mode = name, b"", kind, mode
    made.uid = made.gid = made.major = made.minor = 0
    made.mtime, made.size, made.stored = mtime, size, size
    made.xattrs = made.sparse = None
    return made


def header(one: Entry) -> bytes:
    """All that stands before the data of an entry: whole blocks. The name of a directory gets its slash."""
    name = one.name + b"/" if one.kind == DIRECTORY and not one.name.endswith(b"/") else one.name
    size = one.size if one.kind == FILE else 0
    records: dict[bytes, bytes] = {}
    if len(name) > _NAME:
        records[b"path"] = name
    if len(one.link) > _NAME:
        records[b"linkpath"] = one.link
    for key, number, limit in ((b"size", size, _SIZE), (b"uid", one.uid, _ID), (b"gid", one.gid, _ID)):
        if number >= limit:
            records[key] = b"%d" % number
    if one.mtime % _SECOND or not 0 <= one.mtime < _TIME * _SECOND:
        records[b"mtime"] = _seconds(one.mtime)
    for key, value in (one.xattrs or {}).items():
        records[b"SCHILY.xattr." + key] = value
    before = b""
    if records:
        if not all(map(_is_text, (records.get(b"path", b""), records.get(b"linkpath", b"")))):
            records = {b"hdrcharset": b"BINARY", **records}
        payload = b"".join(
            _record(key, records[key]) for key in sorted(records, key=lambda key: (key != b"hdrcharset", key))
        )
        about = entry(b"PaxHeaders.0/" + name.rstrip(b"/").rpartition(b"/")[2][:80], size=len(payload))
        before = _ustar(about, about.name, b"x", len(payload)) + payload + padding(len(payload))
    return before + _ustar(one, name, one.kind, size)


def padding(size: int) -> bytes:
    """What fills the last block of that many bytes of data."""
    return bytes(-size % BLOCK)


def _ustar(one: Entry, name: bytes, kind: bytes, size: int) -> bytes:
    device = one.kind in (CHAR, BLOCK_DEVICE)
    seconds = one.mtime // _SECOND
    fields = (
        name[:_NAME].ljust(_NAME, b"\0"),
        b"%07o\0" % (one.mode & 0o7777),
        b"%07o\0" % (one.uid if one.uid < _ID else 0),
        b"%07o\0" % (one.gid if one.gid < _ID else 0),
        b"%011o\0" % (size if size < _SIZE else 0),
        b"%011o\0" % (seconds if 0 <= seconds < _TIME else 0),
        b" " * 8,
        kind,
        one.link[:_NAME].ljust(_NAME, b"\0"),
        b"ustar\00000",
        bytes(64),
        b"%07o\0%07o\0" % ((one.major, one.minor) if device else (0, 0)),
    )
    block = bytearray(b"".join(fields).ljust(BLOCK, b"\0"))
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def _record(key: bytes, value: bytes) -> bytes:
    """`LENGTH KEY=VALUE\\n`, where LENGTH counts its own digits too."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    if rest + len(str(length)) != length:
        length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def _seconds(mtime: int) -> bytes:
    whole, part = divmod(abs(mtime), _SECOND)
    text = f"{'-' if mtime < 0 else ''}{whole}"
    return f"{text}.{part:09d}".rstrip("0").encode() if part else text.encode()


def _is_text(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True
