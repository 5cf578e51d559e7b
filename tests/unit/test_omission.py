"""Steps that are left out: each has its lesson, who needs it falls with it, what endangers the host is refused."""

from __future__ import annotations

import pytest

from nanocontainer.container import joining, planner  # noqa: F401 (so that all steps are known)
from nanocontainer.container.spec import Limits, Mount, Port, Spec, Ulimit
from nanocontainer.engine import Engine
from nanocontainer.errors import InvalidInput
from nanocontainer.plan.omission import OPENINGS, chosen, dangers, find_step, leave_out, needed_by, opening, refuse
from nanocontainer.plan.plan import Plan
from nanocontainer.plan.step import Step

ABSTRACT = {"MountNew", "OpenCgroup", "OpenCgroup1", "OpenContainerRoot"}  # a base, and steps of exec that others read


@pytest.fixture
def plan(tmp_path: object) -> Plan:
    spec = Spec(
        image="tiny", command=("sh",), init=True, read_only=True, ports=(Port(80, 8080),),
        mounts=(Mount("volume", "/d"), Mount("tmpfs", "/t")), limits=Limits(memory=64 << 20), oom_score_adj=5,
        ulimits=(Ulimit("nofile", 5, 6),), security=("no-new-privileges",),
    )  # fmt: skip
    return Engine(str(tmp_path)).explain(spec)


def kinds(plan: Plan) -> list[str]:
    return [type(step).__name__ for step in plan]


def test_each_step_class_has_its_lesson() -> None:
    own = {name for name, kind in Step.kinds.items() if kind.__module__.startswith("nanocontainer.")}
    assert own - ABSTRACT == set(OPENINGS)
    for name, found in OPENINGS.items():
        assert found.opens or found.never, name
        assert not (found.never and found.danger), name
        assert set(found.needed) <= own, name
        if found.opens:
            assert found.opens.endswith("."), name


def test_one_step(plan: Plan) -> None:
    less = leave_out(plan, ["SetHostname"])
    assert kinds(less) == [kind for kind in kinds(plan) if kind != "SetHostname"]
    assert leave_out(plan, []) == plan


def test_every_single_omission_is_whole_or_refused(plan: Plan) -> None:
    """Plan.validate is the judge: what is not refused passes it."""
    for name in dict.fromkeys(kinds(plan)):
        try:
            less = leave_out(plan, [name], forced=True)
        except InvalidInput as error:
            assert error.why, name
            continue
        assert name not in kinds(less)
        less.validate()


def test_who_needs_a_step_goes_with_it(plan: Plan) -> None:
    gone = ("MountProc", "SetSysctls", "MaskPaths", "ProtectPaths")
    assert kinds(leave_out(plan, ["MountProc"])) == [kind for kind in kinds(plan) if kind not in gone]
    left = chosen(plan, ["MountProc"])
    assert {type(plan.steps[at]).__name__: cause for at, cause in left.items()} == dict.fromkeys(gone, "MountProc")
    assert set(kinds(plan)) - set(kinds(leave_out(plan, ["CompileSeccomp"]))) == {"CompileSeccomp", "LoadSeccomp"}
    with pytest.raises(InvalidInput, match="cannot be left out alone"):
        refuse(plan, {plan.find("MountProc")})


def test_a_danger_that_comes_along_must_be_forced(plan: Plan) -> None:
    with pytest.raises(InvalidInput) as caught:
        leave_out(plan, ["MakeDevices"])
    assert caught.value.what == "to leave out ConnectStreams (it needs MakeDevices) endangers the host"
    leave_out(plan, ["MakeDevices"], forced=True)


@pytest.mark.parametrize("name", ["Clone", "Exec", "MakeLauncher", "MakeCgroup", "HoldAddress", "AttachRootfs",
                                  "MountOverlay", "LookUpUser"])  # fmt: skip
def test_what_there_is_no_container_without(plan: Plan, name: str) -> None:
    with pytest.raises(InvalidInput, match=f"{name} cannot be left out"):
        leave_out(plan, [name], forced=True)


@pytest.mark.parametrize("name", ["PivotRoot", "PrivatizeMounts", "BoundCapabilities", "ProtectPaths", "AllowDevices",
                                  "ConnectStreams"])  # fmt: skip
def test_danger_must_be_forced(plan: Plan, name: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        leave_out(plan, [name])
    assert "endangers the host" in caught.value.what
    assert "--force-without" in caught.value.hint
    assert name not in kinds(leave_out(plan, [name], forced=True))


def test_walls_that_stand_for_each_other(plan: Plan) -> None:
    leave_out(plan, ["LoadSeccomp"])
    leave_out(plan, ["JoinSessionKeyring"])
    with pytest.raises(InvalidInput, match="keys"):
        leave_out(plan, ["LoadSeccomp", "JoinSessionKeyring"])


def test_without_a_filter_the_keyring_is_the_only_wall(tmp_path: object) -> None:
    spec = Spec(image="tiny", command=("sh",), security=("seccomp=unconfined",))
    with pytest.raises(InvalidInput, match="endangers"):
        leave_out(Engine(str(tmp_path)).explain(spec), ["JoinSessionKeyring"])


def test_a_file_is_needed_by_its_own_mount_alone(plan: Plan) -> None:
    first = kinds(plan).index("WriteFile")
    path = plan.steps[first].as_dict()["path"]
    assert [plan.steps[at].as_dict()["source"] for at in needed_by(plan, first)] == [path]


def test_who_is_joined_can_look(tmp_path: object) -> None:
    plan = Engine(str(tmp_path)).explain(Spec(image="tiny", command=("sh",)))
    at = {plan.find("HideFromContainer")}
    assert dangers(plan, at) == {}
    clone = plan.find("Clone")
    joined = plan.steps[clone].replace(join_pid=True)
    assert dangers(Plan((*plan.steps[:clone], joined, *plan.steps[clone + 1 :])), at)


def test_names_that_are_none(plan: Plan) -> None:
    with pytest.raises(InvalidInput) as caught:
        leave_out(plan, ["MountPorc"])
    assert "MountProc" in caught.value.hint
    assert caught.value.why == ""  # and no list of all
    with pytest.raises(InvalidInput) as caught:
        leave_out(plan, ["Nothing"])
    assert "PivotRoot" in caught.value.why
    with pytest.raises(InvalidInput, match="no step '3'") as caught:
        leave_out(plan, ["3"])
    assert caught.value.hint == f"by its name: step 3 is {kinds(plan)[2]}"
    with pytest.raises(InvalidInput) as caught:
        leave_out(plan, ["seccomp"])
    assert caught.value.hint == "did you mean CompileSeccomp or LoadSeccomp?"
    assert leave_out(plan, ["mountproc"]) == leave_out(plan, ["MountProc"])
    for word in ("0", "999", "nothing", "", "²"):
        with pytest.raises(InvalidInput):
            find_step(plan, word)
    assert find_step(plan, "1") == 0
    assert find_step(plan, "pivotroot") == kinds(plan).index("PivotRoot")


def test_a_step_nobody_has_thought_about_stays(plan: Plan) -> None:
    from .own_steps import private_kinds

    with private_kinds():

        class Novel(Step):
            """New."""

    assert opening(Novel()).never
    with pytest.raises(InvalidInput):
        refuse(Plan((Novel(), *plan.steps)), {0}, forced=True)


def test_a_specification_remembers(tmp_path: object) -> None:
    engine = Engine(str(tmp_path))
    spec = Spec(image="tiny", command=("sh",), without=("SetHostname",))
    assert engine.explain(spec).find("SetHostname") < 0
    assert Spec.from_dict(spec.as_dict()) == spec
    with pytest.raises(InvalidInput, match="endangers"):
        engine.explain(spec.replace(without=("PivotRoot",)))
    assert engine.explain(spec.replace(without=("PivotRoot",), force_without=True)).find("PivotRoot") < 0
