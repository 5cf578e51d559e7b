"""The lessons: each is played, and its attack hits without the wall and not with it; driven like a person does it; and
nothing is left behind, whenever and however one leaves."""

from __future__ import annotations

import glob
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nanocontainer.cmd.lessons import guards, playhost, texts, walls
from nanocontainer.cmd.lessons.course import Course
from nanocontainer.cmd.lessons.lesson import NAMES, Lesson
from nanocontainer.engine import Engine
from nanocontainer.kernel.caps import NUMBERS

from . import census
from .nano import Nano, Terminal

ENTER = r"\[enter\] "
# What the attacker is told behind the wall
REFUSED = {
    "chroot": "No such file",
    "mounts": "",  # nothing: he has mounted something, for himself
    "pivot_root": "no such file",
    "uts": "hacked",
    "pid": "no process killed",
    "net": "Connection refused",
    "cgroups": "137",
    "users": "Permission denied",
    "capabilities": "permission denied",
    "seccomp": "Operation not permitted",
    "overlay": "not found",
    "registry": "its digest is",
}


@pytest.fixture
def home(nano: Nano) -> Iterator[playhost.Home]:
    """The lessons' directory, empty; and nothing of a play host may be left when the test is over."""
    found = playhost.Home(Engine(nano.root, nano.runroot).paths)
    Path(found.directory, "progress.json").unlink(missing_ok=True)
    yield found
    assert left(nano, found) == []


def left(nano: Nano, home: playhost.Home) -> list[str]:
    """Cgroups of the play host."""
    tops = {str(Path(place).parent) for place in _groups(home)}
    return sorted(tops)


def _groups(home: playhost.Home) -> list[str]:
    found = glob.glob(f"/sys/fs/cgroup/**/{home.play.group}/*", recursive=True)  # others' groups come and go meanwhile
    return [one for one in found if os.path.isdir(one)]


def gone(nano: Nano, home: playhost.Home) -> bool:
    deadline = time.monotonic() + 5
    while left(nano, home) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not left(nano, home)


def outcome(home: playhost.Home, name: str) -> dict[str, object]:
    found: dict[str, dict[str, object]] = json.loads(Path(home.directory, "progress.json").read_text())
    return found[name]


@pytest.mark.parametrize("language", texts.LANGUAGES)
@pytest.mark.parametrize("name", NAMES)
def test_a_lesson_is_played(nano: Nano, home: playhost.Home, name: str, language: str) -> None:
    hostname = os.uname().nodename
    done = nano("learn", name, "--run", "--lang", language)
    assert done.err == ""
    seen = outcome(home, name)
    assert (seen["by"], seen["done"], seen["open"], seen["closed"]) == ("run", True, True, False)
    assert texts.text(language, name).title in done.out
    assert REFUSED[name] in done.out.rpartition(texts.words(language)["walled"])[2]
    assert os.uname().nodename == hostname
    assert nano("ps", "-aq").out == ""  # the containers were another engine's


def play(nano: Nano, home: playhost.Home, lesson: Lesson) -> tuple[int, dict[str, object]]:
    facts = Engine(nano.root, nano.runroot).life.facts()
    course = Course(lesson, texts.text("en", lesson.name), texts.words("en"), by_hand=False)
    return playhost.play(home, facts, course.go)


def test_an_attack_that_misses_fails_the_lesson(nano: Nano, home: playhost.Home, capfd: object) -> None:
    code, seen = play(nano, home, walls.UTS.replace(attack="true"))
    assert (code, seen["open"], seen["closed"]) == (1, False, False)


def test_a_wall_that_does_not_hold_fails_the_lesson(nano: Nano, home: playhost.Home, capfd: object) -> None:
    code, seen = play(nano, home, guards.CAPABILITIES.replace(attack="true"))
    assert (code, seen["open"], seen["closed"]) == (1, True, True)


def test_what_was_not_done_fails_the_lesson(nano: Nano, home: playhost.Home, capfd: object) -> None:
    code, seen = play(nano, home, walls.UTS.replace(tries=(("inside", "hostname"),)))
    assert (code, seen["done"], seen["open"], seen["closed"]) == (1, False, True, False)


def at(terminal: Terminal, name: str) -> None:
    terminal.expect(rf"\({name}\) ")


def begin(terminal: Terminal, name: str) -> None:
    """To the first prompt."""
    for _ in range(2):
        terminal.expect(ENTER)
        terminal.send("\n")
    at(terminal, name)


def test_a_learner_takes_the_lesson_on_names(nano: Nano, home: playhost.Home) -> None:
    with nano.pty("learn", "uts", cols=100, rows=40) as terminal:
        begin(terminal, "uts")
        terminal.send("\n")
        terminal.expect(r"Not yet.*container = container, play host = play-host")
        at(terminal, "uts")
        terminal.send("inside\n")
        terminal.expect("inside# ")
        terminal.send("hostname lesson; exit\r")
        at(terminal, "uts")
        terminal.send("outside\n")
        terminal.expect("outside# ")
        terminal.send("hostname; readlink /proc/1/exe /proc/self/ns/pid; exit\r")
        terminal.expect("\nplay-host\r\n")
        assert terminal.expect(r"pid:\[\d+\]")[0] != os.readlink("/proc/self/ns/pid")
        at(terminal, "uts")
        terminal.send("check\n")
        terminal.expect("Done.*container = lesson, play host = play-host")
        terminal.expect(ENTER)
        terminal.send("\n")
        terminal.expect("The attack has hit.*The attack has failed.*Lesson passed")
        terminal.expect(r"\[Y/n\] ")
        terminal.send("n\n")
        assert terminal.wait() == 0
        assert terminal.settings() == terminal.before
    assert outcome(home, "uts")["by"] == "hand"
    assert "✓ uts" in nano("learn", "--lang", "en").out
    nano("learn", "uts", "--run")
    assert outcome(home, "uts")["by"] == "hand"  # it stays so
    nano("learn", "--reset")
    assert "✓ uts" not in nano("learn", "--lang", "en").out


def test_a_learner_takes_the_lesson_on_limits_in_chinese_and_goes_on(nano: Nano, home: playhost.Home) -> None:
    with nano.pty("learn", "cgroups", cols=80, rows=40, env={"LC_ALL": "zh_CN.UTF-8"}) as terminal:
        for _ in range(2):
            terminal.expect(r"\[回车继续\] ")
            terminal.send("\n")
        at(terminal, "cgroups")
        terminal.send("check\n")
        terminal.expect("还没有完成.*OOM kill = 否")
        at(terminal, "cgroups")
        terminal.send("inside\n")
        terminal.expect("inside# ")
        terminal.send("dd if=/dev/zero of=/dev/null bs=200M count=1\r")
        terminal.expect("Killed")
        terminal.send("exit\r")
        at(terminal, "cgroups")
        terminal.send("\n")
        terminal.expect(r"完成了.*= 67108864, OOM kill = 是")
        terminal.expect(r"\[回车继续\] ")
        terminal.send("\n")
        terminal.expect("攻击得手.*攻击失败.*本课通过")
        terminal.expect("继续学 users 吗")
        terminal.send("\n")
        terminal.expect(r"8/12 +users")
        terminal.expect(r"\[回车继续\] ")
        terminal.send("q\n")
        terminal.expect("已退出")
        assert terminal.wait() == 0


def test_the_program_can_do_it(nano: Nano, home: playhost.Home) -> None:
    with nano.pty("learn", "pid") as terminal:
        begin(terminal, "pid")
        terminal.send("frobnicate\n")
        terminal.expect("a shell in the container")
        at(terminal, "pid")
        terminal.send("do\n")
        terminal.expect("Done")
        terminal.expect(ENTER)
        terminal.send("\n")
        terminal.expect(r"\[Y/n\] ")
        terminal.send("\x04")
        assert terminal.wait() == 0


@pytest.mark.parametrize("how", ["quit", "\x03", "\x04"])
@pytest.mark.parametrize("prompt", range(5))
def test_who_leaves_at_any_prompt_leaves_nothing(nano: Nano, home: playhost.Home, prompt: int, how: str) -> None:
    before = census.take()
    with nano.pty("learn", "uts") as terminal:
        prompts = (ENTER, ENTER, r"\(uts\) ", ENTER, r"\[Y/n\] ")
        for pattern in prompts[:prompt]:
            terminal.expect(pattern)
            terminal.send("do\n" if pattern == r"\(uts\) " else "\n")
        terminal.expect(prompts[prompt])
        terminal.send("quit\n" if how == "quit" else how)
        assert terminal.wait() == (130 if (prompt, how) == (4, "\x03") else 0)
        assert terminal.settings() == terminal.before
    assert left(nano, home) == []
    assert census.settle(before) == []


def test_who_is_killed_leaves_nothing(nano: Nano, home: playhost.Home) -> None:
    before = census.take()
    with nano.pty("learn", "net") as terminal:
        begin(terminal, "net")
        terminal.process.kill()
        terminal.process.wait()
    assert gone(nano, home)
    assert census.settle(before) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
@pytest.mark.parametrize("moment", ["The plan", "Try it", "Without the wall"])
def test_who_is_ended_while_a_lesson_is_played_leaves_nothing(
    nano: Nano, home: playhost.Home, number: int, moment: str
) -> None:
    before = census.take()
    process = nano.popen("learn", "cgroups", "--run", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout
    seen = b""
    while moment.encode() not in seen:
        part = os.read(process.stdout.fileno(), 65536)
        assert part, seen
        seen += part
    process.send_signal(number)
    assert process.wait() == (130 if number == signal.SIGINT else -number)
    process.stdout.close()
    assert gone(nano, home)
    assert census.settle(before) == []


def test_where_all_are_killed_the_next_lesson_sweeps(nano: Nano, home: playhost.Home) -> None:
    with nano.pty("learn", "uts") as terminal:
        begin(terminal, "uts")
        broom = next(
            int(one.parent.name)
            for one in Path("/proc").glob("[0-9]*/comm")
            if one.read_text() == "learn: broom\n"
            and f"PPid:\t{terminal.process.pid}\n" in Path(one.parent, "status").read_text()
        )
        os.kill(broom, signal.SIGKILL)
        terminal.process.kill()
        terminal.process.wait()
    assert left(nano, home) != []
    nano("learn", "chroot", "--run")
    assert left(nano, home) == []


def test_one_lesson_at_a_time(nano: Nano, home: playhost.Home) -> None:
    with nano.pty("learn", "uts") as terminal:
        begin(terminal, "uts")
        other = nano("learn", "uts", "--run", check=False)
        assert other.code == 1
        assert "another lesson is going on" in other.err
        terminal.send("\x04")
        assert terminal.wait() == 0
    assert nano("learn", "uts", "--run").code == 0


def test_the_real_hosts_files_cannot_be_written(nano: Nano, home: playhost.Home, tmp_path: Path) -> None:
    with nano.pty("learn", "uts") as terminal:
        begin(terminal, "uts")
        terminal.send("outside\n")
        terminal.expect("outside# ")
        terminal.send(f"touch {tmp_path}/x; echo over\r")
        terminal.expect(r"Read-only file system.*\nover")
        terminal.send("(: >> /proc/sys/kernel/core_pattern); echo and out\r")
        terminal.expect(r"Read-only file system.*\nand out")
        terminal.send("grep CapBnd /proc/self/status\r")
        bounding = int(terminal.expect(r"CapBnd:\s+([0-9a-f]{16})")[1], 16)
        assert not bounding & sum(1 << NUMBERS[name] for name in playhost._DANGEROUS)
        assert bounding & 1 << NUMBERS["CAP_SYS_ADMIN"]
        terminal.send("exit\r")
        at(terminal, "uts")
        terminal.send("q\n")
        assert terminal.wait() == 0
    assert not (tmp_path / "x").exists()


def test_bad_input(nano: Nano, home: playhost.Home) -> None:
    for args, words in (
        (("learn", "uts"), "learn LESSON --run"),
        (("learn", "chrooot", "--run"), "there are chroot, mounts"),
        (("learn", "c", "--run"), "is several lessons.*chroot, cgroups, capabilities"),
        (("learn", "13", "--run"), "there is no lesson"),
        (("learn", "uts", "--run", "--lang", "fr"), "not one of en, zh"),
        (("learn", "--reset", "uts"), "--reset goes alone"),
    ):
        done = nano(*args, check=False)
        assert done.code == 1, done
        assert re.search(words, done.err), done
