"""Keepers that log for a long time, with readers that come, go, stop and are killed: no line is lost, nothing grows.

Each container numbers its lines. One is rotated every few seconds, one writes a lot, one has a terminal, one is watched
by the command that runs it. Once a second their keepers are looked at: memory and open files.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from tests.root.nano import Nano

from . import holdings
from .conftest import FULL, figures, size

FILES = 3  # of a log; the oldest is given up for a new one
TEXT = "abcdefghijklmnopqrstuvwxyz" * 2


class Logger:
    """A container that writes so many lines a second until it is told to end, and says at last how many there were."""

    def __init__(self, name: str, rate: int, options: tuple[str, ...]) -> None:
        self.name, self.rate, self.options = name, rate, options
        self.keeper = 0
        self.samples: list[holdings.Held] = []

    def script(self, seconds: int) -> str:
        """Bursts of a twentieth of a second's lines; the clock is the shell's own, so a slow machine writes fewer."""
        burst = max(1, self.rate // 20)
        return (
            f"n=0; trap 'echo end $n; exit 7' TERM; end=$(($(date +%s) + {seconds})); "
            f"while [ $(date +%s) -lt $end ]; do i=0; while [ $i -lt {burst} ]; do "
            f"n=$((n+1)); i=$((i+1)); echo line $n {TEXT}; done; sleep 0.05; done; echo end $n; exit 7"
        )


class Lines:
    """Checks that numbered lines come without a gap."""

    def __init__(self) -> None:
        self.first = self.last = 0
        self.end = -1
        self.gaps: list[str] = []

    def take(self, line: bytes) -> None:
        words = line.split()
        if len(words) == 3 and words[0] == b"line":
            number = int(words[1])
            if not self.first:
                self.first = number
            elif number != self.last + 1:
                self.gaps.append(f"{self.last} is followed by {number}")
            if words[2] != TEXT.encode():
                self.gaps.append(f"line {number} is damaged: {line[:100]!r}")
            self.last = number
        elif len(words) == 2 and words[0] == b"end":
            self.end = int(words[1])
        else:
            self.gaps.append(f"what is this: {line[:100]!r}")

    @property
    def whole(self) -> bool:
        return not self.gaps and self.last == self.end


def follow(process: subprocess.Popen[bytes], lines: Lines) -> threading.Thread:
    """Read a command's output to its end."""

    def read() -> None:
        assert process.stdout
        for line in process.stdout:
            lines.take(line)
        process.stdout.close()

    thread = threading.Thread(target=read)
    thread.start()
    return thread


def visit(nano: Nano, name: str, draw: random.Random, running: threading.Event) -> None:
    """Readers that come and go, until `running` is cleared: some leave in order, some are killed, some stop to read."""
    while running.is_set():
        kind = draw.choice(("logs", "head", "killed", "stopped", "attached"))
        if kind == "logs":
            nano("logs", "--tail", "1000", name)
            continue
        command = ("attach", "--no-stdin", name) if kind in ("attached", "stopped") else ("logs", "-f", "-n", "5", name)
        process = nano.popen(*command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        assert process.stdout
        with process.stdout:
            for _ in range(draw.randrange(1, 200)):
                if not process.stdout.readline():
                    break
            if kind == "stopped":  # the container may have to wait for its sake, and goes on when it is gone
                process.send_signal(signal.SIGSTOP)
                time.sleep(draw.random() * 2)
            if kind != "head":
                process.kill()
        try:
            process.wait(20)  # its pipe is closed: it ends with the next line
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"{command} does not end when nobody reads it") from None


def test_keepers_that_log_for_long(clean: Nano, progress: Callable[[str], None]) -> None:
    seconds, rate = size("seconds", 12, 600), size("lines", 1000, 2000)
    loggers = [
        Logger("rotated", rate, ("--log-opt", "max-size=256k", "--log-opt", f"max-file={FILES}")),
        Logger("much", rate * 2, ()),
        Logger("terminal", rate // 4, ("-t",)),
        Logger("watched", rate // 2, ("--log-opt", "max-size=1m")),
    ]
    seed = int.from_bytes(os.urandom(4), "big")
    attached = Lines()
    for logger in loggers[:3]:
        clean("run", "-d", "--name", logger.name, "--network", "none", *logger.options, "tiny", "sh", "-c",
              logger.script(seconds + 60))  # fmt: skip
    watched = clean.popen(
        "run", "--name", "watched", "--network", "none", *loggers[3].options, "tiny", "sh", "-c",
        loggers[3].script(seconds + 60), stdout=subprocess.PIPE,
    )  # fmt: skip
    following = clean.popen("logs", "-f", "much", stdout=subprocess.PIPE)
    followed = Lines()
    readers = [follow(watched, attached), follow(following, followed)]
    running = threading.Event()
    running.set()
    failures: list[BaseException] = []

    def visiting(name: str, number: int) -> None:
        try:
            visit(clean, name, random.Random(f"{seed}-{number}"), running)
        except BaseException as error:
            failures.append(error)

    names = [logger.name for logger in loggers]
    visitors = [threading.Thread(target=visiting, args=(name, number)) for number, name in enumerate(names)]
    begin = time.monotonic()
    try:
        until_all_run(clean, loggers)
        for visitor in visitors:
            visitor.start()
        while time.monotonic() - begin < seconds and not failures:
            time.sleep(1)
            for logger in loggers:
                logger.samples.append(holdings.of_a_process(logger.keeper))
            progress(f"{time.monotonic() - begin:.0f} of {seconds} seconds of logging")
        running.clear()
        for visitor in visitors:
            visitor.join()
        for logger in loggers:
            logger.samples.append(alone(logger))
        clean("stop", "-t", "60", *names, timeout=300)
        codes = clean("wait", *names, timeout=60).out.split()
        for reader in readers:
            reader.join()
        assert watched.wait(10) == 7
        assert following.wait(10) == 0
    finally:
        running.clear()
        for process in (watched, following):
            process.kill()
            process.wait()
        for thread in (*visitors, *readers):
            if thread.ident:
                thread.join()
    lines = {name: kept_lines(clean, name) for name in names}
    figures(f"logging for {seconds} s", report(loggers, lines, attached, followed))
    assert not failures, failures
    assert codes == ["7"] * len(names)
    for name, found in {**lines, "attached to watched": attached, "following much": followed}.items():
        assert found.whole, f"{name}: {found.gaps[:5]}, last {found.last} of {found.end}"
    assert attached.first == followed.first == 1
    for logger in loggers:
        flat(logger)


def alone(logger: Logger) -> holdings.Held:
    """What its keeper holds when nobody visits it any more. A file that is still open after a second stays open."""
    deadline = time.monotonic() + 1
    while True:
        sample = holdings.of_a_process(logger.keeper)
        if not too_many(logger, sample["files"]) or time.monotonic() > deadline:
            return sample
        time.sleep(0.05)


def too_many(logger: Logger, files: int) -> bool:
    """Whether more files are open than at its quietest moment. Of "watched" that may have been one without its run."""
    return files > min(sample["files"] for sample in logger.samples) + (1 if logger.name == "watched" else 0)


def until_all_run(nano: Nano, loggers: list[Logger]) -> None:
    deadline = time.monotonic() + 20
    while len(nano("ps", "-q").out.split()) < len(loggers):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    for logger in loggers:
        pid = nano("inspect", "-f", "{{.State.Pid}}", logger.name).out.strip()
        logger.keeper = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def kept_lines(nano: Nano, name: str) -> Lines:
    """What the log has, over all its files: as `logs` prints it, and the files by themselves agree."""
    found = Lines()
    for line in nano("logs", name, timeout=120).raw.splitlines():
        found.take(line)
    id = nano("inspect", "-f", "{{.Id}}", name).out.strip()
    files = sorted(Path(nano.root, "containers", id).glob("log.json*"), key=lambda path: path.name, reverse=True)
    numbers = [int(number) for path in files for number in re.findall(rb'"log":"line (\d+) ', path.read_bytes())]
    if numbers != list(range(found.first, found.last + 1)):
        found.gaps.append(f"the files have {len(numbers)} lines, from {numbers[0]} to {numbers[-1]}")
    if found.first != 1 and len(files) < FILES:
        found.gaps.append(f"the log begins with line {found.first}, and no file was given up yet")
    return found


def report(loggers: list[Logger], lines: dict[str, Lines], attached: Lines, followed: Lines) -> list[str]:
    head = f"{'container':12}{'lines':>10}{'kept':>10}{'lost':>6}   {'keeper':20}"
    said = [f"{head}{'first':>8}{'median':>8}{'last':>8}{'most':>8}"]
    for logger in loggers:
        found = lines[logger.name]
        for kind in logger.samples[0]:
            values = [sample[kind] for sample in logger.samples]
            head = f"{'':41}"
            if kind == "files":
                kept = found.last - found.first + 1
                head = f"{logger.name:12}{found.end:10}{kept:10}{len(found.gaps) + found.end - found.last:6}   "
            said.append(f"{head}{kind:20}{values[0]:8}{median(values):8.0f}{values[-1]:8}{max(values):8}")
    said.append(f"read by the command that runs it: {attached.last} of {attached.end}, {len(attached.gaps)} gaps")
    said.append(f"read by logs -f: {followed.last} of {followed.end}, {len(followed.gaps)} gaps")
    return said


def flat(logger: Logger) -> None:
    """Open files: those of now and of the beginning. Memory: the later half's median beside the earlier half's."""
    files = [sample["files"] for sample in logger.samples]
    assert not too_many(logger, files[-1]), f"{logger.name}: open files {files}"
    if not FULL:
        return  # seconds are too short for a trend
    half = len(logger.samples) // 2
    for kind in ("anonymous, KiB", "private dirty, KiB"):
        early, late = (median(one[kind] for one in part) for part in (logger.samples[10:half], logger.samples[half:]))
        assert late - early < 512, f"{logger.name}: {kind} went from {early} to {late}"


def test_what_a_stopped_reader_costs_is_bounded(clean: Nano) -> None:
    """What it does not take is queued, 1 MiB at most; then the container waits, until the reader is gone."""
    clean("run", "-d", "--name", "full", "--network", "none", "tiny", "sh", "-c",
          f"n=0; while :; do n=$((n+1)); echo line $n {TEXT}; [ $((n % 500)) = 0 ] && sleep 0.02; done")  # fmt: skip
    logger = Logger("full", 0, ())
    until_all_run(clean, [logger])
    before = holdings.of_a_process(logger.keeper)["anonymous, KiB"]
    reader = clean.popen("attach", "--no-stdin", "full", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert reader.stdout
    reader.stdout.readline()
    reader.send_signal(signal.SIGSTOP)
    held = 0
    for _ in range(40):
        time.sleep(0.1)
        held = max(held, holdings.of_a_process(logger.keeper)["anonymous, KiB"])
    lines = kept(clean)
    time.sleep(0.5)
    assert kept(clean) == lines, "the container does not wait for its reader"
    reader.kill()
    reader.wait()
    reader.stdout.close()
    deadline = time.monotonic() + 10
    while kept(clean) == lines:
        assert time.monotonic() < deadline, "it does not go on when the reader is gone"
        time.sleep(0.05)
    after = holdings.of_a_process(logger.keeper)["anonymous, KiB"]
    figures("a reader that has stopped", [f"its keeper's memory: {before} KiB, then {held}, and {after} without it"])
    assert max(held, after) < before + (4 << 10)


def kept(nano: Nano) -> int:
    """Bytes of the log."""
    return sum(path.stat().st_size for path in Path(nano.root, "containers").glob("*/log.json*"))
