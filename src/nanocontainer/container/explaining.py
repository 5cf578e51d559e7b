"""What verbs on containers would do, for --explain: nothing is done, and nothing is swept or settled on the way.

`start` and `exec` are plans, and explained as those. `create`, `stop`, `kill` and `rm` are a few acts and the undo of
what the container's real journal names: their own code is rehearsed (plan/rehearsal.py), act by act.
"""

from __future__ import annotations

import os
import time

from ..clock import rfc3339
from ..errors import Conflict, NotFound, NotPermitted, NotRunning
from ..image.model import Image, ImageConfig
from ..network import allot, names
from ..plan import journal
from ..plan.explanation import NOTES, ExplainedStep, ExplainedUndo, Explanation, act, explain, undo_of
from ..plan.rehearsal import Rehearsal
from ..runtime import limits
from . import planner, residues  # noqa: F401 (residues: so that the journal's steps are known)
from .exec import environment, null_streams
from .joining import plan_exec
from .locks import holder
from .signalling import number_of
from .spec import Container, Spec, State
from .starting import devices

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..kernel.facts import Facts
    from ..plan.plan import Plan
    from .lifecycle import Lifecycle

IMAGINED_ID = "0123456789ab"  # readable; a real one has 64 digits
IMAGINED_IMAGE = Image(id="sha256:" + "0" * 64, config=ImageConfig(cmd=("sh",)))
_RUNNING = ("running", "paused")


def image_of(life: Lifecycle, name: str) -> tuple[Image, dict[str, str]]:
    """An image and its layers (ImageStore.layer_places); one that is made up, of one layer named IMAGE, where it is not
    here or only root can read it."""
    try:
        image = life.images.find(name)
        return image, life.images.layer_places(image)
    except (NotFound, NotPermitted):
        return IMAGINED_IMAGE, {f"{life.paths.images}/layers/IMAGE": ""}


def plan_of_run(life: Lifecycle, wish: Spec, host: Facts) -> Plan:
    """The plan of `run`. Nothing is claimed, nothing is made, no root is needed: id, address and ports are imagined,
    and the image as image_of() says."""
    image, layers = image_of(life, wish.image)
    name = wish.name or "explained"
    spec = planner.resolve(wish, image, id=IMAGINED_ID, name=name, created=rfc3339(time.time_ns()),
                           nodename=os.uname().nodename)
    return _imagined(life, spec, layers, host)


def plan_of_start(life: Lifecycle, container: Container, host: Facts) -> Plan:
    """The plan of starting a container that exists. Conflict where it runs."""
    spec = container.spec
    if container.state.status in _RUNNING:
        hint = f"stop it first: stop {spec.name}"
        raise Conflict(f"container {spec.name} is running", "there is nothing to start", hint)
    return _imagined(life, spec, life.images.layer_places(life.images.find(spec.image_id)), host)


def _imagined(life: Lifecycle, spec: Spec, layers: dict[str, str], host: Facts) -> Plan:
    """As starting.bring_up() plans, with an address and ports that a start would claim."""
    volumes = life.paths.volumes
    sources = tuple(
        planner.Source(mount.source if mount.kind == "bind" else f"{volumes}/{mount.source or spec.id}/_data")
        for mount in spec.mounts
    )
    allotment = allot.imagine(spec, life.paths)
    inputs = planner.Inputs(
        layers=tuple(layers), images={place: file for place, file in layers.items() if file}, sources=sources,
        files=names.files(spec, allotment), devices=devices(spec),
    )  # fmt: skip
    wish = spec.replace(limits=limits.numbered(spec.limits))
    return planner.plan_start(wish, inputs, host, allotment, life.paths)


def plan_of_exec(
    life: Lifecycle,
    container: Container,
    host: Facts,
    args: Sequence[str],
    *,
    env: Sequence[str] = (),
    cwd: str = "",
    user: str = "",
    tty: bool = False,
    stdin: bool = False,
    detach: bool = False,
    privileged: bool = False,
    size: tuple[int, int] = (0, 0),
) -> Plan:
    """The plan of one more command. NotRunning."""
    spec, state = container.spec, container.state
    if state.status not in _RUNNING:
        raise NotRunning(f"container {spec.name} is not running", "", f"start it first: start {spec.name}")
    return plan_exec(
        spec, host, pid=state.pid, cgroup=state.cgroup, groups1=state.groups, args=tuple(args),
        env=environment(spec.env, env, tty), cwd=cwd, user=user, tty=tty, privileged=privileged, paths=life.paths,
        null=null_streams(stdin, detach=detach, direct=False), size=size,
    )  # fmt: skip


def create(life: Lifecycle, wish: Spec) -> Explanation:
    """`create`: a name is claimed, directories are made, the specification is written down. Nothing is started."""
    image, (*_, layer) = image_of(life, wish.image)
    id = IMAGINED_ID
    spec = planner.resolve(wish, image, id=id, name=wish.name or "some_name", created=rfc3339(time.time_ns()),
                           nodename=os.uname().nodename)
    stage = _stage(id)
    store = stage.store(life)
    steps = (
        act(stage, "ClaimName", "Take the name: a symlink to the container's id, which symlink(2) makes or "
            "refuses, so that no two containers get one name.",
            lambda: store.claim_name(spec.name, id, lambda other: False)),
        act(stage, "MakeDirectories", "Make the container's directory with upper/ and work/ for overlayfs, and "
            "write spec.json, whole or not at all (rename(2)).", lambda: store.make(stage.twin(spec), layer)),
        act(stage, "SaveState", "Write state.json: the container exists, and has not been started (rename(2)).",
            lambda: store.save(id, stage.twin(State()))),
        act(stage, "NoteEvent", "Tell of it in events.log (write(2), O_APPEND).",
            lambda: stage.copy_of("container.events").emit(stage.twin(life.paths), "container", "create", id)),
    )  # fmt: skip
    about = "4 acts on the disk; no process is started, and nothing of the kernel's is made. rm takes all of it back."
    return Explanation("create", about, _numbered(steps), notes=NOTES)


def stop(life: Lifecycle, container: Container, timeout: int | None, signal: str) -> Explanation:
    """`stop` of a running container: signals, and what the keeper takes back after its end."""
    spec, state = container.spec, container.state
    if state.status not in _RUNNING:
        raise NotRunning(f"container {spec.name} is not running", "there is nothing to stop")
    seconds = spec.stop_timeout if timeout is None else timeout
    number = number_of(signal or spec.stop_signal or "TERM")
    stage = _stage(spec.id, state)
    steps = [_send(stage, container, number, f"Ask the container's first process to end: signal {number} (signal(7))"),
             _wait(stage, container, seconds)]  # fmt: skip
    if number != 9:
        steps += [
            _send(stage, container, 9, "If it still runs, kill it: SIGKILL cannot be caught (signal(7))"),
            _wait(stage, container, 10),
            act(stage, "KillAll", "If it has not ended even so, kill every process of its cgroup at once "
                "(cgroups(7), cgroup.kill).",
                lambda: stage.copy_of("runtime.cgroup").kill_all(stage.kernel, state.cgroup)),
        ]  # fmt: skip
    if state.status == "paused":
        steps.insert(0, _thaw(stage, state))
    patience = "waited for as long as it takes" if seconds < 0 else f"killed after {seconds} seconds"
    then, undo = _end(stage, life, spec)
    about = f"Container {spec.name} is asked to end, and {patience}. {then}"
    return Explanation("stop", about, _numbered(steps), undo, notes=NOTES)


def kill(life: Lifecycle, container: Container, signal: str) -> Explanation:
    """`kill` of a running container: one signal, and where that is SIGKILL its end."""
    spec, state = container.spec, container.state
    if state.status not in _RUNNING:
        raise NotRunning(f"cannot kill container {spec.name}", "it is not running")
    number = number_of(signal or "KILL")
    stage = _stage(spec.id, state)
    if number != 9:
        step = _send(stage, container, number, f"Send signal {number} (signal(7)) to the container's first process")
        about = f"Container {spec.name} gets a signal. What comes of it is up to its command: the container may run on."
        return Explanation("kill", about, _numbered([step]), notes=NOTES)
    steps = [
        _send(stage, container, 9, "Kill the container's first process, and with it all others (signal(7))"),
        _wait(stage, container, 10),
    ]
    then, undo = _end(stage, life, spec)
    return Explanation("kill", f"Container {spec.name} is killed. {then}", _numbered(steps), undo, notes=NOTES)


def restart(life: Lifecycle, container: Container, timeout: int | None, host: Facts) -> list[Explanation]:
    """`restart`: stop where it runs, and start."""
    first = [stop(life, container, timeout, "")] if container.state.status in _RUNNING else []
    at_rest = container.replace(state=State(status="exited"))
    return [*first, explain(plan_of_start(life, at_rest, host), "start")]


def remove(life: Lifecycle, container: Container, *, force: bool, volumes: bool) -> Explanation:
    """`rm`: with force a running one is killed first. Conflict where it runs and force is not said."""
    spec, state = container.spec, container.state
    running = state.status in _RUNNING and holder(life.paths, spec.id)
    if running and not force:
        raise Conflict(f"cannot remove container {spec.name}", "it is running", "stop it first, or use rm -f")
    stage = _stage(spec.id, state)
    steps: list[ExplainedStep] = []
    if running:
        steps = [
            _send(stage, container, 9, "Kill the container's first process, and with it all others (signal(7))"),
            _wait(stage, container, 10),
        ]
    undo = _undo(stage, life, spec)
    if undo:
        undo += _forget(stage, life, spec)
    undo += _remove(stage, life, spec, anonymous=volumes)
    about = f"Container {spec.name} is {'killed, taken down and ' if running else ''}removed, with all it has written."
    return Explanation("rm", about, _numbered(steps), undo, notes=NOTES)


# --- acts


def _stage(id: str, state: State | None = None) -> Rehearsal:
    stage = Rehearsal((), owner=id)
    if state is not None and state.pid:  # what signalling asks before it believes a number
        parents = " ".join(("S", str(state.keeper), *("0" for _ in range(48))))
        stage.machine.contents[f"/proc/{state.pid}/stat"] = f"{state.pid} (init) {parents}\n".encode()
    return stage


class _Life:
    """What signalling asks of a Lifecycle: whether the container still runs. It does."""

    def running(self, id: str) -> bool:
        return True


def _send(stage: Rehearsal, container: Container, number: int, words: str) -> ExplainedStep:
    spec, state = stage.twin(container.spec), stage.twin(container.state)
    of = stage.copy_of("container.spec").Container(spec, state)
    sentence = (
        f"{words}, sent to an open file of the process (pidfd_open(2)) that was checked to be the keeper's child, so "
        "that it never hits a stranger with the same number."
    )
    send = stage.copy_of("container.signalling").send
    return act(stage, "SendSignal", sentence, lambda: send(_Life(), of, number))


def _wait(stage: Rehearsal, container: Container, seconds: int) -> ExplainedStep:
    limit = "as long as it takes" if seconds < 0 else f"at most {seconds} seconds"
    holders = iter((container.state.keeper, container.state.keeper, 0))
    wait = stage.copy_of("container.signalling").wait_for_end
    return act(
        stage, "WaitForEnd",
        f"Wait until the keeper has let go of the container, {limit}: poll(2) of its pidfd wakes when it ends.",
        lambda: wait(lambda: next(holders, 0), 0.0),
    )  # fmt: skip


def _thaw(stage: Rehearsal, state: State) -> ExplainedStep:
    stage.machine.contents[f"{state.cgroup}/cgroup.events"] = b"populated 1\nfrozen 0\n"
    freeze = stage.copy_of("runtime.cgroup").freeze
    return act(stage, "Unpause", "Let its processes go on: a frozen one gets no signal but SIGKILL "
               "(cgroups(7), cgroup.freeze).", lambda: freeze(stage.kernel, state.cgroup, False))  # fmt: skip


def _end(stage: Rehearsal, life: Lifecycle, spec: Spec) -> tuple[str, tuple[ExplainedUndo, ...]]:
    """What the keeper takes back when its container has ended: in a sentence, and each."""
    undo = _undo(stage, life, spec)
    ends = _forget(stage, life, spec) + (_remove(stage, life, spec, anonymous=True) if spec.auto_remove else ())
    stays = " and deletes it (--rm)" if spec.auto_remove else "; what it has written stays"
    return f"Its keeper then takes back the {len(undo)} steps of its journal{stays}.", (*undo, *ends)


def _undo(stage: Rehearsal, life: Lifecycle, spec: Spec) -> tuple[ExplainedUndo, ...]:
    """What the journal names, newest first: recover() does the same (plan/journal.py)."""
    return tuple(
        undo_of(stage, 0, entry.step)
        for entry in journal.read(f"{life.paths.container(spec.id)}/journal")
        if entry.step is not None and not (entry.step.residue == "kernel" and entry.boot != life.boot)
    )


def _forget(stage: Rehearsal, life: Lifecycle, spec: Spec) -> tuple[ExplainedUndo, ...]:
    """After the undo: the journal goes, and the state says how it ended."""
    file = f"{life.paths.container(spec.id)}/journal"
    store = stage.store(life)
    made = [
        act(stage, "DropJournal", "All is taken back: the journal goes (unlink(2)).",
            lambda: stage.stand_in("os").unlink(file)),
    ]  # fmt: skip
    if not spec.auto_remove:
        made.append(
            act(stage, "SaveState", "Write state.json: exited, with its exit code (rename(2)).",
                lambda: store.save(spec.id, stage.twin(State(status="exited"))))
        )  # fmt: skip
    return tuple(_as_undo(one) for one in made)


def _remove(stage: Rehearsal, life: Lifecycle, spec: Spec, *, anonymous: bool) -> tuple[ExplainedUndo, ...]:
    steps: list[ExplainedStep] = []
    if anonymous:
        own = (mount.source for mount in spec.mounts if mount.kind == "volume" and "anonymous" in mount.options)
        steps += [_remove_volume(stage, life, name) for name in own]
    store = stage.store(life)
    steps.append(
        act(stage, "RemoveContainer", "Delete the container: its directory is renamed, from which moment it "
            "does not exist any more; its name is given back; then all it has written is deleted, by open directories "
            "that no link leads out of (rename(2), unlink(2)).", lambda: store.remove(spec.id, spec.name))
    )  # fmt: skip
    return tuple(_as_undo(one) for one in steps)


def _remove_volume(stage: Rehearsal, life: Lifecycle, name: str) -> ExplainedStep:
    remove = stage.copy_of("rootfs.volumes").remove
    return act(
        stage, "RemoveVolume",
        f"Delete the anonymous volume {name[:12]}, which only this container names: renamed first, then emptied "
        "(rename(2)).", lambda: remove(stage.twin(life.paths), name),
    )  # fmt: skip


def _as_undo(step: ExplainedStep) -> ExplainedUndo:
    return ExplainedUndo(0, step.name, step.sentence, step.calls)


def _numbered(steps: Sequence[ExplainedStep]) -> tuple[ExplainedStep, ...]:
    return tuple(step.replace(number=number) for number, step in enumerate(steps, 1))
