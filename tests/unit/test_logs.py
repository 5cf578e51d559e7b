"""The log: what was written is what is read, in docker's format, over rotations, torn lines and full disks."""

from __future__ import annotations

import errno
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanocontainer.clock import SECOND, parse_time, rfc3339
from nanocontainer.container.jsonlog import FILE, JsonLog, log_options, open_log
from nanocontainer.container.logs import LogLine, read_logs
from nanocontainer.errors import InvalidInput, NanoError

PIECE = 16384


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Iterator[str]]:
    """Directories without end: one for each example."""

    def fresh() -> Iterator[str]:
        while True:
            yield str(tmp_path_factory.mktemp("log"))

    yield fresh()


def write(directory: str, writes: Iterable[tuple[str, bytes]], **options: int) -> None:
    log = JsonLog(directory, **options)
    for stream, data in writes:
        log.write(stream, data)
    log.close()


def texts(directory: str, **options: object) -> list[tuple[str, str]]:
    return [(line.stream, line.text) for line in read_logs(directory, **options)]  # type: ignore[arg-type]


def broken(line: str) -> None:
    raise AssertionError(f"broken: {line!r}")


def expected(data: bytes) -> list[str]:
    """What docker makes of a stream of ASCII: lines, in pieces of 16 KiB; the last one as it is."""
    made = []
    *lines, last = data.decode().split("\n")
    for line in lines:
        while len(line) >= PIECE:
            made.append(line[:PIECE])
            line = line[PIECE:]
        made.append(line + "\n")
    while len(last) >= PIECE:
        made.append(last[:PIECE])
        last = last[PIECE:]
    return made + ([last] if last else [])


# Small alphabets make line ends, quotes and escapes meet; long runs cross the bounds of pieces and batches.
ODD = st.text(alphabet='\n\n\\"n\t\x00\x1b\x7f<&aé\u2028€😀', max_size=60)
LONG = st.sampled_from([PIECE - 1, PIECE, PIECE + 1, 3 * PIECE]).map(lambda count: "x" * count)
MANY = st.sampled_from([1023, 1024, 1025]).map(lambda count: "y\n" * count)
WRITES = st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), ODD | LONG | MANY), max_size=8)
FEW = st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), ODD | LONG), max_size=8)


# --- the format


def test_the_format_is_dockers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 1136214245_000000007)
    write(
        str(tmp_path), [("stdout", b'tab\t "quoted" back\\slash \x1b[1m \x00 \xc3\xa9\r\n\npart'), ("stderr", b"oh\n")]
    )
    assert (tmp_path / FILE).read_bytes().decode() == (
        '{"log":"tab\\t \\"quoted\\" back\\\\slash \\u001b[1m \\u0000 é\\r\\n","stream":"stdout",'
        '"time":"2006-01-02T15:04:05.000000007Z"}\n'
        '{"log":"\\n","stream":"stdout","time":"2006-01-02T15:04:05.000000007Z"}\n'
        '{"log":"oh\\n","stream":"stderr","time":"2006-01-02T15:04:05.000000007Z"}\n'
        '{"log":"part","stream":"stdout","time":"2006-01-02T15:04:05.000000007Z"}\n'
    )
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


@settings(deadline=None)
@given(writes=WRITES)
def test_what_was_written_is_what_is_read(scratch: Iterator[str], writes: list[tuple[str, str]]) -> None:
    directory = next(scratch)
    write(directory, [(stream, text.encode()) for stream, text in writes], max_size=-1)
    with open(f"{directory}/{FILE}", encoding="utf-8") as file:
        parsed = [json.loads(line) for line in file]
    lines = list(read_logs(directory, on_broken=broken))
    assert [(line.time, line.stream, line.text) for line in lines] == [
        (value["time"], value["stream"], value["log"]) for value in parsed
    ]
    for stream in ("stdout", "stderr"):
        whole = "".join(text for one, text in writes if one == stream)
        mine = [line.text for line in lines if line.stream == stream]
        assert "".join(mine) == whole
        if whole.isascii():
            assert mine == expected(whole.encode())
    assert all(one.time <= two.time for one, two in pairwise(lines))


@settings(deadline=None)
@given(data=st.binary(max_size=3000), cuts=st.lists(st.integers(0, 3000)))
def test_any_bytes_in_any_pieces(scratch: Iterator[str], data: bytes, cuts: list[int]) -> None:
    directory = next(scratch)
    places = [0, *sorted(cuts), len(data)]
    write(directory, [("stdout", data[one:two]) for one, two in pairwise(places)])
    assert "".join(text for _, text in texts(directory, on_broken=broken)) == data.decode("utf-8", "replace")


@pytest.mark.parametrize("before", [0, 1, 2, 3, 4, PIECE - 1])
@pytest.mark.parametrize("letter", ["é", "€", "😀"])
def test_a_cut_does_not_tear_a_character(tmp_path: Path, letter: str, before: int) -> None:
    text = "x" * before + letter * 20000 + "\n"
    write(str(tmp_path), [("stdout", text.encode())])
    pieces = [text for _, text in texts(str(tmp_path))]
    assert "".join(pieces) == text
    assert all(PIECE - 4 < len(piece.encode()) <= PIECE for piece in pieces[:-1])
    assert len(pieces[0].encode()) == PIECE - (PIECE - before) % len(letter.encode())  # no shorter than need be


def test_no_character_at_a_cut(tmp_path: Path) -> None:
    data = b"\x80" * 40000 + b"\xff" * 40000
    write(str(tmp_path), [("stdout", data)])
    assert "".join(text for _, text in texts(str(tmp_path))) == "\ufffd" * 80000


def test_each_line_has_its_own_time(tmp_path: Path) -> None:
    before = time.time_ns()
    write(str(tmp_path), [("stdout", b"line\n" * 5000)])
    after = time.time_ns()
    times = [parse_time(line.time, 0) for line in read_logs(str(tmp_path))]
    assert before <= times[0] < times[-1] <= after
    assert sorted(times) == times
    assert len(set(times)) > 1000


def test_times_when_a_second_ends_or_the_clock_is_set_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in (1, 300_000_000, -300_000_000, 7 * SECOND, -7 * SECOND):
        now = [1_700_000_000 * SECOND + SECOND - 5]
        shown = []

        def tick(now: list[int] = now, step: int = step, shown: list[int] = shown) -> int:
            now[0] += step
            shown.append(now[0])
            return now[0]

        directory = tmp_path / str(step)
        directory.mkdir()
        monkeypatch.setattr(time, "time_ns", tick)
        write(str(directory), [("stdout", b"line\n" * 20)])
        monkeypatch.undo()
        for line in read_logs(str(directory)):
            assert parse_time(line.time, 0) in shown


def test_a_restart_goes_on_and_a_torn_line_spoils_nothing(tmp_path: Path) -> None:
    directory = str(tmp_path)
    write(directory, [("stdout", b"one\n")])
    with open(tmp_path / FILE, "a") as file:
        file.write('{"log":"torn')
    write(directory, [("stdout", b"two\n")])
    write(directory, [("stdout", b"three\n")])
    notes: list[str] = []
    assert [text for _, text in texts(directory, on_broken=notes.append)] == ["one\n", "two\n", "three\n"]
    assert notes == ['{"log":"torn']


def test_a_log_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(NanoError, match="cannot open the log"):
        JsonLog(str(tmp_path / "missing"))


# --- options


def test_options() -> None:
    assert log_options("json-file", {}) == (10 << 20, 3)
    assert log_options("json-file", {"max-size": "10k", "max-file": "1"}) == (10240, 1)
    sizes = {"1": 1, "5b": 5, "1M": 1 << 20, "2mb": 2 << 20, "1g": 1 << 30, "-1": -1}
    for text, size in sizes.items():
        assert log_options("json-file", {"max-size": text})[0] == size
    assert log_options("none", {}) == (10 << 20, 3)


@pytest.mark.parametrize(
    ("driver", "options"),
    [
        ("syslog", {}),
        ("none", {"max-size": "1m"}),
        ("json-file", {"tag": "x"}),
        *[("json-file", {"max-size": text}) for text in ("0", "x", "1x", "1.5m", "-2", "m", "1mm", "1 m", "\uff11m")],
        *[("json-file", {"max-file": text}) for text in ("0", "-1", "x", "1001")],
    ],
)
def test_options_we_do_not_have(driver: str, options: dict[str, str]) -> None:
    with pytest.raises(InvalidInput):
        log_options(driver, options)


def test_the_driver_none_writes_nothing(tmp_path: Path) -> None:
    assert open_log(str(tmp_path), "none", {}) is None
    assert texts(str(tmp_path)) == []


# --- rotation


@settings(deadline=None)
@given(writes=FEW, max_size=st.sampled_from([1, 100, 500, 5000, 50_000]), max_file=st.integers(1, 5))
def test_rotation(scratch: Iterator[str], writes: list[tuple[str, str]], max_size: int, max_file: int) -> None:
    """The newest lines are kept, no file is larger than it may be, and not more is thrown away than must be."""
    whole, rotated = next(scratch), next(scratch)
    encoded = [(stream, text.encode()) for stream, text in writes]
    write(whole, encoded, max_size=-1)
    write(rotated, encoded, max_size=max_size, max_file=max_file)
    all_lines, kept = texts(whole), texts(rotated, on_broken=broken)
    assert kept == all_lines[len(all_lines) - len(kept) :]
    names = {FILE, *(f"{FILE}.{index}" for index in range(1, max_file))}
    found = set(os.listdir(rotated))
    assert found <= names
    for name in found:
        with open(f"{rotated}/{name}", "rb") as file:
            lines = file.readlines()
        assert len(lines) == 1 or sum(map(len, lines)) <= max_size or name == FILE
    if len(found) < max_file:
        assert kept == all_lines


def test_a_log_that_somebody_emptied_is_not_rotated_early(tmp_path: Path) -> None:
    log = JsonLog(str(tmp_path), max_size=10_000)
    for turn in range(18):
        log.write("stdout", b"x" * 800 + b"\n")
        if turn == 8:
            os.truncate(tmp_path / FILE, 0)
    log.close()
    assert os.listdir(tmp_path) == [FILE]


def test_rotation_that_is_impossible_goes_on_in_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = JsonLog(str(tmp_path), max_size=1000)
    original = os.open

    def refuse(path: str, flags: int, mode: int = 0) -> int:
        if flags & os.O_CREAT:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(path, flags, mode)

    monkeypatch.setattr(os, "open", refuse)
    log.write("stdout", b"x" * 90 + b"\n" + b"line\n" * 50)
    monkeypatch.undo()
    log.close()
    assert len(texts(str(tmp_path), on_broken=broken)) == 51
    assert os.listdir(tmp_path) == [FILE]


# --- a full disk, by a write(2) that says so


class Disk:
    """write(2) to a disk with so many bytes of space."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.space = 1 << 30
        self._write = os.write
        monkeypatch.setattr(os, "write", self.write)

    def write(self, fd: int, data: bytes) -> int:
        if self.space == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        done = self._write(fd, data[: self.space])
        self.space -= done
        return done


def test_a_full_disk_is_reported_when_there_is_space_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch)
    log = JsonLog(str(tmp_path))
    log.write("stdout", b"before\n")
    disk.space = 0
    log.write("stdout", b"lost\n" * 11)
    log.write("stderr", b"lost\n")
    assert log.lost == 12
    disk.space = 1 << 30
    log.write("stdout", b"after\n")
    assert log.lost == 0
    log.write("stdout", b"more\n")
    log.close()
    assert texts(str(tmp_path), on_broken=broken) == [
        ("stdout", "before\n"),
        ("stderr", "[nanocontainer: 12 log lines lost: No space left on device]\n"),
        ("stdout", "after\n"),
        ("stdout", "more\n"),
    ]


def test_a_loss_is_reported_at_the_end_at_the_latest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch)
    log = JsonLog(str(tmp_path))
    disk.space = 0
    log.write("stdout", b"lost\n")
    disk.space = 1 << 30
    log.close()
    assert [text for _, text in texts(str(tmp_path))] == ["[nanocontainer: 1 log line lost: No space left on device]\n"]


@settings(deadline=None)
@given(spaces=st.lists(st.integers(0, 600) | st.just(0) | st.just(1 << 20), min_size=1, max_size=30))
def test_written_and_lost_lines_are_all_lines(scratch: Iterator[str], spaces: list[int]) -> None:
    """However the disk becomes full, in the middle of a line or of a report too: no line is torn or not counted."""
    directory = next(scratch)
    with pytest.MonkeyPatch.context() as monkeypatch:
        disk = Disk(monkeypatch)
        log = JsonLog(directory)
        number = 0
        for space in [*spaces, 1 << 30]:
            disk.space = space
            lines = random.Random(space).randrange(1, 6)
            log.write("stdout", b"".join(b"%d\n" % (number + one) for one in range(lines)))
            number += lines
        assert log.lost == 0
        log.close()
    position = 0
    for stream, text in texts(directory, on_broken=broken):
        if stream == "stderr":
            position += int(text.split()[1])
        else:
            assert int(text) == position
            position += 1
    assert position == number


# --- reading


def test_dockers_own_files(tmp_path: Path) -> None:
    """Trailing zeros of times cut off, attributes between, HTML's letters escaped, other orders and spaces."""
    (tmp_path / FILE).write_text(
        '{"log":"\\u003cb\\u003e\\n","stream":"stdout","time":"2006-01-02T15:04:05.1Z"}\n'
        '{"log":"two\\n","stream":"stderr","attrs":{"a":"b"},"time":"2006-01-02T15:04:05.123456789Z"}\n'
        '{"stream": "stdout", "time": "2006-01-02T17:04:05+02:00", "log": "three"}\n'
        '{"log":"four","x":"y","stream":"stdout","time":"2006-01-02T15:04:05.123456789Z"}\n'
        '{"log":"\\ud800\\n","stream":"stdout","time":"2006-01-02T15:04:05.123456789Z"}\n'
    )
    lines = list(read_logs(str(tmp_path), on_broken=broken))
    assert [line.text for line in lines] == ["<b>\n", "two\n", "three", "four", "\ufffd\n"]
    assert [line.stream for line in lines] == ["stdout", "stderr", "stdout", "stdout", "stdout"]
    assert [line.time for line in lines[:3]] == [
        "2006-01-02T15:04:05.100000000Z",
        "2006-01-02T15:04:05.123456789Z",
        "2006-01-02T15:04:05.000000000Z",
    ]
    assert lines[4].data == "\ufffd\n".encode()


@pytest.mark.parametrize(
    "line",
    [
        "{", "null", "[]", "5", '"text"', "{}", '{"log":"x"}',
        '{"log":5,"stream":"stdout","time":"2006-01-02T15:04:05Z"}',
        '{"log":"x","stream":null,"time":"2006-01-02T15:04:05Z"}', '{"log":"x","stream":"stdout","time":"never"}',
        '{"log":"x","stream":"stdout","time":5}', '{"log":"x","stream":"stdout","time":"2006-01-02T15:04:05Z"} x',
        '{"log":"x"y","stream":"stdout","time":"2006-01-02T15:04:05.123456789Z"}', "\ufffd\x00",
    ],
)  # fmt: skip
def test_broken_lines_are_left_out_and_told(tmp_path: Path, line: str) -> None:
    write(str(tmp_path), [("stdout", b"one\n")])
    with open(tmp_path / FILE, "a") as file:
        file.write(f"{line}\n")
    write(str(tmp_path), [("stdout", b"two\n")])
    notes: list[str] = []
    assert [text for _, text in texts(str(tmp_path), on_broken=notes.append)] == ["one\n", "two\n"]
    assert notes == [line]


def test_half_a_line_is_broken_only_when_nobody_writes(tmp_path: Path) -> None:
    write(str(tmp_path), [("stdout", b"one\n")])
    with open(tmp_path / FILE, "a") as file:
        file.write('{"log":"ha')
    notes: list[str] = []
    assert len(texts(str(tmp_path), on_broken=notes.append, alive=lambda: True)) == 1
    assert notes == []
    assert len(texts(str(tmp_path), on_broken=notes.append)) == 1
    assert notes == ['{"log":"ha']


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(0, 300), min_size=1, max_size=60),
    tail=st.integers(0, 70),
    max_size=st.sampled_from([-1, 300, 1000, 4000]),
)
def test_tail(scratch: Iterator[str], sizes: list[int], tail: int, max_size: int) -> None:
    directory = next(scratch)
    write(directory, [("stdout", b"x" * size + b"\n") for size in sizes], max_size=max_size, max_file=100)
    everything = texts(directory)
    assert len(everything) == len(sizes)
    assert texts(directory, tail=tail) == everything[max(len(everything) - tail, 0) :]


def test_tail_of_a_big_file_reads_its_end_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(str(tmp_path), [("stdout", b"x" * 70 + b"\n")] * 50_000, max_size=-1)
    total = []
    for name in ("read", "pread"):
        original = getattr(os, name)

        def count(*args: int, original: object = original) -> bytes:
            data: bytes = original(*args)  # type: ignore[operator]
            total.append(len(data))
            return data

        monkeypatch.setattr(os, name, count)
    assert len(texts(str(tmp_path), tail=100)) == 100
    assert sum(total) < 1 << 20
    assert len(texts(str(tmp_path), tail=20_000)) == 20_000


def test_tail_does_not_count_a_torn_line(tmp_path: Path) -> None:
    write(str(tmp_path), [("stdout", b"one\ntwo\n")])
    with open(tmp_path / FILE, "a") as file:
        file.write('{"log":"torn')
    assert [text for _, text in texts(str(tmp_path), tail=1)] == ["two\n"]
    assert texts(str(tmp_path), tail=0) == []


@settings(deadline=None)
@given(since=st.integers(-1, 11), until=st.integers(-1, 11))
def test_since_and_until(scratch: Iterator[str], since: int, until: int) -> None:
    directory = next(scratch)
    start = 1_700_000_000 * SECOND
    with open(f"{directory}/{FILE}", "w") as file:
        for number in range(10):
            line = {"log": f"{number}\n", "stream": "stdout", "time": rfc3339(start + number * 100)}
            file.write(json.dumps(line, separators=(",", ":")) + "\n")
    options = {}
    if since >= 0:
        options["since"] = start + since * 100
    if until >= 0:
        options["until"] = start + until * 100
    numbers = [int(text) for _, text in texts(directory, **options)]
    assert numbers == [n for n in range(10) if n >= since and (until < 0 or n <= until)]


def test_reading_a_busy_log_ends(tmp_path: Path) -> None:
    """Without follow: what is there when we come to it, however fast more is written."""
    log = JsonLog(str(tmp_path), max_size=-1)
    log.write("stdout", b"x\n" * 10)
    lines = 0
    for _ in read_logs(str(tmp_path), alive=lambda: True):
        log.write("stdout", b"x\n" * 10)
        lines += 1
    log.close()
    assert lines == 10


def test_reading_in_the_middle_of_a_rotation(tmp_path: Path) -> None:
    """Between two of its renames a number is missing."""
    write(str(tmp_path), [("stdout", b"one\n")])
    os.rename(tmp_path / FILE, tmp_path / f"{FILE}.2")
    write(str(tmp_path), [("stdout", b"two\n")])
    assert [text for _, text in texts(str(tmp_path))] == ["one\n", "two\n"]
    os.rename(tmp_path / FILE, tmp_path / f"{FILE}.1")
    assert [text for _, text in texts(str(tmp_path))] == ["one\n", "two\n"]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / FILE).symlink_to(FILE)
    with pytest.raises(NanoError, match="cannot read the log"):
        texts(str(tmp_path))
    assert texts(str(tmp_path / "missing")) == []


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))
    write(str(tmp_path), [("stdout", b"x" * 100 + b"\n")] * 100, max_size=1000, max_file=9)
    assert texts(str(tmp_path)) != []
    assert texts(str(tmp_path), tail=3) != []
    lines = read_logs(str(tmp_path), follow=True, alive=lambda: True)
    next(lines)
    lines.close()  # type: ignore[attr-defined]
    assert set(os.listdir("/proc/self/fd")) == before


def test_speed(tmp_path: Path) -> None:
    """A guard against a slip of an order of magnitude; it takes a fraction of a second."""
    write(str(tmp_path), [("stdout", b"a line of ordinary length, with\ta tab in every second one\n" * 2)] * 30_000)
    start = time.monotonic()
    lines = sum(1 for _ in read_logs(str(tmp_path)))
    assert lines / (time.monotonic() - start) > 50_000


# --- following

WRITER = """
import sys, time
sys.path.insert(0, sys.argv[1])
from nanocontainer.container.jsonlog import JsonLog
log = JsonLog(sys.argv[2], max_size=int(sys.argv[3]), max_file=int(sys.argv[4]))
for number in range(int(sys.argv[5])):
    log.write("stdout", b"%d " % number + b"x" * (number % 100) + b"\\n")
    if number % 500 == 0:
        time.sleep(float(sys.argv[6]))
log.close()
"""


def writer(directory: Path, max_size: int, max_file: int, lines: int, pause: float) -> subprocess.Popen[bytes]:
    source = str(Path(__file__).parents[2] / "src")
    options = [source, str(directory), str(max_size), str(max_file), str(lines), str(pause)]
    return subprocess.Popen([sys.executable, "-c", WRITER, *options])


@pytest.mark.parametrize("pause", [0.0, 0.02])
@pytest.mark.parametrize("readers", [1, 3])
def test_following_over_rotations_loses_nothing(tmp_path: Path, pause: float, readers: int) -> None:
    process = writer(tmp_path, 4000, 1000, 5000, pause)
    found: list[list[int]] = []

    def read() -> None:
        lines = read_logs(str(tmp_path), follow=True, alive=lambda: process.poll() is None, on_broken=broken)
        found.append([int(line.text.split()[0]) for line in lines])

    threads = [threading.Thread(target=read) for _ in range(readers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert process.wait() == 0
    assert found == [list(range(5000))] * readers
    assert len(os.listdir(tmp_path)) > 100


def test_a_follower_that_is_overtaken_goes_on_with_what_is_left(tmp_path: Path) -> None:
    log = JsonLog(str(tmp_path), max_size=1000, max_file=2)
    log.write("stdout", b"first\n")
    running = [True]
    lines = read_logs(str(tmp_path), follow=True, alive=lambda: running[0], on_broken=broken)
    assert next(lines).text == "first\n"
    for number in range(1000):
        log.write("stdout", b"%d\n" % number)
    log.close()
    running[0] = False
    numbers = [int(line.text) for line in lines]
    assert numbers[:3] == [0, 1, 2]  # the file it had open
    assert numbers[-1] == 999
    assert numbers == sorted(numbers)


def test_following_shows_lines_soon_and_ends_with_the_container(tmp_path: Path) -> None:
    log = JsonLog(str(tmp_path))
    running = [True]
    seen: list[tuple[float, LogLine]] = []

    def read() -> None:
        lines = read_logs(str(tmp_path), follow=True, alive=lambda: running[0])
        seen.extend((time.monotonic(), line) for line in lines)

    thread = threading.Thread(target=read)
    thread.start()
    written = []
    for _ in range(5):
        time.sleep(0.07)
        written.append(time.monotonic())
        log.write("stdout", b"line\n")
    time.sleep(0.15)
    log.write("stdout", b"no line end")
    log.close()
    running[0] = False
    thread.join(2)
    assert not thread.is_alive()
    assert [line.text for _, line in seen] == ["line\n"] * 5 + ["no line end"]
    assert max(shown - when for when, (shown, _) in zip(written, seen, strict=False)) < 1


def test_following_from_the_end(tmp_path: Path) -> None:
    log = JsonLog(str(tmp_path))
    log.write("stdout", b"old\n" * 100)
    lines = read_logs(str(tmp_path), follow=True, tail=0, alive=lambda: True)
    timer = threading.Timer(0.1, log.write, ("stdout", b"new\n"))
    timer.start()
    assert next(lines).text == "new\n"
    timer.join()
    log.close()


def test_following_what_is_not_there_yet(tmp_path: Path) -> None:
    timer = threading.Timer(0.1, write, (str(tmp_path), [("stdout", b"line\n")]))
    lines = read_logs(str(tmp_path), follow=True, alive=timer.is_alive)
    timer.start()
    assert [line.text for line in lines] == ["line\n"]
    timer.join()


def test_following_until_a_time(tmp_path: Path) -> None:
    write(str(tmp_path), [("stdout", b"line\n")])
    start = time.monotonic()
    lines = read_logs(str(tmp_path), follow=True, alive=lambda: True, until=time.time_ns() + SECOND // 4)
    assert [line.text for line in lines] == ["line\n"]
    assert 0.2 < time.monotonic() - start < 2


def test_following_a_log_that_is_removed(tmp_path: Path) -> None:
    write(str(tmp_path), [("stdout", b"line\n")])
    running = [True]
    lines = read_logs(str(tmp_path), follow=True, alive=lambda: running[0])
    assert next(lines).text == "line\n"
    os.unlink(tmp_path / FILE)
    running[0] = False
    assert list(lines) == []


def test_two_numbers_that_are_missing_end_nothing(tmp_path: Path) -> None:
    """As a reader sees it who is kept from running while the log is rotated twice."""
    for number in (0, 3, 4):
        line = {"log": f"{number}\n", "stream": "stdout", "time": "2026-01-01T00:00:00Z"}
        (tmp_path / (f"log.json.{number}" if number else "log.json")).write_text(json.dumps(line) + "\n")
    assert [line.text for line in read_logs(str(tmp_path))] == ["4\n", "3\n", "0\n"]
