"""A layer as one file that the kernel mounts: the tar archive as it came, with an EROFS index of it (erofs.py).

Unpacking thousands of files is nearly the whole cost of a pull on a usual file system; writing one file is not. What is
written is the archive itself, chunk by chunk as it comes, while its headers are read from the same chunks. The index
follows when the archive has ended. So memory holds the tree of names and never a file's content.

The archive can be had back, byte for byte: its digest is the layer's name, so a layer can be verified, be changed into
a directory, and be saved or pushed as what it was.
"""

from __future__ import annotations

import os

from ..errors import HINTS, Corrupt, NanoError
from .erofs import BLOCK, DATA, MAGIC, SUPER, Image
from .streams import digested
from .tar import Source, TarReader
from .tree import Tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_TITLE = "A layer of a container image: EROFS, mount it with: mount -t erofs -o ro FILE DIRECTORY\n"
_WHERE = "The tar archive it was made of: {} bytes from byte 4096 on.\n"
_READ = 1 << 20
_ZEROS = bytes(4096)


def write_layer(chunks: Iterable[bytes], path: str, diff_id: str, *, block: int = BLOCK) -> int:
    """Write a tar stream as an image to a new file, and read the stream to its end.

    Returns the bytes of all regular files. The file is on the disk when this returns (fsync(2)). Corrupt names the
    entry that is broken; NanoError for a full disk. What was written so far is for the caller to delete. block: of the
    image, in bytes; more than 512 fits only archives in which every file begins at a multiple of it.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.lseek(fd, DATA, os.SEEK_SET)
        source = Source(_written(chunks, fd))
        archive, tree = TarReader(source), Tree()
        for entry in archive:
            tree.add(entry, source.position)
        source.drain()
        size = source.position
        os.ftruncate(fd, DATA + size + -size % BLOCK)
        image = Image(fd, DATA + size, tree.root, _uuid(diff_id), block)
        image.write()
        os.pwrite(fd, (_TITLE + _WHERE.format(size)).encode(), 0)
        os.fsync(fd)
        return image.size
    except OSError as error:
        hint = HINTS.get(error.errno or 0, "")
        raise NanoError("cannot write the layer", error.strerror or str(error), hint) from None
    finally:
        os.close(fd)


def tar_chunks(path: str) -> Iterator[bytes]:
    """The tar archive that an image was made of. Corrupt where that is no image of ours, or a shortened one."""
    with open(path, "rb", buffering=0) as file:
        left = tar_size(file.read(2048), path)
        file.seek(DATA)
        while left:
            chunk = file.read(min(left, _READ))
            if not chunk:
                raise Corrupt(f"{path} is damaged", f"it ends {left} bytes too early")
            left -= len(chunk)
            yield chunk


def verify_layer(path: str, diff_id: str) -> None:
    """Corrupt where an image's archive is not what the diff id says, or where the rest is not what follows from it: it
    is made once more, in a file without a name beside it, and compared. OSError."""
    chunks = digested(tar_chunks(path), diff_id, f"the archive in {path}")
    source = Source(chunks)
    archive, tree = TarReader(source), Tree()
    for entry in archive:
        tree.add(entry, source.position)
    source.drain()
    end = DATA + source.position
    with open(path, "rb") as there, open(os.open(os.path.dirname(path), os.O_TMPFILE | os.O_RDWR), "r+b") as anew:
        anew.truncate(end + -end % BLOCK)
        Image(anew.fileno(), end, tree.root, _uuid(diff_id), source=there.fileno()).write()
        anew.seek(SUPER)
        there.seek(SUPER)
        sound = anew.read(DATA - SUPER) == there.read(DATA - SUPER)
        there.seek(end)
        anew.seek(end)
        while sound and (wanted := anew.read(_READ)):
            sound = there.read(len(wanted)) == wanted
        if not sound or there.read(1):
            raise Corrupt(f"{path} is damaged", "its index is not that of its archive", "remove the image, and pull it")


def shortened(path: str) -> str:
    """What is wrong with the length of an image; empty where nothing is."""
    with open(path, "rb", buffering=0) as file:
        head = file.read(2048)
        there = os.fstat(file.fileno()).st_size
    if head[SUPER : SUPER + 4] != MAGIC:
        return f"{path} is no EROFS image"
    wanted = int.from_bytes(head[SUPER + 36 : SUPER + 40], "little") << head[SUPER + 12]
    return "" if there == wanted else f"{path} has {there} bytes, and should have {wanted}"


def tar_size(head: bytes, path: str) -> int:
    """Bytes of the archive in an image that begins so."""
    begin, _, end = _WHERE.partition("{}")
    text = head[:SUPER].split(b"\0", 1)[0].decode("ascii", "replace")
    number = text.removeprefix(_TITLE + begin).removesuffix(end)
    if head[SUPER : SUPER + 4] != MAGIC or not number.isdigit() or len(number) > 18:
        raise Corrupt(f"{path} is damaged", "it is no layer of ours", "remove the image and pull it again")
    return int(number)


def _written(chunks: Iterable[bytes], fd: int) -> Iterator[bytes]:
    """The same chunks, once they are in the file. Zeros become a hole: a small download may decompress to many."""
    for chunk in chunks:
        if chunk[:4096] == _ZEROS and chunk == bytes(len(chunk)):
            os.lseek(fd, len(chunk), os.SEEK_CUR)
        else:
            done = os.write(fd, chunk)
            while done < len(chunk):
                done += os.write(fd, memoryview(chunk)[done:])
        yield chunk


def _uuid(diff_id: str) -> bytes:
    """A UUID that follows from the content (version 8 of RFC 9562): the same archive gives the same bytes."""
    raw = bytearray(bytes.fromhex(diff_id.removeprefix("sha256:"))[:16])
    raw[6] = raw[6] & 0x0F | 0x80
    raw[8] = raw[8] & 0x3F | 0x80
    return bytes(raw)
