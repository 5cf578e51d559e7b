"""A plan explained: what each step does in a sentence, its system calls, and what takes it back.

Nothing is executed and no root is needed: the calls come from a rehearsal (rehearsal.py). How an explanation looks is
a matter of the faces (cmd/explain_*.py); this is its data, and `as_dict` of it is what `--explain=json` prints:

    command   what was asked for, such as "run"            about     a sentence on all of it
    given     slots that are filled before the first step   notes     what holds for all of it, in sentences
    steps     in the order in which they happen             undo      what is taken back, in that order

    step      number, name (the class), side ("host" or "inside"), residue ("init": the kernel takes it back when the
              container's first process dies; "kernel", "disk": it outlives that and is undone; "": an act of a
              verb that is no plan), sentence, manual (pages
              that the sentence and the calls belong to), calls, reads and writes (slots), sync ("" or who waits:
              "inside waits for host")
    call      name, args (in notation, kernel/notation.py), result ("" or a name or an error), manual
    undo      number and name of the step, sentence, calls
"""

from __future__ import annotations

import re

from ..record import Record
from .rehearsal import Rehearsal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..kernel.notation import Call
    from .plan import Plan
    from .step import Step

_PAGE = re.compile(r"\b([a-z_][\w.+-]*\(\d(?:const)?\)|PR_\w+\(2const\))", re.IGNORECASE)
# Where a sentence goes on to say why, how, or what then
_REST = re.compile(r": |; | \(|, (?=(?:so|because|which|and|before|where|for|by|until|as|than|to|gone)\b)")
# The pages of calls that have none under their own name
_PAGES = {
    "clone3": "clone(2)", "exit_group": "exit_group(2)", "openat": "open(2)", "fstatat": "stat(2)", "fstat": "stat(2)",
    "mkdirat": "mkdir(2)", "mknodat": "mknod(2)", "symlinkat": "symlink(2)", "readlinkat": "readlink(2)",
    "unlinkat": "unlink(2)", "fchown": "chown(2)", "fchownat": "chown(2)", "fchmod": "chmod(2)",
    "fchmodat": "chmod(2)", "fchdir": "chdir(2)", "dup2": "dup(2)", "setresgid": "setresuid(2)", "umount2": "umount(2)",
    "sendto": "rtnetlink(7)", "recvfrom": "recv(2)", "setsockopt": "netlink(7)", "rt_sigaction": "sigaction(2)",
    "rt_sigprocmask": "sigprocmask(2)", "prlimit64": "getrlimit(2)", "setdomainname": "getdomainname(2)",
    "sethostname": "gethostname(2)", "flistxattr": "listxattr(2)", "nft": "nft(8)", "wait4": "wait4(2)",
}  # fmt: skip
ORDINARY = frozenset(("close(2)", "open(2)", "read(2)", "write(2)", "stat(2)", "recv(2)", "getpid(2)", "netlink(7)"))


class ShownCall(Record):
    """A system call in strace's notation. name "nft": a whole script of nft(8), run as one netlink transaction."""

    name: str
    args: tuple[str, ...]
    result: str = ""
    manual: str = ""

    @property
    def text(self) -> str:
        """On one line; nft's script on several."""
        if self.name == "nft":
            return self.args[0]
        return f"{self.name}({', '.join(self.args)})" + (f" = {self.result}" if self.result else "")


class ExplainedStep(Record):
    """One step; see the module's text."""

    number: int
    name: str
    side: str
    residue: str
    sentence: str
    manual: tuple[str, ...]
    calls: tuple[ShownCall, ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    sync: str = ""


class ExplainedUndo(Record):
    """What takes a step back. number: of that step, or 0 where it stands for itself."""

    number: int
    name: str
    sentence: str
    calls: tuple[ShownCall, ...]


class Explanation(Record):
    """A whole plan; see the module's text."""

    command: str
    about: str
    steps: tuple[ExplainedStep, ...]
    undo: tuple[ExplainedUndo, ...] = ()
    given: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


NOTES = (
    (
        "What depends on what is found at run time is shown as at a first start on an idle host: files and directories "
        "of the image are there, the network's bridge is not, nothing is in the way."
    ),
    "$names stand for open files, processes and numbers that are known only at run time.",
)


def explain(plan: Plan, command: str = "run", about: str = "") -> Explanation:
    """The explanation of a plan. NanoError where a step could not succeed whatever the host is like."""
    who = next((vars(step) for step in plan if type(step).__name__ == "LookUpUser"), {})
    stage = Rehearsal(plan.given, _owner(plan), str(who.get("user", "")), tuple(who.get("groups", ())))
    steps = []
    for number, step in enumerate(plan, 1):
        calls = _shown(stage, stage.do(step))
        sentence = step.explain()
        steps.append(
            ExplainedStep(
                number,
                type(step).__name__,
                step.side,
                step.residue,
                sentence,
                _manual(sentence, calls),
                calls,
                step.reads(),
                step.writes(),
                _sync(plan.steps[number - 2] if number > 1 else None, step),
            )
        )
    undone = tuple(
        undo_of(stage, number, step)
        for number, step in reversed(tuple(enumerate(plan, 1)))
        if step.residue != "init"
    )
    return Explanation(command, about or _about(plan), tuple(steps), undone, plan.given, NOTES)


def undo_of(stage: Rehearsal, number: int, step: Step) -> ExplainedUndo:
    """The undo of one step."""
    return ExplainedUndo(number, type(step).__name__, undo_sentence(step), _shown(stage, stage.undo(step)))


def act(stage: Rehearsal, name: str, sentence: str, do: Callable[[], object]) -> ExplainedStep:
    """Something that is done and is no step of a plan. do: calls copies of the code that does it."""
    calls = _shown(stage, stage.act(do))
    return ExplainedStep(0, name, "host", "", sentence, _manual(sentence, calls), calls, (), ())


def undo_sentence(step: Step) -> str:
    """What an undo does, in words: the docstring of the step's own undo, or what the residue says."""
    said = (type(step).undo.__doc__ or "").strip()
    return " ".join(said.split()) if said else f"Take back what {type(step).__name__} has left."


def clause(sentence: str) -> str:
    """A sentence up to its first reason, list or manual page: what is done, in a few words and without a full stop."""
    return _REST.split(sentence.removesuffix("."), maxsplit=1)[0]


def _about(plan: Plan) -> str:
    inside = sum(step.side == "inside" for step in plan)
    left = sum(step.residue != "init" for step in plan)
    said = f"{len(plan)} steps, none of them is run: {len(plan) - inside} on the host, {inside} in the new process."
    if not left:
        return f"{said} Nothing is left behind when that process ends."
    return f"{said} {left} leave something that outlives the container, and are undone when it ends."


def _sync(before: Step | None, step: Step) -> str:
    """Whoever is next waits for the other side's word. The new process is born into its turn."""
    if before is None or before.side == step.side or type(before).__name__ == "Clone":
        return ""
    return f"{step.side} waits for {before.side}"


def _owner(plan: Plan) -> str:
    return next((str(vars(step)["id"]) for step in plan if "id" in vars(step)), "")


def _shown(stage: Rehearsal, calls: Iterable[Call]) -> tuple[ShownCall, ...]:
    names = stage.machine.names
    return tuple(
        ShownCall(call.name, call.texts(names), call.returned(names), _PAGES.get(call.name, f"{call.name}(2)"))
        for call in calls
    )


def _manual(sentence: str, calls: tuple[ShownCall, ...]) -> tuple[str, ...]:
    """The pages of the sentence, then those of the calls, without the ordinary ones."""
    of_calls = (call.manual for call in calls if call.manual not in ORDINARY)
    return tuple(dict.fromkeys((*_PAGE.findall(sentence), *of_calls)))
