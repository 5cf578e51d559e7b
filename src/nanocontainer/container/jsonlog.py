"""Writing a container's log, in docker's json-file format, so that docker's tools read it too (logs.py reads it).

    {"log":"text\\n","stream":"stdout","time":"2006-01-02T15:04:05.000000000Z"}

One such line for each line of output. A line of 16 KiB and more is cut into pieces that lack the "\\n", and so does
what a stream ends with when that is not a line's end. What is not UTF-8 becomes U+FFFD. The file log.json
is renamed to log.json.1, log.json.2 and so on before it would exceed max-size; max-file counts them all.

A full disk must not stop a container: what cannot be written is dropped and counted, and when there is space again the
log itself says so, in a line of stream stderr: "[nanocontainer: 12 log lines lost: No space left on device]".

Writing is done in batches: a block of output is escaped as a whole, cut at its line ends, and leaves in one write(2).
"""

from __future__ import annotations

import os
import time

from ..clock import SECOND, rfc3339, rfc3339_seconds
from ..errors import InvalidInput, NanoError, reason
from ..lean import dumps

FILE = "log.json"
MAX_SIZE, MAX_FILE = 10 << 20, 3

# O_NONBLOCK: should something else be there, a fifo say, it must not stop the container
_OPEN = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC
_PIECE = 16384  # docker's: most bytes of a line that are written as one
_TEXT = 4  # most kinds of control characters that text has: tab, carriage return, escape...
_BATCH = 1024  # most lines that are formatted at once: bounds the memory for blocks of empty lines
_ESCAPES = {ord("\b"): "\\b", ord("\t"): "\\t", ord("\f"): "\\f", ord("\r"): "\\r"}
_HARMLESS = bytes(range(0x20, 0x100)) + b"\n"
_SIZES = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def log_options(driver: str, options: dict[str, str]) -> tuple[int, int]:
    """(max_size in bytes or -1, max_file) of --log-driver and --log-opt. InvalidInput for what we do not have."""
    if driver not in ("json-file", "none"):
        raise InvalidInput(f"invalid log driver {driver!r}", "it is not known", "use json-file or none")
    for name in options:
        if driver == "none" or name not in ("max-size", "max-file"):
            raise InvalidInput(
                f"invalid log option {name!r}", f"log driver {driver} does not have it", "json-file: max-size, max-file"
            )
    size, count = options.get("max-size", ""), options.get("max-file", "")
    max_size, max_file = MAX_SIZE, MAX_FILE
    if size:
        digits = size.rstrip("bkmgBKMG")
        unit = size[len(digits) :].lower()
        unit = unit[:-1] if len(unit) == 2 and unit[1] == "b" else unit
        if size == "-1":
            max_size = -1
        elif digits.isascii() and digits.isdigit() and int(digits) > 0 and unit in _SIZES:
            max_size = int(digits) * _SIZES[unit]
        else:
            raise InvalidInput(f"invalid log option max-size={size}", "it must be a size like 10m, or -1 for no limit")
    if count:
        if not (count.isascii() and count.isdigit() and 1 <= int(count) <= 1000):
            raise InvalidInput(f"invalid log option max-file={count}", "it must be a number from 1 to 1000")
        max_file = int(count)
    return max_size, max_file


def open_log(directory: str, driver: str, options: dict[str, str], fd: int = -1) -> JsonLog | None:
    """The log of a container whose lasting directory is given; None for the driver none. fd: it is open there."""
    max_size, max_file = log_options(driver, options)
    return None if driver == "none" else JsonLog(directory, max_size=max_size, max_file=max_file, fd=fd)


class JsonLog:
    """The writer. One process has it; after a restart of the container it goes on where the last one ended.

    lost: how many lines could not be written and are not yet reported in the log.
    """

    def __init__(self, directory: str, *, max_size: int = MAX_SIZE, max_file: int = MAX_FILE, fd: int = -1) -> None:
        """max_size: bytes of one file, -1 for no limit; max_file: how many. NanoError when it cannot be opened. fd: go
        on with this open file, which works on where the file system has become read-only."""
        self.path = f"{directory}/{FILE}"
        self.max_size, self.max_file = max_size, max_file
        self.lost = 0
        self._why = ""
        self._rest = {"stdout": b"", "stderr": b""}  # what came after a stream's last line end
        try:
            self._fd = fd if fd >= 0 else os.open(self.path, _OPEN, 0o600)
            self._size = os.fstat(self._fd).st_size
            # A writer that was killed may have left half a line: it must not spoil ours.
            self._torn = self._size > 0 and os.pread(self._fd, 1, self._size - 1) != b"\n"
        except OSError as error:
            raise NanoError("cannot open the log", *reason(error)) from None

    def fileno(self) -> int:
        return self._fd

    @property
    def at_rest(self) -> bool:
        """Whether all that was given to us is in the file: then another process may go on writing it."""
        return not self.lost and not any(self._rest.values())

    def write(self, stream: str, data: bytes) -> None:
        """Output of a stream ("stdout" or "stderr"), as it came. Never fails; see the module's text."""
        if rest := self._rest[stream]:
            data = rest + data
        start = position = 0
        while True:
            # A line end among the next 16 KiB: then all lines up to it are short enough.
            end = data.rfind(b"\n", position, position + _PIECE)
            if end >= 0:
                position = end + 1
                continue
            if position > start:
                self._lines(stream, data[start:position])
            if len(data) - position < _PIECE:
                self._rest[stream] = data[position:]
                return
            start = position = position + self._piece(stream, data[position : position + _PIECE])

    def end(self, stream: str) -> None:
        """The stream has ended: write what it left without a line end."""
        if rest := self._rest[stream]:
            self._rest[stream] = b""
            self._put(_format(_escape(rest), stream, ""))

    def close(self) -> None:
        """End both streams and close the file."""
        if self._fd < 0:
            return
        self.end("stdout")
        self.end("stderr")
        if self.lost:
            self._write(b"", 0)
        os.close(self._fd)
        self._fd = -1

    def _lines(self, stream: str, data: bytes) -> None:
        lines = _escape(data[:-1])
        for start in range(0, len(lines), _BATCH):
            self._put(_format(lines[start : start + _BATCH], stream, "\\n"))

    def _piece(self, stream: str, data: bytes) -> int:
        """Write part of a long line; how many bytes of it: a character at its end is not cut in two."""
        size = len(data)
        for back in range(1, 4):
            byte = data[-back]
            if byte >= 0xC0:  # the head of a character of 2, 3 or 4 bytes
                if back < 2 + (byte >= 0xE0) + (byte >= 0xF0):
                    size -= back
                break
            if byte < 0x80:
                break
        self._put(_format(_escape(data[:size]), stream, ""))
        return size

    def _put(self, lines: list[str]) -> None:
        data = "".join(lines).encode("latin-1")
        if self.max_size < 0 or self._size + len(data) <= self.max_size:
            self._write(data, len(lines))
            return
        self._size = os.fstat(self._fd).st_size  # somebody may have emptied it (truncate -s 0)
        start = size = 0
        encoded = [line.encode("latin-1") for line in lines]
        for index, line in enumerate(encoded):
            if self._size + size + len(line) > self.max_size and self._size + size > 0:
                if index > start:
                    self._write(b"".join(encoded[start:index]), index - start)
                self._rotate()
                start, size = index, 0
            size += len(line)
        self._write(b"".join(encoded[start:]), len(encoded) - start)

    def _write(self, data: bytes, lines: int) -> None:
        lost = self.lost
        if lost:
            note = f"[nanocontainer: {lost} log line{'s' * (lost != 1)} lost: {self._why}]"
            data = _format(_escape(note.encode()), "stderr", "\\n")[0].encode("latin-1") + data
        if self._torn:
            data = b"\n" + data
        try:
            done = os.write(self._fd, data)
        except OSError as error:
            self._why = error.strerror or str(error)
            self.lost = lost + lines
            return
        self._size += done
        if done == len(data):
            self.lost, self._torn = 0, False
            return
        # The disk became full inside this write. Keep the whole lines and take back the half one.
        self._why = os.strerror(28)
        kept = data.rfind(b"\n", 0, done) + 1
        missing = data.count(b"\n", kept)
        try:
            os.ftruncate(self._fd, os.lseek(self._fd, 0, os.SEEK_CUR) - (done - kept))
            self._size -= done - kept
            self._torn = self._torn and kept == 0
        except OSError:
            self._torn = True
        noted = lost > 0 and missing <= lines
        self.lost = missing if noted or not lost else lost + lines

    def _rotate(self) -> None:
        """Rename the files and begin a new one. Where that is impossible the old one goes on, beyond its size."""
        fresh = f"{self.path}.new"
        try:
            # First what can fail for want of space; so there is always a log.json that is written to.
            fd = os.open(fresh, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        except OSError:
            return
        try:
            for index in range(self.max_file - 1, 0, -1):
                older = self.path if index == 1 else f"{self.path}.{index - 1}"
                try:
                    os.rename(older, f"{self.path}.{index}")
                except FileNotFoundError:
                    pass
            os.rename(fresh, self.path)
        except OSError:
            os.close(fd)
            return
        os.close(self._fd)  # what it has not read yet, a reader has open
        self._fd, self._size, self._torn = fd, 0, False


def _escape(data: bytes) -> list[str]:
    """The lines in data as the insides of JSON strings, their UTF-8 bytes seen as Latin-1.

    JSON escapes bytes below 0x20, the quote and the backslash, and none of these is ever part of a longer character:
    so valid UTF-8 passes through untouched, and text is decoded only to learn whether it is valid.
    """
    controls = set(data.translate(None, _HARMLESS))
    if len(controls) > _TEXT:  # no text: one pass with a JSON encoder is cheaper then, and what it makes is ASCII
        return [dumps(line)[1:-1] for line in data.decode("utf-8", "replace").split("\n")]
    if not data.isascii():
        try:
            data.decode()
        except UnicodeDecodeError:
            data = data.decode("utf-8", "replace").encode()
    text = data.decode("latin-1").replace("\\", "\\\\").replace('"', '\\"')
    for code in controls:
        text = text.replace(chr(code), _ESCAPES.get(code) or f"\\u{code:04x}")
    return text.split("\n")


def _format(lines: list[str], stream: str, ending: str) -> list[str]:
    """The log's lines for lines of escaped text, each with the time now."""
    clock = time.time_ns
    second = clock() // SECOND
    # Nine digits with leading zeros are the digits of 1 000 000 000 + x without the first: cheaper than a format.
    base = (second - 1) * SECOND
    tail = f'{ending}","stream":"{stream}","time":"{rfc3339_seconds(second)}.'
    made = [f'{{"log":"{line}{tail}{str(clock() - base)[1:]}Z"}}\n' for line in lines]
    if clock() - base >= 2 * SECOND or clock() < base + SECOND:  # the second ended meanwhile
        tail = f'{ending}","stream":"{stream}","time":"'
        made = [f'{{"log":"{line}{tail}{rfc3339(clock())}"}}\n' for line in lines]
    return made
