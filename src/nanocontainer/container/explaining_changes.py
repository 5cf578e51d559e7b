"""What a live change of a container would do, for --explain: nothing is claimed, and nothing is done."""

from __future__ import annotations

from ..network import allot
from ..plan.explanation import NOTES, ExplainedStep, ExplainedUndo, Explanation, act, explain, undo_of
from ..plan.journal import Held
from ..plan.plan import Plan
from ..plan.rehearsal import Rehearsal
from .amending import RUNNING, Live

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..network.allot import Binding, Endpoint
    from ..network.leases import Attachment
    from ..network.model import Network
    from ..plan.step import Step
    from .amending import Amendment, Change
    from .lifecycle import Lifecycle
    from .spec import Container, Spec


class _Imagined(Live):
    """A running container that is only looked at: what a change would claim is imagined."""

    def __init__(self, life: Lifecycle, container: Container) -> None:
        self.life, self.container, self.id = life, container, container.id
        self.spec, self.state, self.kernel = container.spec, container.state, life.kernel
        self._journal = Held(f"{life.paths.container(container.id)}/journal")  # not held: it is read once

    def claim_ports(self, wishes: Iterable[Binding], *, ipv6: bool) -> tuple[Binding, ...]:
        return tuple(port if port.host_port else port.replace(host_port=allot.DYNAMIC[0]) for port in wishes)

    def claim_endpoint(self, network: Network, wish: Attachment, interface: str) -> Endpoint:
        return allot.imagine_endpoint(network, wish, interface, "veth0")


def explain_change(life: Lifecycle, id: str, change: Change, command: str) -> Explanation:
    """The explanation of a change, of a container that runs or does not."""
    container = life.store.load(id)
    spec = change.amended(container)
    stage = Rehearsal(("netns",), owner=id)
    if container.state.status not in RUNNING:
        about = f"Container {spec.name} does not run: only its specification is amended, for its next start."
        return Explanation(command, about, _numbered([_amend(stage, life, spec)]), notes=NOTES)
    made = change.live(_Imagined(life, container), spec)
    plan = explain(Plan(made.steps, ("netns",)).validate()) if made.steps else None
    added, gone = len(made.steps) + len(made.after), len(made.undo)
    said = [
        f"{number} step{'s' * (number > 1)} {word}"
        for number, word in ((added, "done"), (gone, "taken back"))
        if number
    ]
    about = (
        f"Container {spec.name} runs on meanwhile: {', '.join(said) or 'nothing of the kernel changes'}. Who is killed "
        "meanwhile leaves a mark, by which the next command takes all of the change back, or does the rest."
    )
    steps = _begin(stage, life, id)
    undo = tuple(one.replace(number=one.number + len(steps)) for one in plan.undo) if plan else ()
    steps += [*(plan.steps if plan else ()), *_rest(stage, life, spec, made)]
    return Explanation(command, about, _numbered(steps), undo, ("netns",), NOTES)


def _begin(stage: Rehearsal, life: Lifecycle, id: str) -> list[ExplainedStep]:
    directory = life.paths.container(id)
    os = stage.stand_in("os")
    held = stage.copy_of("plan.journal").Held(f"{directory}/journal")
    return [
        act(stage, "HoldJournal", "Lock the container's journal: one change at a time, and the end of the container "
            "waits for it (flock(2)).", held.__enter__),
        act(stage, "MarkChange", "Leave a mark that a change is under way, and how long the journal was before it "
            "(symlink(2)).", lambda: os.symlink("SIZE NUMBER", f"{directory}/change")),
    ]  # fmt: skip


def _rest(stage: Rehearsal, life: Lifecycle, spec: Spec, made: Amendment) -> list[ExplainedStep]:
    """From the keeper's sockets to the end of the change."""
    directory = life.paths.container(spec.id)
    os, store = stage.stand_in("os"), stage.store(life)
    steps = [_told("HandOverSocket", f"Give the keeper the socket that holds {slot[5:]}, so that the port is taken as "
                   "long as the container runs (unix(7), SCM_RIGHTS).")
             for step in made.steps for slot in step.writes() if slot.startswith("port ")]  # fmt: skip
    steps.append(
        act(stage, "Commit", "Write state.json: from here on the change is made, and what follows can be done by "
            "anybody (rename(2)).", lambda: store.save(spec.id, stage.twin(made.state)))
    )  # fmt: skip
    steps += [
        _told("LetGoOfSocket", f"Have the keeper close the socket that holds {slot[5:]} (unix(7)).")
        for step in made.undo
        if (slot := str(getattr(step, "slot", ""))).startswith("port ")
    ]
    steps += [_as_step(undo_of(stage, 0, step)) for step in made.undo]
    steps += [_done(stage, step) for step in made.after]
    for name in made.files:
        steps.append(_told("RewriteFile", f"Write the container's /etc/{name} anew into the file that is mounted there "
                           "(open(2), O_TRUNC)."))  # fmt: skip
    steps.append(_amend(stage, life, spec))
    steps.append(
        act(stage, "EndChange", "All is done: the mark goes (unlink(2)).", lambda: os.unlink(f"{directory}/change"))
    )
    return steps


def _amend(stage: Rehearsal, life: Lifecycle, spec: Spec) -> ExplainedStep:
    store = stage.store(life)
    return act(
        stage, "AmendSpecification", "Write spec.json, so that its next start has the change too (rename(2)).",
        lambda: store.amend(spec.id, stage.twin(spec)),
    )  # fmt: skip


def _done(stage: Rehearsal, step: Step) -> ExplainedStep:
    return act(stage, type(step).__name__, step.explain(), lambda: stage.do(step)).replace(
        residue=step.residue, calls=explain(Plan((step,), step.reads())).steps[0].calls
    )


def _as_step(undo: ExplainedUndo) -> ExplainedStep:
    return ExplainedStep(0, f"Undo{undo.name}", "host", "", undo.sentence, (), undo.calls, (), ())


def _told(name: str, sentence: str) -> ExplainedStep:
    """Something that a process is told: one message."""
    return ExplainedStep(0, name, "host", "", sentence, (), (), (), ())


def _numbered(steps: list[ExplainedStep]) -> tuple[ExplainedStep, ...]:
    return tuple(step.replace(number=number) for number, step in enumerate(steps, 1))
