"""Reading a container's log: all its files, from the end, by time, and on while it is written (jsonlog.py writes it).

Our own lines have a fixed form at both ends and mostly no escapes, so that most need no JSON parser; docker's own files
are read too. Following means looking at the file's size, at most every 100 ms: inotify would tell at once, but
not on every file system. A file that was renamed by rotation stays open until it is read to its end.
"""

from __future__ import annotations

import os
import time

from ..clock import parse_time, rfc3339
from ..errors import InvalidInput, NanoError, reason
from ..lean import loads
from .jsonlog import FILE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_BLOCK = 1 << 18
_SHORTEST, _LONGEST = 0.01, 0.1  # seconds between two looks at a file that is followed


class LogLine:
    """A line of the log. time: as it stands there; stream: stdout or stderr; text: with its line end; without,
    the line goes on in the next one of the same stream, or the stream ended here."""

    __slots__ = ("stream", "text", "time")

    def __init__(self, time: str, stream: str, text: str) -> None:
        self.time, self.stream, self.text = time, stream, text

    @property
    def data(self) -> bytes:
        """The text as UTF-8."""
        return self.text.encode()

    def __repr__(self) -> str:
        return f"LogLine({self.time!r}, {self.stream!r}, {self.text!r})"


def read_logs(
    directory: str,
    *,
    tail: int = -1,
    since: int = 0,
    until: int = 0,
    follow: bool = False,
    alive: Callable[[], bool] = lambda: False,
    on_broken: Callable[[str], None] = lambda line: None,
) -> Iterator[LogLine]:
    """The lines of the log in a container's directory, over all its files, oldest first.

    tail: only so many of the last lines, -1 for all; counted before since and until are looked at, as docker does.
    since, until: nanoseconds since 1970, 0 for no bound. follow: go on with what is written, until alive() says that
    nobody writes any more and all is read; iterating waits then. on_broken: gets lines that are not of the format (a
    writer was killed, or somebody edited the file); they are left out.
    """
    first, last = rfc3339(since) if since > 0 else "", rfc3339(until) if until > 0 else "~"
    for block in _blocks(directory, tail, follow, alive):
        if not block and until and time.time_ns() > until:
            return
        for line in block.decode("utf-8", "replace").split("\n"):
            # The end of our own lines has a fixed length: "," stream ":" 12, stdout 6, "," time ":" 10, time 30, "} 2
            text = line[8:-60]
            ended = text[-2:] == "\\n"
            body = text[:-2] if ended else text
            if (
                line[-60:-48] == '","stream":"'
                and line[-42:-32] == '","time":"'
                and line[:8] == '{"log":"'
                and "\\" not in body
                and '"' not in body
            ):
                found = LogLine(line[-32:-2], line[-48:-42], body + "\n" if ended else body)
            elif not line:
                continue
            else:
                try:
                    found = _parse(line)
                except (ValueError, KeyError, TypeError, AttributeError, InvalidInput):
                    on_broken(line)
                    continue
            if found.time < first:
                continue
            if found.time > last:
                if follow:
                    return
                continue  # what comes after may be earlier: somebody has set the clock back
            yield found


def _parse(line: str) -> LogLine:
    """A line that needs a JSON parser: with escapes in it, or docker's own, whose times lack trailing zeros."""
    value = loads(line)
    when = value["time"]
    if len(when) != 30 or when[-1] != "Z":
        when = rfc3339(parse_time(when, 0))
    text: str = value["log"]
    try:
        text.encode()
    except UnicodeEncodeError:  # "\\ud800": half a surrogate pair, which is no character and cannot be written anywhere
        text = "".join("\ufffd" if "\ud800" <= letter <= "\udfff" else letter for letter in text)
    return LogLine(when, "" + value["stream"], text)


def _blocks(directory: str, tail: int, follow: bool, alive: Callable[[], bool]) -> Iterator[bytes]:
    """The log's bytes in blocks of whole lines, an empty one when there is nothing new. Half a line comes only from
    where nothing can follow it."""
    path = f"{directory}/{FILE}"
    files = _open_files(path)
    try:
        if tail >= 0:
            _seek_tail(files, tail)
        while True:
            while len(files) > 1:  # renamed ones are written no more
                yield from _whole_lines(_read(files[0]), at_end=lambda: True)
                os.close(files.pop(0))
            if not follow:
                if files:
                    # No further than now: a busy container may write faster than we read.
                    limit = os.fstat(files[0]).st_size
                    yield from _whole_lines(_read(files[0], limit), at_end=lambda: not alive())
                return
            rest = b""
            pause = _SHORTEST
            while True:
                running = alive()  # asked before reading: what was written before the answer is among what is read
                renamed = bool(files) and not _is_named(files[0], path)  # the same
                for block in _read(files[0]) if files else ():
                    pause = _SHORTEST
                    end = block.rfind(b"\n") + 1
                    if end:
                        yield rest + block[:end]
                        rest = b""
                    rest += block[end:]
                if renamed or not files:
                    newer = _open_files(path, beyond=files[0] if files else -1)
                    if newer:
                        if rest:
                            yield rest
                        for fd in files:
                            os.close(fd)
                        files = newer
                        break
                if not running:
                    if rest:
                        yield rest
                    return
                yield b""
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST)
    except OSError as error:
        raise NanoError(f"cannot read the log {path}", *reason(error)) from None
    finally:
        for fd in files:
            os.close(fd)


def _read(fd: int, limit: int = -1) -> Iterator[bytes]:
    """What is left in a file, up to the position limit where one is given."""
    size = _BLOCK
    left = limit - os.lseek(fd, 0, os.SEEK_CUR) if limit >= 0 else _BLOCK
    while left > 0 and (block := os.read(fd, min(size, left))):
        yield block
        if limit >= 0:
            left -= len(block)


def _whole_lines(blocks: Iterator[bytes], at_end: Callable[[], bool]) -> Iterator[bytes]:
    """Blocks cut at line ends; what is left behind the last one only if at_end() says that nothing can follow it."""
    rest = b""
    for block in blocks:
        end = block.rfind(b"\n") + 1
        if end:
            yield rest + block[:end]
            rest = b""
        rest += block[end:]
    if rest and at_end():
        yield rest


def _open_files(path: str, beyond: int = -1) -> list[int]:
    """The log's files, open, oldest first. beyond: only those newer than the file open there.

    A rotation may happen meanwhile. It moves files to higher numbers: so counting upwards meets every file at least
    once, and a number may be missing for a moment; two in a row where rotations follow on each other while we are kept
    from running, so the directory is asked whether there are higher ones.
    """
    last = _identity(beyond) if beyond >= 0 else None
    found: list[int] = []
    seen = set()
    index = missing = 0
    while missing < 2:
        try:
            fd = os.open(f"{path}.{index}" if index else path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            missing += 1
            if missing == 2 and _highest(path) > index:
                missing = 0
        except OSError as error:
            for fd in found:
                os.close(fd)
            raise NanoError(f"cannot read the log {path}", error.strerror or str(error)) from None
        else:
            missing = 0
            identity = _identity(fd)
            if identity == last or identity in seen:
                os.close(fd)
                if identity == last:
                    break
            else:
                seen.add(identity)
                found.append(fd)
        index += 1
    return found[::-1]


def _highest(path: str) -> int:
    """The highest number of the log's files; 0 where there is none but the first, or none."""
    directory, _, name = path.rpartition("/")
    try:
        entries = os.listdir(directory)
    except OSError:
        return 0
    numbers = (entry[len(name) + 1 :] for entry in entries if entry.startswith(f"{name}."))
    return max((int(number) for number in numbers if number.isascii() and number.isdecimal()), default=0)


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def _is_named(fd: int, path: str) -> bool:
    """Whether the open file is the one that has this name now."""
    try:
        status = os.stat(path)
    except OSError:
        return False
    return (status.st_dev, status.st_ino) == _identity(fd)


def _seek_tail(files: list[int], lines: int) -> None:
    """Position the files (oldest first) before their last lines, and close those that are too old."""
    wanted = lines + 1  # the line end before the first of them
    for index in range(len(files) - 1, -1, -1):
        end = os.fstat(files[index]).st_size
        while end > 0:
            start = max(end - _BLOCK, 0)
            block = os.pread(files[index], end - start, start)
            count = block.count(b"\n")
            if count >= wanted:
                position = len(block)
                for _ in range(wanted):
                    position = block.rfind(b"\n", 0, position)
                os.lseek(files[index], start + position + 1, os.SEEK_SET)
                for fd in files[:index]:
                    os.close(fd)
                del files[:index]
                return
            wanted -= count
            end = start
