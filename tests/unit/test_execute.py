"""Execution: the two halves, their sync points, and every way in which they can fail. Clone is a fork here: no root."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import NoReturn

import pytest

from nanocontainer import errors
from nanocontainer.kernel.calls import Kernel
from nanocontainer.plan.execute import Execution, failure_of
from nanocontainer.plan.journal import Journal, read
from nanocontainer.plan.plan import Plan
from nanocontainer.plan.step import Reporter, Step, World
from nanocontainer.plan.wire import Wire

from .own_steps import private_kinds

with private_kinds():

    class Clone(Step):
        """Stands for the real one: no namespaces, so no root."""

        side = "host"

        def do(self, world: World) -> None:
            world["pid"] = world.kernel.fork()

    class Say(Step):
        """Writes a letter down a pipe that both halves have."""

        letter: str

        def do(self, world: World) -> None:
            os.write(world["pipe"], self.letter.encode())

    class SayOnHost(Say):
        side = "host"

    class Leave(Step):
        """Leaves something behind."""

        side = "host"
        residue = "disk"
        what: str = "x"

        def do(self, world: World) -> None:
            os.write(world["pipe"], b"L")

        def undo(self, world: World) -> None: ...

    class Fail(Step):
        """Fails, inside."""

        def do(self, world: World) -> None:
            raise world["error"]

    class FailOnHost(Fail):
        side = "host"

    class Die(Step):
        """Is killed."""

        def do(self, world: World) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

    class Exec(Step):
        """Becomes a program: the wire closes."""

        code: str = "0"

        def do(self, world: World) -> NoReturn:
            os.execv("/bin/sh", ["sh", "-c", f"exit {self.code}"])

    OWN = dict(Step.kinds)


@pytest.fixture(autouse=True)
def known() -> Iterator[None]:
    """The steps of this file are known, under the names of real ones too."""
    with private_kinds():
        Step.kinds.update(OWN)
        yield


class Run:
    """One execution, and what was said in it."""

    def __init__(self, *steps: Step, error: BaseException | None = None, journal: Journal | None = None) -> None:
        read_end, write_end = os.pipe()
        world = World(Kernel())
        world["pipe"], world["error"] = write_end, error
        self.failure: BaseException | None = None
        self.code: int | None = None
        self.reports: list[str] = []
        execution = Execution(Plan(steps), world, journal, Watching(self.reports))
        try:
            execution.run()
            if "pid" in world.slots:
                self.code = os.waitstatus_to_exitcode(os.waitpid(world["pid"], 0)[1])
        except errors.NanoError as failure:
            self.failure = failure
            execution.close()
        finally:
            os.close(write_end)
        with open(read_end) as said:
            self.said = said.read()
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)  # no zombie, whatever happened


class Watching(Reporter):
    def __init__(self, reports: list[str]) -> None:
        self.reports = reports

    def before(self, index: int, step: Step) -> None:
        self.reports.append(f"before {index}")

    def after(self, index: int, step: Step) -> None:
        self.reports.append(f"after {index}")

    def failed(self, index: int, step: Step, error: BaseException) -> None:
        self.reports.append(f"failed {index}")


def test_both_halves_in_order() -> None:
    run = Run(SayOnHost("1"), Clone(), Say("2"), Say("3"), Exec("7"))
    assert (run.said, run.code, run.failure) == ("123", 7, None)
    assert run.reports == ["before 0", "after 0", "before 1", "after 1"]  # the inside half reports to its own copy


def test_host_only() -> None:
    assert Run(SayOnHost("1"), SayOnHost("2")).said == "12"


@pytest.mark.parametrize("round", range(5))
def test_sync_points_keep_the_order(round: int) -> None:
    one_two = SayOnHost("1"), SayOnHost("2")
    rest = Say("3"), SayOnHost("4"), Say("5"), Say("6"), SayOnHost("7"), Exec()
    assert Run(Clone(), *one_two, *rest).said == "1234567"


@pytest.mark.parametrize("error", [
    errors.CommandNotFound("cannot run x", "not there", "look"),
    errors.CommandNotExecutable("cannot run x", "no right"),
    errors.NotFound("a"), errors.Conflict("b", "c"), errors.Unsupported("d", "e", "f"),
])  # fmt: skip
@pytest.mark.parametrize("inside", [True, False])
def test_errors_keep_their_class_and_words(error: errors.NanoError, inside: bool) -> None:
    run = Run(Clone(), Fail(), Exec(), error=error) if inside else Run(FailOnHost(), error=error)
    assert type(run.failure) is type(error)
    assert isinstance(run.failure, errors.NanoError)
    assert (run.failure.what, run.failure.why, run.failure.hint) == (error.what, error.why, error.hint)


def test_an_os_error_gets_the_steps_name_and_a_hint() -> None:
    for run in (Run(Clone(), Fail(), Exec(), error=OSError(1, "mount: not permitted", "/x")),
                Run(FailOnHost(), error=OSError(1, "mount: not permitted", "/x"))):  # fmt: skip
        assert isinstance(run.failure, errors.StepFailed)
        assert run.failure.what.startswith("step Fail")
        assert run.failure.why == "/x: mount: not permitted"
        assert "root" in run.failure.hint


def test_what_is_no_expected_error_is_a_bug_and_says_so() -> None:
    run = Run(Clone(), Fail(), Exec(), error=ValueError("odd"))
    assert isinstance(run.failure, errors.StepFailed)
    assert run.failure.why == "ValueError: odd"
    assert "bug" in run.failure.hint


def test_very_long_words_still_get_over_the_wire() -> None:
    run = Run(Clone(), Fail(), Exec(), error=errors.NotFound("n" * 20_000, "é" * 20_000, "\udcff" * 5000))
    assert isinstance(run.failure, errors.NotFound)
    assert len(run.failure.what) == 1000


def test_failure_stops_the_inside_half_where_it_stands() -> None:
    run = Run(Clone(), Say("1"), Fail(), Say("2"), Exec(), error=OSError(2, "x"))
    assert run.said == "1"


def test_a_late_import_inside_fails_loudly() -> None:
    class Import(Step):
        def do(self, world: World) -> None:
            import this  # noqa: F401

    run = Run(Clone(), Import(), Exec())
    assert isinstance(run.failure, errors.StepFailed)
    assert "this" in run.failure.why


def test_a_child_that_is_killed_while_the_host_waits() -> None:
    run = Run(Clone(), Die(), SayOnHost("1"), Exec())
    assert isinstance(run.failure, errors.StepFailed)
    assert "gone" in run.failure.what
    assert run.said == ""


def test_a_child_that_is_killed_at_the_end_has_its_signal_as_exit_code() -> None:
    assert Run(Clone(), Die(), Exec()).code == -9


def test_a_failing_host_step_after_the_clone_ends_the_child() -> None:
    run = Run(Clone(), FailOnHost(), Say("1"), Exec(), error=OSError(5, "x"))
    assert isinstance(run.failure, errors.StepFailed)
    assert run.said == ""


def test_what_has_a_residue_is_journalled_before_it_acts(tmp_path: object) -> None:
    path = f"{tmp_path}/journal"
    journal = Journal(path, "boot")
    seen = []

    class Look(Step):
        side = "host"
        residue = "disk"

        def do(self, world: World) -> None:
            seen.extend(entry.name for entry in read(path))

        def undo(self, world: World) -> None: ...

    Run(SayOnHost("1"), Look(), Leave("y"), journal=journal)
    journal.close()
    assert seen == ["Look"]
    assert [entry.name for entry in read(path)] == ["Leave", "Look"]


def test_a_journal_that_cannot_be_written_stops_the_step(tmp_path: object) -> None:
    run = Run(Leave(), journal=Journal(f"{tmp_path}/missing/journal", "boot"))
    assert isinstance(run.failure, errors.StepFailed)
    assert run.said == ""


def test_no_file_is_left_open() -> None:
    before = os.listdir("/proc/self/fd")
    Run(Clone(), Say("1"), SayOnHost("2"), Exec())
    Run(Clone(), Fail(), Exec(), error=OSError(2, "x"))
    Run(FailOnHost(), Clone(), Exec(), error=OSError(2, "x"))
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_failure_of_leaves_our_own_errors_alone() -> None:
    error = errors.NotFound("a", "b")
    assert failure_of(SayOnHost("1"), error) is error


# --- the wire


def test_wire_words() -> None:
    one, other = Wire.pair()
    one.go()
    assert other.wait() is True
    other.say({"kind": "NotFound", "what": "ü", "n": 3})
    assert one.wait() == {"kind": "NotFound", "what": "ü", "n": 3}
    one.close()
    assert other.wait() is False
    other.go()  # nobody hears it: no error
    other.say({"a": "b"})
    other.close()


def test_wire_is_closed_at_exec() -> None:
    one, other = Wire.pair()
    assert not os.get_inheritable(one.fileno())
    assert not os.get_inheritable(other.fileno())
    one.close()
    other.close()


def test_an_unread_word_does_not_hide_the_end() -> None:
    one, other = Wire.pair()
    one.go()
    other.close()  # unread: a stream socket would say ECONNRESET
    assert one.wait() is False
    one.close()
