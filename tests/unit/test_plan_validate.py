"""Plan.validate: each of its rules, broken once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import pytest

from nanocontainer.plan.plan import BadPlan, Plan
from nanocontainer.plan.step import Step, World
from nanocontainer.runtime.cgroup import MakeCgroup
from nanocontainer.runtime.confine import BoundCapabilities, LoadSeccomp, NoNewPrivs, SetCapabilities
from nanocontainer.runtime.identity import SetIds
from nanocontainer.runtime.namespaces import Clone
from nanocontainer.runtime.process import Exec

from .own_steps import private_kinds


@pytest.fixture(autouse=True)
def kinds_as_they_were() -> Iterator[None]:
    """The steps of this file are not the engine's."""
    with private_kinds():
        yield


def host(reads: tuple[str, ...] = (), writes: tuple[str, ...] = ()) -> Step:
    class HostStep(Step):
        side = "host"
        needs: tuple[str, ...] = ()
        gives: tuple[str, ...] = ()

        def reads(self) -> tuple[str, ...]:
            return self.needs

        def writes(self) -> tuple[str, ...]:
            return self.gives

    return HostStep(reads, writes)


with private_kinds():

    class Inside(Step):
        pass



CLONE = Clone(("mnt",))
GIVEN = ("cgroup", "uid", "gid", "groups", "home", "filter", "filter_flags", "launcher", "wire")


def test_a_good_plan_is_returned() -> None:
    plan = Plan((host(writes=("a",)), host(reads=("a",)), CLONE, Inside()), GIVEN)
    assert plan.validate() is plan
    assert len(Plan(()).validate()) == 0
    assert Plan((host(),)).validate()


def broken(*steps: Step, given: tuple[str, ...] = GIVEN) -> str:
    with pytest.raises(BadPlan) as caught:
        Plan(steps, given).validate()
    return caught.value.why


def test_a_slot_is_filled_before_it_is_read() -> None:
    assert "reads slot 'a'" in broken(host(reads=("a",)), host(writes=("a",)))


def test_a_step_cannot_read_what_it_fills_itself() -> None:
    assert "reads slot 'a'" in broken(host(reads=("a",), writes=("a",)))


def test_a_slot_is_filled_once() -> None:
    assert "second time" in broken(host(writes=("a",)), host(writes=("a",)))
    assert "second time" in broken(host(writes=("a",)), given=("a",))


def test_inside_steps_need_a_clone_before_them() -> None:
    assert "exactly one Clone" in broken(Inside())
    assert "exactly one Clone" in broken(Inside(), CLONE, Inside())


def test_one_clone_only() -> None:
    class Born(Clone):
        def writes(self) -> tuple[str, ...]:
            return ()

    Born.__name__ = "Clone"
    assert "exactly one Clone" in broken(CLONE, Born(()), Inside())


def test_the_last_step_is_inside() -> None:
    assert "stands after the command" in broken(CLONE, Inside(), host())


def test_a_residue_needs_an_undo() -> None:
    class Leaves(Step):
        side = "host"
        residue = "disk"

    assert "undo does not fit" in broken(Leaves())


def test_an_undo_needs_a_residue() -> None:
    class Undoes(Step):
        side = "host"

        def undo(self, world: World) -> None: ...

    assert "undo does not fit" in broken(Undoes())


def test_nothing_outlives_init_from_inside() -> None:
    class Leaks(Step):
        residue: ClassVar = "disk"

        def undo(self, world: World) -> None: ...

    assert "from inside" in broken(CLONE, Leaks())


def test_the_cgroup_comes_before_the_clone() -> None:
    class Early(Clone):
        def reads(self) -> tuple[str, ...]:
            return ()

    Early.__name__ = "Clone"
    assert "cgroup must be there" in broken(Early(()), MakeCgroup("/c"), Inside(), given=())


BOUND, IDS, CAPS, NNP, FILTER = BoundCapabilities(0, 40), SetIds(), SetCapabilities(0), NoNewPrivs(), LoadSeccomp()
EXEC = Exec(("a",), ())


@pytest.mark.parametrize(
    "order",
    [
        (BOUND, IDS, CAPS, NNP, FILTER, EXEC),
        (FILTER, BOUND, IDS, CAPS, EXEC),
        (BOUND, IDS, CAPS, EXEC),
        (BOUND, IDS, CAPS, NNP, EXEC),
        (EXEC,),
    ],
)
def test_good_security_orders(order: tuple[Step, ...]) -> None:
    Plan((CLONE, *order), GIVEN).validate()


@pytest.mark.parametrize(
    "order",
    [
        (IDS, BOUND, CAPS, EXEC),  # without CAP_SETPCAP the bounding set cannot be dropped
        (BOUND, CAPS, IDS, EXEC),  # without CAP_SETUID there is no change of ids
        (FILTER, BOUND, IDS, CAPS, NNP, EXEC),  # the filter first and no_new_privs: late order is possible, so demanded
        (BOUND, IDS, CAPS, FILTER, NNP, EXEC),
        (NNP, BOUND, IDS, CAPS, EXEC),
        (EXEC, BOUND),
        (BOUND, BOUND, IDS, CAPS, EXEC),
    ],
)
def test_bad_security_orders(order: tuple[Step, ...]) -> None:
    assert "wrong order" in broken(CLONE, *order)
