"""A step: one idea of a container start that a learner can name, and one thing that can fail half-way.

Rules
 1. A step is frozen data. It never branches on the host and never "tries another way": the planner has decided.
 2. A step acts through `world` alone: its kernel and its slots.
 3. `residue` says who cleans up. "init": the kernel does when init dies. "kernel": a named kernel object outlives init.
    "disk": a file does. The last two have `undo`, and are journalled before they act. What others may rely on by then
    (a setting of the whole host) is no residue: it stays, and the step says so.
 4. `undo` may run twice, and for what never happened. It never runs inside a namespace.
 5. Values born at run time (open files, pids) travel in slots: one writer each, earlier than its readers.
"""

from __future__ import annotations

from ..record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar, Literal

    from ..errors import NanoError
    from ..kernel.calls import Kernel
    from .plan import Plan

    Side = Literal["host", "inside"]
    Residue = Literal["init", "kernel", "disk"]


class World:
    """All that a step may touch: the kernel, and the slots filled by the steps before it."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.slots: dict[str, Any] = {}

    def __getitem__(self, slot: str) -> Any:
        return self.slots[slot]

    def __setitem__(self, slot: str, value: Any) -> None:
        self.slots[slot] = value


class Step(Record):
    """Base of all steps. A subclass has fields (its data), a docstring (one sentence for a learner) and methods."""

    side: ClassVar[Side] = "inside"
    residue: ClassVar[Residue] = "init"
    part: ClassVar[str] = ""  # of the exported script, where that is not the side's own: see shell.py
    kinds: ClassVar[dict[str, type[Step]]] = {}
    elsewhere: ClassVar[dict[str, str]] = {}  # class name → module, of kinds that few journals name

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        Step.kinds[cls.__name__] = cls

    @staticmethod
    def named(name: str) -> type[Step] | None:
        """The class of this name; None where no module that we know has it."""
        if name not in Step.kinds and name in Step.elsewhere:
            __import__(Step.elsewhere[name])
        return Step.kinds.get(name)

    def reads(self) -> tuple[str, ...]:
        """The slots this step needs."""
        return ()

    def writes(self) -> tuple[str, ...]:
        """The slots this step fills."""
        return ()

    def do(self, world: World) -> None:
        """Act. OSError and NanoError are reported with the step's name."""
        raise NotImplementedError

    def explain(self) -> str:
        """One sentence for a learner; names the system call and its man page."""
        raise NotImplementedError

    def shell(self) -> str:
        """The step as lines of the exported script (shell.py), which really runs. Slots are variables: $rootfs, $netns.
        What a shell cannot do, or need not, is a comment that says so."""
        raise NotImplementedError

    def asked(self) -> str:
        """What the script makes sure of before it does anything of shell(), or notes how to take it back."""
        return ""

    def undone(self) -> str:
        """What the script does at its end to take shell() back; empty where that goes by itself."""
        return ""

    def refused(self, world: World, errnos: bytes) -> NanoError:
        """What it means that the last step's program could not become the command. Asked on the host's side."""
        raise NotImplementedError

    def undo(self, world: World) -> None:
        """Take back what outlives init. Only steps whose residue is "kernel" or "disk" have one."""
        raise NotImplementedError

    def less(self, other: Step) -> Step | None:
        """What stays of this step when `other`, of the same container, was taken back; None: nothing."""
        return None if self == other else self


NEWLINE = "${newline}"  # as part of a word: a variable of the script


def quote(text: str) -> str:
    """A word for sh on one line: as it is, or in single quotes. A newline in it is the script's variable: lines are
    moved about, and set in and put into documents, and none of that may change a word or end it."""
    if text and all((char.isalnum() and char.isascii()) or char in "_-./:=@%+," for char in text):
        return text
    return "'" + text.replace("'", "'\"'\"'").replace("\n", f"'\"{NEWLINE}\"'") + "'"


def path_word(text: str) -> str:
    """A path for sh, in double quotes, on one line: the script puts variables in the place of directories that it
    names."""
    for char in '\\"$`':
        text = text.replace(char, f"\\{char}")
    return '"' + text.replace("\n", NEWLINE) + '"'


def document(where: str, content: str) -> str:
    """Lines for sh that write a text file."""
    end = end_of(content, "END")
    return f"cat >{path_word(where)} <<'{end}'\n{content.rstrip()}\n{end}"


def end_of(content: str, end: str) -> str:
    """A line that ends a document, and is not in it."""
    while end in content:
        end += "_"
    return end


def binary(where: str, content: bytes) -> str:
    """Lines for sh that write a file of any bytes; where: a word."""
    from binascii import b2a_base64

    text = b2a_base64(content, newline=False).decode()
    lines = "\n".join(text[at : at + 100] for at in range(0, len(text), 100))
    return f"base64 -d >{where} <<'END'\n{lines}\nEND"


class Reporter:
    """Who watches an execution: progress, live explanation, single-stepping, timing and crash tests are reporters.

    Called in the process that runs the step: for inside steps that is init, in its new namespaces.
    """

    def planned(self, plan: Plan) -> None:
        """These are the steps; none has been run."""

    def before(self, index: int, step: Step) -> bool | None:
        """True: leave this step out."""

    def after(self, index: int, step: Step) -> None: ...

    def failed(self, index: int, step: Step, error: BaseException) -> None: ...

    def done(self) -> None:
        """All steps have succeeded."""
